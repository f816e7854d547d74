// The CSV kernel, compiled once for each instruction set.
//
//   chunk     a piece of text that stays in cache, beginning with a record
//   index     where its fields start, and which of them begin records (csv/index.inl.h)
//   filters   narrow the records, one field after the other
//   columns   are converted one at a time, for the records that are left (common/convert.inl.h)
#include "common/convert.inl.h"
#include "csv/index.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// The records of a chunk.
struct CsvRows {
    static constexpr bool kNested = false, kJson = false;

    const Text* nulls;
    std::size_t null_count;
    bool only_empty;  // only the empty text is null
    bool quoted_null;
    std::uint32_t last_place;
    int quote;
    const std::uint8_t* data;  // of the chunk
    const std::uint8_t* end;   // of all bytes that may be read
    const std::uint32_t* starts;
    const std::uint32_t* places;  // of fields among a record's starts
    bool quotes;
    bool doubled;  // some quotes are doubled
    bool returns;
    bool ascii;

    std::uint32_t place(int field) const noexcept { return places[field]; }

    MMFLOW_INLINE Cell cell(std::uint32_t record, std::uint32_t place) const noexcept {
        const std::size_t k = static_cast<std::size_t>(record) + place;
        const std::uint8_t* p = data + starts[k];
        std::size_t n = starts[k + 1] - 1 - starts[k];
        if (returns && place == last_place && n > 0 && p[n - 1] == '\r') --n;
        const auto room = static_cast<std::size_t>(end - p);
        if (!quotes || n == 0 || p[0] != quote) return {p, n, room, false, false};
        // The index has checked that the last byte is the closing quote.
        n -= 2;
        return {p + 1, n, room - 1, true, doubled && n > 0 && std::memchr(p + 1, quote, n) != nullptr};
    }

    // Whether the text stands for null.
    MMFLOW_INLINE bool names_null(const Cell& cell) const noexcept {
        if (only_empty) return cell.n == 0;
        for (std::size_t i = 0; i < null_count; ++i) {
            const Text& text = nulls[i];
            if (text.size == cell.n && (cell.n == 0 || std::memcmp(text.data, cell.p, cell.n) == 0)) return true;
        }
        return false;
    }

    void use_style(const Style& style) noexcept {
        if (!style.own_nulls) return;
        nulls = style.nulls;
        null_count = style.null_count;
        only_empty = is_only_empty(nulls, null_count);
    }

    static bool is_only_empty(const Text* texts, std::size_t count) noexcept { return count == 1 && texts[0].size == 0; }

    // Nothing in quotes is null unless `quoted_null`: as text it is a value, else it needs the fallback.
    template <Kind kKind>
    MMFLOW_INLINE FieldState field_state(const Cell& cell) const noexcept {
        if (names_null(cell)) {
            if (!cell.quoted || quoted_null) return FieldState::kNull;
            if (kKind != Kind::kString) return FieldState::kNeedsFallback;
        }
        return kKind != Kind::kString && cell.escaped ? FieldState::kNeedsFallback : FieldState::kValue;
    }

    bool texts_are_bytes() const noexcept { return ascii && !doubled; }

    bool is_text(const Cell& cell) const noexcept { return ascii || is_utf8(cell.p, cell.n); }

    MMFLOW_INLINE Status write_text(Column& column, const Cell& c, std::uint8_t* out, const std::uint8_t* base) const noexcept {
        if (!is_text(c)) return Status::kNeedsFallback;
        if (c.escaped) [[unlikely]] return write_undoubled(column, c, out) ? Status::kDone : Status::kNoMemory;
        write_view(out, c.p, c.n, c.room, 0, static_cast<std::uint32_t>(c.p - base));
        return Status::kDone;
    }

    // Whether fields that don't begin with a quote are values, but for empty ones, which are null; `room` bytes may be read from
    // where each of the records' fields begins. False, too, where the first one has a quote: most others will.
    MMFLOW_INLINE bool plain(const std::uint32_t* records, std::size_t count, std::uint32_t place, std::size_t room) const noexcept {
        return only_empty && !(returns && place == last_place) &&
               static_cast<std::size_t>(end - data) >= starts[records[count - 1] + place] + room &&
               data[starts[records[0] + place]] != quote;
    }

    // Loads fields as `read_batch` does, in a loop without a branch; false: they are not plain. kTail: also their tails.
    template <bool kTail>
    MMFLOW_INLINE bool load_plain(const std::uint32_t* records, std::size_t count, std::uint32_t place, Batch& batch) const noexcept {
        if (!plain(records, count, place, kTail ? 10 : 8)) return false;
        bool quoted = false;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t* const field = starts + records[i] + place;
            const std::uint8_t* const p = data + field[0];
            quoted |= p[0] == quote;
            batch.length[i] = field[1] - 1 - field[0];
            batch.word[i] = load8(p, 8);
            if constexpr (kTail) batch.tail[i] = p[8] | static_cast<std::uint64_t>(p[9]) << 8;
        }
        return !quoted;
    }

    // Writes views of records' texts, in a loop without a branch; false: they are not plain. `empty`: some are.
    MMFLOW_INLINE bool write_plain(const std::uint32_t* records, std::size_t count, std::uint32_t place, std::uint8_t* out,
                                   const std::uint8_t* base, bool& empty) const noexcept {
        if (!ascii || !plain(records, count, place, kViewRoom)) return false;
        const auto before = static_cast<std::uint32_t>(data - base);
        bool quoted = false, none = false;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t* const field = starts + records[i] + place;
            const std::uint8_t* const p = data + field[0];
            const std::uint32_t n = field[1] - 1 - field[0];
            quoted |= p[0] == quote;
            none |= n == 0;
            write_near_view(out + i * 16, p, n, before + field[0]);
        }
        empty = none;
        return !quoted;
    }

    // Writes text to the side buffer, with its doubled quotes made single.
    [[gnu::noinline]] bool write_undoubled(Column& column, const Cell& c, std::uint8_t* out) const noexcept {
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
};

// Indexes a chunk. The last record of a file may have no terminator: it ends where the file does.
template <bool kEven>
inline Index index_lines(const CsvSpec& spec, const Layout& layout, const std::uint8_t* text, std::size_t length,
                         bool ends, std::uint32_t* starts) noexcept {
    Index index = spec.quote >= 0 ? index_chunk<true, kEven>(spec, layout, text, length, starts)
                                  : index_chunk<false, kEven>(spec, layout, text, length, starts);
    if (!ends || index.fallback_at != kNone || (!index.inside && text[length - 1] == '\n')) return index;
    if (index.inside || text[length - 1] == '\r') {
        index.fallback_at = length;
    } else {
        index.even &= index.phase == 0;
        starts[index.fields++] = static_cast<std::uint32_t>(length + 1);
        ++index.newlines;
    }
    return index;
}

// Returns how many fields may end in a chunk. Any byte may end one; in the chunk of a long record, which has few of them,
// they are counted, since the memory for all would be eight times as large as the record.
inline std::size_t most_ends(const CsvSpec& spec, const std::uint8_t* text, std::size_t length) noexcept {
    if (length <= kChunk) return length;
    std::size_t count = 0, at = 0;
    for (; at + 64 <= length; at += 64) {
        const Block block = Block::load(text + at);
        count += static_cast<std::size_t>(__builtin_popcountll(block.eq(spec.delimiter) | block.eq('\n')));
    }
    for (; at < length; ++at) count += text[at] == spec.delimiter || text[at] == '\n';
    return count;
}

inline RecordsResult csv_decode(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                            bool final, CsvScratch& scratch, Column* columns, Bytes& offsets) noexcept {
    RecordsResult result;
    const std::size_t limit = stop < size ? stop : size;
    Layout layout;
    if (!plan_layout(spec, scratch.layout, layout)) return {Status::kNoMemory};
    std::size_t at = 0, chunk = kChunk;
    while (at < limit && result.status == Status::kDone &&
           !is_full(spec.most_bytes, columns, spec.target_count, result.rows, at)) {
        const std::size_t length = size - at < chunk ? size - at : chunk;
        const std::size_t most = most_ends(spec, data + at, length) + 2;
        // write_positions writes up to 32 entries more.
        if (!scratch.starts.reserve((most + 32) * 4) || !scratch.records.reserve(most * 4) ||
            (spec.filter_count && !scratch.selected.reserve(most * 4))) {
            result.status = Status::kNoMemory;
            break;
        }
        auto* starts = reinterpret_cast<std::uint32_t*>(scratch.starts.data);
        auto* records = reinterpret_cast<std::uint32_t*>(scratch.records.data);
        const std::uint8_t* text = data + at;
        const bool ends = final && at + length == size;
        Index index;
        RecordStarts found;
        if (layout.even) {
            index = index_lines<true>(spec, layout, text, length, ends, starts);
            if (index.even) found = list_even_records(text, index, layout.width, starts, limit - at, records);
            layout.even = index.even && !found.needs_fallback;
        }
        const std::uint32_t* places = layout.even ? layout.place : layout.identity;
        if (!layout.even) {
            index = index_lines<false>(spec, layout, text, length, ends, starts);
            found = find_records(spec, text, length, index, starts, limit - at, records);
        }
        if (index.newlines == 0 && index.fallback_at == kNone) {
            if (text[0] == 0) result.status = Status::kNeedsFallback;  // a hole, perhaps
            if (at + length == size || text[0] == 0) break;  // the record continues behind the data
            chunk *= 2;
            continue;
        }
        if (found.needs_fallback || (index.fallback_at != kNone && starts[found.next] < limit - at)) result.status = Status::kNeedsFallback;
        std::size_t next = found.next, count = found.count;

        const bool only_empty = CsvRows::is_only_empty(spec.nulls, spec.null_count);
        const CsvRows rows{spec.nulls, spec.null_count, only_empty, spec.quoted_null, places[spec.fields - 1], spec.quote,
                           text, data + size, starts, places, index.quotes, index.doubled, index.returns, index.ascii};
        Selection selected{records, count};
        filter_records(rows, spec.filters, spec.filter_count, selected,
                       reinterpret_cast<std::uint32_t*>(scratch.selected.data));
        convert_columns(rows, spec.targets, spec.target_count, columns, result.rows,
                        expected_rows(spec.most_bytes, spec.targets, spec.target_count, selected.count, length, size), data, selected);
        if (selected.status == Status::kNoMemory) {
            result.status = Status::kNoMemory;
            return result;
        }
        if (selected.status != Status::kDone) {
            next = selected.first_unread;
            result.status = selected.status;
        }
        if (next != found.next) {
            // A value needs the fallback: count the records before it.
            std::size_t low = 0, high = count;
            while (low < high) {
                const std::size_t middle = (low + high) / 2;
                if (records[middle] < next) low = middle + 1; else high = middle;
            }
            count = low;
        }
        if (spec.located && !write_offsets(offsets, result.rows, selected, starts, at)) return {Status::kNoMemory};
        std::size_t used = starts[next];
        if (used > length) used = length;  // the file's last record has no terminator
        if (used == 0 && result.status == Status::kDone) {
            // Nothing began before the stop: only possible where the index ended early.
            break;
        }
        const bool counted = !index.inner_newlines && next == found.next && starts[next] <= length;
        result.lines += counted ? found.lines : count_newlines(text, used);
        result.records += count;
        result.rows += selected.count;
        result.consumed = at += used;
        chunk = kChunk;
    }
    return result;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
