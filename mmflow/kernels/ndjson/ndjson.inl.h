// The NDJSON kernel, compiled once for each instruction set.
//
//   chunk     a piece of text that stays in cache, beginning with a line
//   index     positions of everything that is not inside of text (ndjson/index.inl.h)
//   grammar   line by line: whether it is an object, and where the fields are that are read (ndjson/grammar.inl.h);
//             a record of the same shape as one before it is only compared (ndjson/shape.inl.h)
//   layout    while all records have one layout, these two steps are much shorter (ndjson/layout.inl.h)
//   filters   narrow the records, one field after the other (common/convert.inl.h)
//   columns   are converted one at a time, for the records that are left
#include "common/convert.inl.h"
#include "ndjson/ndjson.h"
#include "ndjson/layout.inl.h"
#include "ndjson/shape.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kFieldsOfStruct = 64;
constexpr std::size_t kMaxMismatches = 32;  // in a chunk
constexpr std::size_t kMostExtra = 64;      // unknown fields of a record

inline bool same_text(const Text& a, const Text& b) noexcept {
    return a.size == b.size && std::memcmp(a.data, b.data, a.size) == 0;
}

// What is common to all ways to find the values of records.
struct JsonCells {
    static constexpr bool kJson = true;

    template <Kind kKind>
    FieldState field_state(const Cell& c) const noexcept {
        constexpr bool text = kKind == Kind::kString || kKind == Kind::kDate32 || kKind == Kind::kTime32 ||
                              kKind == Kind::kTime64 || kKind == Kind::kTimestamp;
        if (c.quoted) {
            if (kKind == Kind::kString) return FieldState::kValue;
            return (text || kKind == Kind::kDecimal128) && !c.escaped ? FieldState::kValue : FieldState::kNeedsFallback;
        }
        if (c.n == 0 || *c.p == 'n') return FieldState::kNull;
        if (kKind == Kind::kBool) return *c.p == 't' || *c.p == 'f' ? FieldState::kValue : FieldState::kNeedsFallback;
        return text ? FieldState::kNeedsFallback : FieldState::kValue;
    }

    bool is_text(const Cell&) const noexcept { return true; }  // lines were checked as a whole

    Status write_text(Column& column, const Cell& c, std::uint8_t* out, const std::uint8_t* base) const noexcept {
        if (!c.escaped) [[likely]] {
            write_view(out, c.p, c.n, c.room, 0, static_cast<std::uint32_t>(c.p - base));
            return Status::kDone;
        }
        const std::size_t begin = column.side_size;
        if (!column.side.reserve(begin + c.n) || begin + c.n > INT32_MAX) return Status::kNoMemory;
        std::uint8_t* to = column.side.data + begin;
        std::size_t n = 0;
        if (!unescape(c.p, c.n, to, n)) return Status::kNeedsFallback;
        column.side_size += n;
        write_view(out, to, n, n, 1, static_cast<std::uint32_t>(begin));
        return Status::kDone;
    }
};

// The records of a chunk, by its index.
struct JsonRows : JsonCells {
    static constexpr bool kNested = true;

    JsonChunk chunk;
    const std::uint32_t* slots;
    std::size_t slot_count;
    const std::uint8_t* limit;  // behind all bytes that may be read
    const JsonSpec& spec;

    bool texts_are_bytes() const noexcept { return !chunk.escapes; }

    std::size_t entry(std::uint32_t record, int slot) const noexcept {
        return slots[static_cast<std::size_t>(record) * slot_count + static_cast<std::size_t>(slot)];
    }

    int place(int slot) const noexcept { return slot; }

    Cell cell(std::uint32_t record, int slot) const noexcept { return cell_at(entry(record, slot)); }

    // Returns the text of a value; no text: there is none.
    MMFLOW_INLINE Cell cell_at(std::size_t e) const noexcept {
        if (e == 0) return {nullptr, 0, 0, false, false};
        const std::uint8_t* p = chunk.text + chunk.entries[e];
        const auto room = static_cast<std::size_t>(limit - p);
        if (*p != '"') return {p, chunk.end(e) - chunk.entries[e], room, false, false};
        const Text inner = chunk.quoted(e);
        const bool escaped = chunk.escapes && std::memchr(inner.data, '\\', inner.size) != nullptr;
        return {inner.data, inner.size, room - 1, true, escaped};
    }

    Status append(Column& column, std::uint32_t record, int slot, const std::uint8_t* base) const noexcept {
        return append_value(column, entry(record, slot), base);
    }

    // Appends a row to a column, from the value at an entry (0: there is none).
    Status append_value(Column& column, std::size_t e, const std::uint8_t* base) const noexcept {
        const std::size_t row = column.length;
        if (!column.reserve(row + 2)) return Status::kNoMemory;
        const Type& type = column.type;
        if (type.json()) {
            ++column.length;
            return type.digits == 1 ? append_json(column, row, e, base) : append_extra(column, row, e);
        }
        if (type.nested()) {
            const bool null = e == 0 || chunk.at(e) == 'n';
            if (!null && chunk.at(e) != (type.kind == Kind::kStruct ? '{' : '[')) return Status::kNeedsFallback;
            if (!null) {
                column.set_valid(row);
            } else if (!column.set_null(row, row + 2)) {
                return Status::kNoMemory;
            }
            ++column.length;
            return type.kind == Kind::kStruct ? append_fields(column, null ? 0 : e, base)
                                              : append_items(column, row, null ? 0 : e, base);
        }
        const Cell c = cell_at(e);
        const Status status = with_kind(type.kind, [&](auto kind) noexcept {
            constexpr Kind k = decltype(kind)::value;
            const FieldState state = field_state<k>(c);
            if (state == FieldState::kNeedsFallback) return Status::kNeedsFallback;
            if (state == FieldState::kNull) return column.set_null(row, row + 1) ? Status::kDone : Status::kNoMemory;
            column.set_valid(row);
            return write_one<k, false>(*this, c, type, column, row, column.values.data + row * kWidth<k>, base);
        });
        ++column.length;
        return status;
    }

    // Makes room for n bytes of text beside the decoded bytes.
    bool reserve_side(Column& column, std::size_t n) const noexcept {
        return column.side_size + n <= INT32_MAX && column.side.reserve(column.side_size + n);
    }

    // Ends text of n bytes that was written beside the decoded bytes, as the value of a row.
    void end_side(Column& column, std::size_t row, std::size_t n) const noexcept {
        column.set_valid(row);
        write_view(column.values.data + row * 16, column.side.data + column.side_size, n, n, 1,
                   static_cast<std::uint32_t>(column.side_size));
        column.side_size += n;
    }

    // Appends the value at an entry as text of JSON, without white space around its parts.
    Status append_json(Column& column, std::size_t row, std::size_t e, const std::uint8_t* base) const noexcept {
        if (e == 0 || chunk.at(e) == 'n') return column.set_null(row, row + 1) ? Status::kDone : Status::kNoMemory;
        const std::size_t end = chunk.skip_value(e), total = chunk.tokens_size(e, end);
        const std::uint8_t* p = chunk.text + chunk.entries[e];
        if (chunk.end(end - 1) - chunk.entries[e] == total) {  // as it is
            column.set_valid(row);
            write_view(column.values.data + row * 16, p, total, static_cast<std::size_t>(limit - p), 0,
                       static_cast<std::uint32_t>(p - base));
            return Status::kDone;
        }
        if (!reserve_side(column, total)) return Status::kNoMemory;
        chunk.write_tokens(e, end, column.side.data + column.side_size);
        end_side(column, row, total);
        return Status::kDone;
    }

    // Appends the unknown fields of a record, from the key of the first one on, as an object.
    Status append_extra(Column& column, std::size_t row, std::size_t e) const noexcept {
        if (e == 0) return column.set_null(row, row + 1) ? Status::kDone : Status::kNoMemory;
        Text names[kMostExtra];
        std::size_t count = 0, n = 0;
        for (;;) {
            const Text name = chunk.quoted(e);
            const std::size_t end = chunk.skip_value(e + 2);
            bool unknown = true;
            for (std::size_t i = 0; unknown && i < spec.key_count; ++i) unknown = !same_text(spec.keys[i].name, name);
            if (unknown) {
                // Of a repeated key the last value counts, at the place of the first.
                for (std::size_t i = 0; i < count; ++i) {
                    if (same_text(names[i], name)) return Status::kNeedsFallback;
                }
                if (count == kMostExtra) return Status::kNeedsFallback;
                names[count++] = name;
                if (!reserve_side(column, n + 2 + chunk.tokens_size(e, end))) return Status::kNoMemory;
                std::uint8_t* to = column.side.data + column.side_size;
                to[n++] = count == 1 ? '{' : ',';
                n = static_cast<std::size_t>(chunk.write_tokens(e, end, to + n) - to);
            }
            if (chunk.at(end) != ',') break;
            e = end + 1;
        }
        column.side.data[column.side_size + n++] = '}';
        end_side(column, row, n);
        return Status::kDone;
    }

    Status append_fields(Column& column, std::size_t e, const std::uint8_t* base) const noexcept {
        const Type& type = column.type;
        std::size_t places[kFieldsOfStruct] = {};
        if (e != 0 && chunk.at(e + 1) != '}') {
            do {
                const Text name = chunk.quoted(e + 1);
                const std::size_t value = e + 3;
                bool stranger = true;
                for (std::size_t i = 0; i < type.child_count; ++i) {
                    const Text& known = type.names[i];
                    if (known.size == name.size && std::memcmp(known.data, name.data, name.size) == 0) {
                        places[i] = value;
                        stranger = false;
                    }
                }
                if (stranger && type.closed) return Status::kNeedsFallback;
                e = chunk.skip_value(value);
            } while (chunk.at(e) == ',');
        }
        for (std::size_t i = 0; i < type.child_count; ++i) {
            const Status status = append_value(column.children[i], places[i], base);
            if (status != Status::kDone) return status;
        }
        return Status::kDone;
    }

    Status append_items(Column& column, std::size_t row, std::size_t e, const std::uint8_t* base) const noexcept {
        Column& items = column.children[0];
        const auto put = [&](std::size_t at) noexcept {
            const auto offset = static_cast<std::int32_t>(items.length);
            std::memcpy(column.values.data + at * 4, &offset, 4);
        };
        put(row);
        if (e != 0 && chunk.at(e + 1) != ']') {
            do {
                const Status status = append_value(items, e + 1, base);
                if (status != Status::kDone) return status;
                e = chunk.skip_value(e + 1);
            } while (chunk.at(e) == ',');
        }
        put(row + 1);
        return Status::kDone;
    }
};

// The records of a chunk that have one layout, by its marks.
struct JsonAlikeRows : JsonCells {
    static constexpr bool kNested = false;

    const std::uint8_t* text;
    const std::uint8_t* limit;   // behind all bytes that may be read
    const std::uint32_t* marks;  // from the line end before the first record on
    const JsonLayout& layout;
    bool escapes;

    bool texts_are_bytes() const noexcept { return !escapes; }

    const JsonLayout::Value* place(int slot) const noexcept { return layout.slots[slot]; }

    // Returns the text of a value; no text: there is none.
    MMFLOW_INLINE Cell cell(std::uint32_t record, const JsonLayout::Value* value) const noexcept {
        if (value == nullptr) return {nullptr, 0, 0, false, false};
        const std::uint32_t* of = marks + static_cast<std::size_t>(record) * layout.marks;
        const std::uint8_t* p = value->begin.in(text, of);
        const auto n = static_cast<std::size_t>(value->end.in(text, of) - p);
        const bool escaped = escapes && value->quoted && std::memchr(p, '\\', n) != nullptr;
        return {p, n, static_cast<std::size_t>(limit - p), value->quoted, escaped};
    }
};

// Which slot a field's value goes to. Records mostly have the same fields in the same order: that of the record before
// is tried first.
struct JsonFields {
    static constexpr std::size_t kGuesses = 64;

    const JsonSpec& spec;
    JsonKey guesses[kGuesses] = {};
    std::size_t guess_count = 0;
    // Behind the key that was found last: records of more fields than guesses mostly have them in the order of the keys.
    std::size_t next_key = 0;

    // -1: not read; -2: needs the fallback; -3: unknown, kept.
    int slot_of(const Text& name, std::size_t number) noexcept {
        if (number < guess_count && same_text(guesses[number].name, name)) [[likely]] return guesses[number].slot;
        int slot = !spec.closed ? -1 : spec.extra < 0 ? -2 : -3;
        if (next_key < spec.key_count && same_text(spec.keys[next_key].name, name)) {
            slot = spec.keys[next_key++].slot;
        } else {
            for (std::size_t i = 0; i < spec.key_count; ++i) {
                if (same_text(spec.keys[i].name, name)) {
                    slot = spec.keys[i].slot;
                    next_key = i + 1;
                    break;
                }
            }
        }
        if (number < kGuesses && slot != -2) {
            if (number >= guess_count) {
                if (number > guess_count) return slot;
                ++guess_count;
            }
            guesses[number] = {name, slot};
        }
        return slot;
    }

    // Walks the line whose first entry is e; returns the entry of its line end, or 0 where it needs the fallback. `slots`
    // are zero.
    std::size_t record(const JsonChunk& chunk, std::size_t e, std::uint32_t* slots) noexcept {
        if (chunk.at(e) != '{') return 0;
        ++e;
        if (chunk.at(e) == '}') return chunk.at(e + 1) == '\n' ? e + 1 : 0;
        for (std::size_t number = 0;; ++number) {
            Text name;
            if (!chunk.key(e, name)) return 0;
            const int slot = slot_of(name, number);
            if (slot == -2) return 0;
            e += 2;
            if (slot >= 0) {
                slots[slot] = static_cast<std::uint32_t>(e);
            } else if (slot == -3 && slots[spec.extra] == 0) {
                slots[spec.extra] = static_cast<std::uint32_t>(e - 2);
            }
            const std::uint8_t c = chunk.at(e);
            if (c == '{' || c == '[') {
                e = chunk.walk(e);
                if (e == 0) return 0;
            } else {
                if (!chunk.plain(e)) return 0;
                ++e;
            }
            const std::uint8_t next = chunk.at(e);
            if (next == '}') return chunk.at(e + 1) == '\n' ? e + 1 : 0;
            if (next != ',') return 0;
            ++e;
        }
    }
};

// Whether all columns are of values without parts, which every way to read a chunk knows.
inline bool is_flat(const JsonSpec& spec) noexcept {
    for (std::size_t i = 0; i < spec.target_count; ++i) {
        if (spec.targets[i].type.nested() || spec.targets[i].type.json()) return false;
    }
    return true;
}

// When chunks are read by a layout. Where they keep having records of others, learning it would only cost time.
struct JsonTrust {
    static constexpr std::size_t kLongestPause = 32;

    JsonLayout layout;
    std::size_t pause = 0, next_pause = 1;  // in chunks

    void judge(bool all_alike) noexcept {
        if (all_alike) {
            next_pause = 1;
            return;
        }
        pause = next_pause;
        if (next_pause < kLongestPause) next_pause *= 2;
    }
};

inline RecordsResult json_decode(const JsonSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                                 bool final, JsonScratch& scratch, Column* columns, Bytes& offsets) noexcept {
    // The first chunk is short: it teaches the layout.
    constexpr std::size_t first_chunk = 1 << 10;
    RecordsResult result;
    const std::size_t limit = stop < size ? stop : size;
    const auto slot_count = static_cast<std::size_t>(spec.slots);
    const bool flat = is_flat(spec);
    JsonTrust trust;
    std::size_t at = 0, chunk_size = first_chunk;
    while (at < limit && result.status == Status::kDone &&
           !is_full(spec.most_bytes, columns, spec.target_count, result.rows, at)) {
        const std::size_t length = size - at < chunk_size ? size - at : chunk_size;
        if (!scratch.entries.reserve((length + 33) * 4)) return {Status::kNoMemory};
        auto* entries = reinterpret_cast<std::uint32_t*>(scratch.entries.data);
        const std::uint8_t* text = data + at;
        std::uint32_t *records = nullptr, *begins = nullptr;
        const auto reserve = [&](std::size_t lines) noexcept {
            if (!scratch.begins.reserve(lines * 4) || !scratch.records.reserve(lines * 4) ||
                (spec.filter_count && !scratch.selected.reserve(lines * 4))) {
                return false;
            }
            begins = reinterpret_cast<std::uint32_t*>(scratch.begins.data);
            records = reinterpret_cast<std::uint32_t*>(scratch.records.data);
            return true;
        };
        // Adds the rows of `count` records, `seen` lines up to `begin`.
        const auto add_rows = [&](const auto& rows, std::size_t count, std::size_t seen, std::uint32_t begin) noexcept {
            Selection selected{records, count};
            filter_records(rows, spec.filters, spec.filter_count, selected,
                           reinterpret_cast<std::uint32_t*>(scratch.selected.data));
            convert_columns(rows, spec.targets, spec.target_count, columns, result.rows,
                            expected_rows(spec.most_bytes, spec.targets, spec.target_count, selected.count, length, size), data, selected);
            if (selected.status == Status::kNoMemory) return false;
            if (selected.status != Status::kDone) {
                result.status = selected.status;
                count = selected.first_unread;
                begin = begins[count];
                seen = count_newlines(text, begin);
            }
            if (spec.located && !write_offsets(offsets, result.rows, selected, begins, at)) return false;
            result.lines += seen;
            result.records += count;
            result.rows += selected.count;
            result.consumed = at += begin;
            return true;
        };

        if (trust.pause == 0 && trust.layout.marks != 0 && at > trust.layout.before) {
            const JsonLayout& layout = trust.layout;
            entries[0] = ~0u;  // the line end before the first record
            const JsonMarks marks = index_marks(text, length, entries + 1);
            std::size_t count = marks.count / layout.marks;
            if (marks.newlines < count) count = marks.newlines;
            while (count > 0 && entries[(count - 1) * layout.marks] + 1 >= limit - at) --count;
            const std::size_t wanted = count;
            count = marks.control ? 0 : layout.count_alike(text, data + size, entries, count, marks.escapes);
            const std::uint32_t end = entries[count * layout.marks] + 1;
            if (!marks.ascii && !is_utf8(text, end)) count = 0;
            trust.judge(count == wanted && !marks.control);
            if (count > 0) {
                if (!reserve(count)) return {Status::kNoMemory};
                for (std::size_t i = 0; i < count; ++i) {
                    records[i] = static_cast<std::uint32_t>(i);
                    begins[i] = entries[i * layout.marks] + 1;
                }
                if (!add_rows(JsonAlikeRows{{}, text, data + size, entries, layout, marks.escapes}, count, count, end)) {
                    return {Status::kNoMemory};
                }
                continue;
            }
        }
        if (trust.pause > 0) --trust.pause;

        const JsonIndex index = index_json(text, length, entries);
        const std::size_t lines = index.newlines;
        if (!reserve(lines) || !scratch.slots.reserve(lines * slot_count * 4)) return {Status::kNoMemory};
        auto* slots = reinterpret_cast<std::uint32_t*>(scratch.slots.data);
        if (lines && slot_count) std::memset(slots, 0, lines * slot_count * 4);

        // Line by line, while they are complete and need no fallback.
        const JsonChunk chunk{text, length, entries, index.escapes};
        JsonFields fields{spec};
        JsonShape shape;
        std::size_t mismatches = 0;  // records of another shape than the one before
        std::size_t count = 0, seen = 0, e = 0;
        std::size_t last = 0, last_end = 0;  // entries of the last record
        std::uint32_t begin = 0;  // of the line
        bool needs_fallback = false;
        while (seen < lines && begin < limit - at) {
            std::size_t end = e;
            if (text[begin] == 0) {
                needs_fallback = true;
            } else if (chunk.at(e) != '\n') {
                std::uint32_t* places = slots + count * slot_count;
                if (shape.matches(chunk, e, index.entries, data + size)) [[likely]] {
                    shape.place(e, places, slot_count);
                    end = e + shape.entries - 1;
                } else {
                    end = fields.record(chunk, e, places);
                    // Where shapes keep differing, capturing them would only cost time.
                    if (end != 0 && ++mismatches < kMaxMismatches) shape.capture(chunk, e, end, places, slot_count);
                }
                needs_fallback = end == 0 || !(index.ascii || is_utf8(text + begin, entries[end] - begin));
                if (!needs_fallback) {
                    begins[count] = begin;
                    records[count] = static_cast<std::uint32_t>(count);
                    last = e;
                    last_end = end;
                    ++count;
                }
            }
            if (needs_fallback) break;
            begin = entries[end] + 1;
            e = end + 1;
            ++seen;
        }
        // The rest needs the fallback, or is a line that continues behind the chunk.
        const bool ended = seen == lines && begin < limit - at && begin < length;
        if (ended && (index.fallback_at != ~std::size_t{0} || text[begin] == 0 || (final && at + length == size))) needs_fallback = true;
        if (ended && !needs_fallback && begin == 0) {
            if (at + length == size) break;
            chunk_size *= 2;
            continue;
        }
        if (needs_fallback) result.status = Status::kNeedsFallback;
        if (flat && trust.pause == 0 && count > 0) {
            trust.layout.learn(chunk, begins[count - 1], last, last_end, slots + (count - 1) * slot_count, slot_count);
        }
        if (!add_rows(JsonRows{{}, chunk, slots, slot_count, data + size, spec}, count, seen, begin)) return {Status::kNoMemory};
        chunk_size = kChunk;
        if (begin == 0) break;
    }
    return result;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
