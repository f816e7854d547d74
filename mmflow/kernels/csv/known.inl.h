// The kernel of known.h, compiled once for each instruction set.
#pragma once
#include "csv/csv.inl.h"
#include "csv/known.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// Bytes that are read at once: with what becomes of them they fit the first level cache.
constexpr std::size_t kKnownChunk = 16 << 10;

// Writes the groups of records' texts; returns how many there are before the first whose text is not known.
inline std::size_t find_groups(const CsvRows& rows, const std::uint32_t* records, std::size_t count, int field,
                               const KnownTable& known, std::uint32_t* out) noexcept {
    const std::uint32_t place = rows.place(field);
    // Texts near the end of the memory are left.
    while (count > 0 && static_cast<std::size_t>(rows.end - rows.data) < rows.starts[records[count - 1] + place] + 16) --count;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t* const start = rows.starts + records[i] + place;
        out[i] = known.find(rows.data + start[0], start[1] - 1 - start[0]);
        if (out[i] == KnownTable::kUnknown) [[unlikely]] return i;
    }
    return count;
}

// Converts a field of records as `convert` does, but for nulls; returns how many there are before the first that is none, or that
// needs the fallback.
template <Kind kKind>
inline std::size_t convert_numbers(const CsvRows& rows, const std::uint32_t* records, std::size_t count, int field, const Type& type,
                                   std::uint8_t* out) noexcept {
    constexpr std::size_t width = kWidth<kKind>;
    const std::uint32_t place = rows.place(field);
    Batch batch;
    for (std::size_t begin = 0; begin < count; begin += kBatch) {
        const std::size_t n = count - begin < kBatch ? count - begin : kBatch;
        const bool ok = read_batch<kKind, false>(rows, records + begin, n, place, type, batch);
        for (std::size_t i = 0; i < n; ++i) std::memcpy(out + (begin + i) * width, &batch.value[i], width);
        if (ok) [[likely]] continue;
        for (std::size_t i = 0; i < n; ++i) {
            if (batch.ok[i]) continue;
            const Cell c = rows.cell(records[begin + i], place);
            if (rows.field_state<kKind>(c) != FieldState::kValue || !write_value<kKind, false>(type, c, out + (begin + i) * width))
                return begin + i;
        }
    }
    return count;
}

inline RecordsResult csv_known(const CsvSpec& spec, std::size_t key, const KnownTable& known, const std::uint8_t* data,
                               std::size_t size, std::size_t stop, bool final, CsvScratch& scratch, Column* columns) noexcept {
    const std::size_t limit = stop < size ? stop : size, length = size < kKnownChunk ? size : kKnownChunk;
    Layout layout;
    // write_positions writes up to 32 entries more.
    if (!plan_layout(spec, scratch.layout, layout) || !scratch.starts.reserve((length + 34) * 4) ||
        !scratch.records.reserve((length + 2) * 4)) {
        return {Status::kNoMemory};
    }
    auto* const starts = reinterpret_cast<std::uint32_t*>(scratch.starts.data);
    auto* const records = reinterpret_cast<std::uint32_t*>(scratch.records.data);
    const Index index = index_lines<true>(spec, layout, data, length, final && length == size, starts);
    if (!index.even || index.quotes || index.returns || index.fallback_at != kNone) return {Status::kNeedsFallback};
    const RecordStarts found = list_even_records(data, index, layout.width, starts, limit, records);
    if (found.needs_fallback || found.count == 0) return {Status::kNeedsFallback};
    const CsvRows rows{spec.nulls, spec.null_count, true, spec.quoted_null, layout.place[spec.fields - 1], spec.quote, data,
                       data + size, starts, layout.place, false, false, false, index.ascii};
    std::size_t count = found.count;
    for (std::size_t i = 0; i < spec.target_count; ++i) {
        const Target& target = spec.targets[i];
        if (!columns[i].reserve(count)) return {Status::kNoMemory};
        std::uint8_t* const out = columns[i].values.data;
        if (i == key) {
            count = find_groups(rows, records, count, target.field, known, reinterpret_cast<std::uint32_t*>(out));
            continue;
        }
        count = with_kind(target.type.kind, [&](auto kind) noexcept -> std::size_t {
            if constexpr (kBatched<decltype(kind)::value>)
                return convert_numbers<decltype(kind)::value>(rows, records, count, target.field, target.type, out);
            else return 0;
        });
    }
    const std::size_t next = starts[count * layout.width];
    const bool cut = next > length;  // the file's last record has no terminator
    return {count == found.count ? Status::kDone : Status::kNeedsFallback, cut ? length : next, count, count, count - cut};
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
