// The CSV kernel, compiled once for each instruction set.
//
//   chunk     a piece of text that stays in cache, beginning with a record
//   index     where its fields start, and which of them begin records (csv_index.inl.h)
//   filters   narrow the records, one field after the other
//   columns   are converted one at a time, for the records that are left
#include <type_traits>

#include "csv_index.inl.h"
#include "values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// What stands in a field: text, and whether it was quoted.
struct Cell {
    const std::uint8_t* p;
    std::size_t n;
    bool quoted;
    bool doubled;  // holds quotes written twice
};

// The rows of a chunk that are being read. Passed by value: what columns are written through may alias anything else.
struct Rows {
    const Text* nulls;
    std::size_t null_count;
    bool only_empty;  // is null
    int last_field;
    int quote;
    const std::uint8_t* data;  // of the chunk
    const std::uint8_t* end;   // of all bytes that may be read
    const std::uint32_t* starts;
    bool quotes;
    bool returns;
    bool ascii;

    Cell cell(std::uint32_t record, int field) const noexcept {
        const std::size_t k = static_cast<std::size_t>(record) + static_cast<std::size_t>(field);
        const std::uint8_t* p = data + starts[k];
        std::size_t n = starts[k + 1] - 1 - starts[k];
        if (returns && field == last_field && n > 0 && p[n - 1] == '\r') --n;
        if (!quotes || n == 0 || p[0] != quote) return {p, n, false, false};
        // The index has seen to it that the last byte is the closing quote.
        n -= 2;
        return {p + 1, n, true, n > 0 && std::memchr(p + 1, quote, n) != nullptr};
    }

    std::size_t room(const std::uint8_t* p) const noexcept { return static_cast<std::size_t>(end - p); }

    // Is the text one that means null? In quotes it doesn't.
    bool names_null(const Cell& cell) const noexcept {
        if (only_empty) return cell.n == 0;
        for (std::size_t i = 0; i < null_count; ++i) {
            const Text& text = nulls[i];
            if (text.size == cell.n && (cell.n == 0 || std::memcmp(text.data, cell.p, cell.n) == 0)) return true;
        }
        return false;
    }
};

constexpr std::int64_t kLow[] = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN};
constexpr std::int64_t kHigh[] = {INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX};
constexpr std::uint64_t kTop[] = {UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX};

// Whole numbers, dates, times and decimals, as 64 bits.
template <Kind kKind>
inline bool parse_whole(const Type& type, const Cell& c, std::size_t room, std::int64_t& out) noexcept {
    if constexpr (kKind >= Kind::kInt8 && kKind <= Kind::kInt64) {
        constexpr int size = static_cast<int>(kKind) - static_cast<int>(Kind::kInt8);
        return parse_int(c.p, c.n, room, kLow[size], kHigh[size], out);
    } else if constexpr (kKind >= Kind::kUInt8 && kKind <= Kind::kUInt64) {
        std::uint64_t value = 0;
        const bool sure = parse_uint(c.p, c.n, room, kTop[static_cast<int>(kKind) - static_cast<int>(Kind::kUInt8)], value);
        out = static_cast<std::int64_t>(value);  // at most 18 digits: no sign is lost
        return sure;
    } else if constexpr (kKind == Kind::kDate32) {
        std::int32_t days = 0;
        const bool sure = parse_date(c.p, c.n, days);
        out = days;
        return sure;
    } else if constexpr (kKind == Kind::kDecimal128) {
        return parse_decimal(c.p, c.n, room, type.digits, type.scale, out);
    } else if constexpr (kKind == Kind::kTime32 || kKind == Kind::kTime64) {
        return parse_time(c.p, c.n, type.digits, out);
    } else {
        static_assert(kKind == Kind::kTimestamp);
        return parse_timestamp(c.p, c.n, type.digits, type.zoned, out);
    }
}

// Calls visit with the kind as a constant.
template <class Visit>
inline auto with_kind(Kind kind, Visit&& visit) noexcept {
#define MMFLOW_CASE(k) case Kind::k: return visit(std::integral_constant<Kind, Kind::k>{});
    switch (kind) {
        MMFLOW_CASE(kBool)
        MMFLOW_CASE(kInt8) MMFLOW_CASE(kInt16) MMFLOW_CASE(kInt32) MMFLOW_CASE(kInt64)
        MMFLOW_CASE(kUInt8) MMFLOW_CASE(kUInt16) MMFLOW_CASE(kUInt32) MMFLOW_CASE(kUInt64)
        MMFLOW_CASE(kFloat32) MMFLOW_CASE(kFloat64) MMFLOW_CASE(kDecimal128)
        MMFLOW_CASE(kDate32) MMFLOW_CASE(kTime32) MMFLOW_CASE(kTime64) MMFLOW_CASE(kTimestamp)
        default: return visit(std::integral_constant<Kind, Kind::kString>{});
    }
#undef MMFLOW_CASE
}

// Text with its doubled quotes undone, into the side buffer.
inline bool write_undoubled(Column& column, const Cell& c, int quote, std::uint8_t* out) noexcept {
    const std::size_t begin = column.side_size;
    if (!column.side.reserve(begin + c.n) || begin + c.n > INT32_MAX) return false;
    std::uint8_t* to = column.side.data + begin;
    std::size_t n = 0;
    for (std::size_t i = 0; i < c.n; ++i) {
        to[n++] = c.p[i];
        if (c.p[i] == quote) ++i;
    }
    column.side_size += n;
    write_view(out, to, n, n, 1, static_cast<std::uint32_t>(begin));
    return true;
}

template <Kind kKind>
constexpr std::size_t kWidth = Type{kKind}.width();

// Where a pass over records came to an end.
struct Pass {
    std::size_t done;  // records
    Status status = Status::kDone;
};

// Converts a field of `count` records into rows from `row` on.
template <Kind kKind>
inline Pass convert(const Rows rows, const std::uint32_t* records, std::size_t count, int field, Column& column,
                    std::size_t row, const std::uint8_t* base) noexcept {
    const std::size_t width = kWidth<kKind>;
    const std::size_t limit = row + count;
    std::uint8_t* out = column.values.data + row * width;
    for (std::size_t i = 0; i < count; ++i, ++row, out += width) {
        const Cell c = rows.cell(records[i], field);
        const std::size_t room = rows.room(c.p);
        bool sure = true;
        if (rows.names_null(c)) {
            if (!c.quoted) {
                if (!column.set_null(row, limit)) return {i, Status::kNoMemory};
                continue;
            }
            sure = kKind == Kind::kString;
        }
        column.set_valid(row);
        if constexpr (kKind == Kind::kString) {
            if (!rows.ascii && !is_utf8(c.p, c.n)) return {i, Status::kIrregular};
            if (c.doubled) [[unlikely]] {
                if (!write_undoubled(column, c, rows.quote, out)) return {i, Status::kNoMemory};
            } else {
                write_view(out, c.p, c.n, room, 0, static_cast<std::uint32_t>(c.p - base));
            }
        } else if constexpr (kKind == Kind::kBool) {
            bool value = false;
            sure = sure && parse_bool(c.p, c.n, value);
            column.set_bit(row, value);
        } else if constexpr (kKind == Kind::kFloat64) {
            double value = 0;
            sure = sure && parse_double(c.p, c.n, room, value);
            std::memcpy(out, &value, 8);
        } else if constexpr (kKind == Kind::kFloat32) {
            float value = 0;
            sure = sure && parse_float(c.p, c.n, value);
            std::memcpy(out, &value, 4);
        } else {
            std::int64_t value = 0;
            sure = sure && parse_whole<kKind>(column.type, c, room, value);
            if constexpr (kKind == Kind::kDecimal128) {
                const std::int64_t sign = value >> 63;
                std::memcpy(out, &value, 8);
                std::memcpy(out + 8, &sign, 8);
            } else {
                std::memcpy(out, &value, width);  // little endian: the low bytes are the value
            }
        }
        if (!sure || (kKind != Kind::kString && c.doubled)) [[unlikely]] return {i, Status::kIrregular};
    }
    return {count};
}

inline bool one_of(const CsvFilter& filter, const Cell& c) noexcept {
    for (std::size_t i = 0; i < filter.text_count; ++i) {
        const Text& text = filter.texts[i];
        if (text.size == c.n && std::memcmp(text.data, c.p, c.n) == 0) return true;
    }
    return false;
}

// Leaves in `records` those of `count` that may meet the filter; `kept` says how many.
template <Kind kKind>
inline Pass narrow(const Rows rows, const CsvFilter& filter, std::uint32_t* records, std::size_t count,
                   std::size_t& kept) noexcept {
    std::size_t n = 0;
    Pass pass{count};
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t record = records[i];
        const Cell c = rows.cell(record, filter.field);
        bool keep = true, sure = true;
        if (rows.names_null(c) && !(c.quoted && kKind == Kind::kString)) {
            keep = false;
            sure = !c.quoted;
        } else if constexpr (kKind == Kind::kString) {
            if (!rows.ascii && !is_utf8(c.p, c.n)) {
                sure = false;
            } else if (filter.test == CsvFilter::Test::kText && !c.doubled) {
                keep = one_of(filter, c);
            }
        } else if constexpr (kKind == Kind::kFloat64) {
            double value = 0;
            sure = parse_double(c.p, c.n, rows.room(c.p), value);
            keep = filter.test == CsvFilter::Test::kNotNull || (value >= filter.real_low && value <= filter.real_high);
        } else if constexpr (kKind == Kind::kFloat32 || kKind == Kind::kBool) {
            sure = false;  // not pushed
        } else {
            std::int64_t value = 0;
            sure = parse_whole<kKind>(filter.type, c, rows.room(c.p), value);
            keep = filter.test == CsvFilter::Test::kNotNull || (value >= filter.low && value <= filter.high);
        }
        if (!sure) [[unlikely]] {
            pass = {i, Status::kIrregular};
            break;
        }
        records[n] = record;
        n += keep;
    }
    kept = n;
    return pass;
}

inline CsvResult csv_decode(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                            bool final, CsvScratch& scratch, Column* columns, Bytes& offsets) noexcept {
    CsvResult result;
    const std::size_t limit = stop < size ? stop : size;
    std::size_t at = 0, chunk = kChunk;
    while (at < limit && result.status == Status::kDone) {
        const std::size_t length = size - at < chunk ? size - at : chunk;
        // Every byte may end a field; write_starts goes some way beyond.
        if (!scratch.starts.reserve((length + 32) * 4) || !scratch.records.reserve((length + 2) * 4) ||
            (spec.filter_count && !scratch.selected.reserve((length + 2) * 4))) {
            result.status = Status::kNoMemory;
            break;
        }
        auto* starts = reinterpret_cast<std::uint32_t*>(scratch.starts.data);
        auto* records = reinterpret_cast<std::uint32_t*>(scratch.records.data);
        const std::uint8_t* text = data + at;
        Index index = spec.quote >= 0 ? index_chunk<true>(spec, text, length, starts)
                                      : index_chunk<false>(spec, text, length, starts);
        if (final && at + length == size && index.irregular == kNone && (index.inside || text[length - 1] != '\n')) {
            // The last record has no terminator: it ends where the file does.
            if (index.inside || text[length - 1] == '\r') {
                index.irregular = length;
            } else {
                starts[index.fields++] = static_cast<std::uint32_t>(length + 1);
                ++index.newlines;
            }
        }
        if (index.newlines == 0 && index.irregular == kNone) {
            if (text[0] == 0) result.status = Status::kIrregular;  // a hole, perhaps
            if (at + length == size || text[0] == 0) break;  // the record goes on behind the data
            chunk *= 2;
            continue;
        }
        const Found found = find_records(spec, text, length, index, starts, limit - at, records);
        if (found.odd || (index.irregular != kNone && starts[found.next] < limit - at)) result.status = Status::kIrregular;
        std::size_t next = found.next, count = found.count;

        const bool only_empty = spec.null_count == 1 && spec.nulls[0].size == 0;
        const Rows rows{spec.nulls, spec.null_count, only_empty, spec.fields - 1, spec.quote, text, data + size, starts, index.quotes, index.returns, index.ascii};
        const std::uint32_t* chosen = records;
        std::size_t chosen_count = count;
        if (spec.filter_count) {
            auto* selected = reinterpret_cast<std::uint32_t*>(scratch.selected.data);
            std::memcpy(selected, records, count * 4);
            for (std::size_t f = 0; f < spec.filter_count; ++f) {
                const CsvFilter& filter = spec.filters[f];
                std::size_t kept = 0;
                std::uint32_t odd = 0;
                const Pass pass = with_kind(filter.type.kind, [&](auto kind) noexcept {
                    const std::size_t had = chosen_count;
                    std::size_t k = 0;
                    Pass p = narrow<decltype(kind)::value>(rows, filter, selected, had, k);
                    kept = k;
                    return p;
                });
                if (pass.status != Status::kDone) {
                    // `selected` was compacted up to the odd record only, which itself still stands where it did.
                    odd = selected[pass.done];
                    next = odd;
                    result.status = pass.status;
                }
                chosen_count = kept;
            }
            chosen = selected;
        }
        for (std::size_t t = 0; t < spec.target_count; ++t) {
            Column& column = columns[t];
            if (!column.reserve(result.rows + chosen_count)) {
                result.status = Status::kNoMemory;
                return result;
            }
            const Pass pass = with_kind(column.type.kind, [&](auto kind) noexcept {
                return convert<decltype(kind)::value>(rows, chosen, chosen_count, spec.targets[t].field, column,
                                                      result.rows, data);
            });
            if (pass.status != Status::kDone) {
                next = chosen[pass.done];
                chosen_count = pass.done;
                result.status = pass.status;
            }
        }
        if (next != found.next) {
            // Cut short by a value: the records before it.
            std::size_t low = 0, high = count;
            while (low < high) {
                const std::size_t middle = (low + high) / 2;
                if (records[middle] < next) low = middle + 1; else high = middle;
            }
            count = low;
        }
        if (spec.located) {
            if (!offsets.reserve((result.rows + chosen_count) * 8)) {
                result.status = Status::kNoMemory;
                return result;
            }
            auto* out = reinterpret_cast<std::int64_t*>(offsets.data) + result.rows;
            for (std::size_t i = 0; i < chosen_count; ++i) out[i] = static_cast<std::int64_t>(at + starts[chosen[i]]);
        }
        if (result.first < 0 && count) result.first = static_cast<std::int64_t>(at + starts[records[0]]);
        std::size_t used = starts[next];
        if (used > length) used = length;  // the terminator that the file does without
        if (used == 0 && result.status == Status::kDone) {
            // Nothing began before the stop: only possible where the index ended early.
            break;
        }
        const bool counted = !index.inner_newlines && next == found.next && starts[next] <= length;
        result.lines += counted ? found.lines : count_newlines(text, used);
        result.records += count;
        result.rows += chosen_count;
        result.consumed = at += used;
        chunk = kChunk;
    }
    return result;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
