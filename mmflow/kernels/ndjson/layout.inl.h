// Records of one layout, compiled once for each instruction set: the same bytes between their values, and in each place
// text, or a value without quotes. Most files have one layout from begin to end, and then far less needs to be known
// than ndjson/index.inl.h finds.
//
// A pass lists only the marks: the quotes that no backslash escapes, and the line ends. A layout is learned from a
// record that was walked. It is literals, the bytes between two values, each of which lies at a fixed distance from one of the
// record's marks. Where all literals of a record are found there, every quote of it belongs to one of them, since the
// literals' quotes are successive marks. So literals and values tile the record, no text holds a quote, and what is
// left to check are escapes, characters, and the values without quotes.
#pragma once
#include "ndjson/grammar.inl.h"
#include "simd/parse_numbers.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

struct JsonMarks {
    std::size_t count = 0;     // positions written
    std::size_t newlines = 0;  // among them
    bool ascii = true;
    bool escapes = false;      // there are backslashes
    bool control = false;      // there are control characters beside line ends: all of this means nothing
};

inline JsonMarks index_marks(const std::uint8_t* text, std::size_t length, std::uint32_t* marks) noexcept {
    JsonMarks found;
    std::uint32_t* out = marks;
    Block seen{};  // the bits of all bytes
    std::uint64_t escape = 0, control = 0;
    std::size_t newlines = 0;
    bool escapes = false;
    for (std::size_t at = 0; at < length; at += 64) {
        read_ahead(text + at);
        const Block block = load_blank(text + at, length - at);
        const std::uint64_t newline = block.eq('\n');
        std::uint64_t quote = block.eq('"');
        // From the first one of a chunk on, not only in blocks with backslashes: that branch is predictable.
        escapes = escapes || block.has('\\');
        if (escapes) quote &= ~escaped_by(block.eq('\\'), escape);
        seen = seen | block;
        control = block.below(0x20) ^ newline;
        if (control != 0) [[unlikely]] break;
        newlines += static_cast<std::size_t>(__builtin_popcountll(newline));
        out = write_many_positions(out, quote | newline, static_cast<std::uint32_t>(at));
    }
    found.count = static_cast<std::size_t>(out - marks);
    found.newlines = newlines;
    found.ascii = seen.high() == 0;
    found.escapes = escapes;
    found.control = control != 0;
    return found;
}

// A place beside a mark, which is counted from the line end before its record.
struct JsonPlace {
    std::uint32_t mark = 0;
    std::int32_t offset = 0;

    MMFLOW_INLINE const std::uint8_t* in(const std::uint8_t* text, const std::uint32_t* marks) const noexcept {
        // The line end before the first record is at -1.
        return text + (static_cast<std::int32_t>(marks[mark]) + offset);
    }
};

struct JsonLayout {
    static constexpr std::size_t kParts = 96, kValues = 96, kSlots = 48;

    using Sixteen [[gnu::vector_size(16)]] = std::uint64_t;

    // Up to 16 bytes of a literal.
    struct Part {
        std::uint64_t pattern[2], mask[2];
        JsonPlace place;
    };
    struct Value {
        JsonPlace begin, end;  // without quotes
        bool quoted;
    };
    Part parts[kParts];
    Value values[kValues];
    const Value* slots[kSlots];   // null: no value
    std::size_t part_count = 0, value_count = 0;
    std::uint32_t marks = 0;      // of a record, its line end included; 0: there is no layout
    std::size_t before = 0, behind = 0;  // bytes beside a mark that parts read

    // Learns the layout of the record that was walked, from its line's begin and entry `first` up to its line end.
    void learn(const JsonChunk& chunk, std::size_t begin, std::size_t first, std::size_t end, const std::uint32_t* taken,
               std::size_t slot_count) noexcept {
        marks = 0;
        part_count = value_count = before = behind = 0;
        if (slot_count > kSlots) return;
        for (std::size_t s = 0; s < slot_count; ++s) slots[s] = nullptr;
        std::uint32_t mark = 0;                                 // the last one so far
        auto mark_at = static_cast<std::int64_t>(begin) - 1;    // where it is
        std::size_t from = begin;                               // begin of the literal
        JsonPlace from_place{0, 1};
        for (std::size_t e = first; e <= end; ++e) {
            const std::uint8_t c = chunk.at(e);
            const std::size_t at = chunk.entries[e];
            if (c == '"') {
                const std::size_t close = chunk.end(e) - 1;
                if (chunk.at(e + 1) == ':') {
                    mark += 2;
                } else {
                    if (!add_literal(chunk.text, from, at + 1, from_place) || value_count == kValues) return;
                    mark += 2;
                    add_value(e, {{mark - 1, 1}, {mark, 0}, true}, taken, slot_count);
                    from = close;
                    from_place = {mark, 0};
                }
                mark_at = static_cast<std::int64_t>(close);
            } else if (e == end) {
                if (!add_literal(chunk.text, from, at + 1, from_place)) return;
                ++mark;
            } else if (c != '{' && c != '}' && c != '[' && c != ']' && c != ':' && c != ',') {
                // Two such values without a mark between them have no place.
                if (from_place.mark > mark) return;
                if (!add_literal(chunk.text, from, at, from_place) || value_count == kValues) return;
                std::size_t next = e + 1;
                while (next != end && chunk.at(next) != '"') ++next;
                from = chunk.end(e);
                from_place = {mark + 1, static_cast<std::int32_t>(static_cast<std::int64_t>(from) - chunk.entries[next])};
                add_value(e, {{mark, static_cast<std::int32_t>(static_cast<std::int64_t>(at) - mark_at)}, from_place, false},
                          taken, slot_count);
            }
        }
        // A slot may hold an object, which this doesn't know.
        for (std::size_t s = 0; s < slot_count; ++s) {
            if (taken[s] != 0 && slots[s] == nullptr) return;
        }
        marks = mark;
    }

    // Returns how many of the `count` records of a chunk have this layout and are valid, from the first one on.
    // `found` are its marks behind the line end before it; bytes up to `limit` may be read.
    std::size_t count_alike(const std::uint8_t* text, const std::uint8_t* limit, const std::uint32_t* found, std::size_t count,
                            bool escapes) const noexcept {
        if (static_cast<std::size_t>(limit - text) < behind) return 0;
        while (count > 0 && found[count * marks] > static_cast<std::size_t>(limit - text) - behind) --count;
        std::size_t alike = 0;
        while (alike < count) {
            const std::size_t n = count - alike < kBatch ? count - alike : kBatch;
            const std::uint32_t* first = found + alike * marks;
            if (!have_literals(text, first, n) || !have_values(text, limit, first, n, escapes)) break;
            alike += n;
        }
        return alike;
    }

   private:
    // Adds the literal [from, to), which begins at a place.
    bool add_literal(const std::uint8_t* text, std::size_t from, std::size_t to, JsonPlace place) noexcept {
        for (std::size_t at = from; at < to; at += 16) {
            if (part_count == kParts) return false;
            const std::size_t n = to - at < 16 ? to - at : 16;
            const auto offset = place.offset + static_cast<std::int32_t>(at - from);
            Part& part = parts[part_count++];
            part = {{}, {}, {place.mark, offset}};
            std::memcpy(part.pattern, text + at, n);
            std::memset(part.mask, 0xff, n);
            if (-offset > static_cast<std::int32_t>(before)) before = static_cast<std::size_t>(-offset);
            if (offset + 16 > static_cast<std::int32_t>(behind)) behind = static_cast<std::size_t>(offset + 16);
        }
        return true;
    }

    void add_value(std::size_t e, const Value& value, const std::uint32_t* taken, std::size_t slot_count) noexcept {
        values[value_count] = value;
        for (std::size_t s = 0; s < slot_count; ++s) {
            if (taken[s] == e) slots[s] = &values[value_count];
        }
        ++value_count;
    }

    bool have_literals(const std::uint8_t* text, const std::uint32_t* first, std::size_t n) const noexcept {
        Sixteen differing{};
        for (std::size_t i = 0; i < part_count; ++i) {
            Sixteen pattern, mask;
            std::memcpy(&pattern, parts[i].pattern, 16);
            std::memcpy(&mask, parts[i].mask, 16);
            const JsonPlace place = parts[i].place;
            const std::uint32_t* of = first;
            for (std::size_t r = 0; r < n; ++r, of += marks) {
                Sixteen bytes;
                std::memcpy(&bytes, place.in(text, of), 16);
                differing |= (bytes ^ pattern) & mask;
            }
        }
        return (differing[0] | differing[1]) == 0;
    }

    bool have_values(const std::uint8_t* text, const std::uint8_t* limit, const std::uint32_t* first, std::size_t n,
                     bool escapes) const noexcept {
        for (std::size_t i = 0; i < value_count; ++i) {
            const Value& value = values[i];
            if (value.quoted && !escapes) continue;
            const std::uint32_t* of = first;
            if (value.quoted) {
                for (std::size_t r = 0; r < n; ++r, of += marks) {
                    const std::uint8_t* p = value.begin.in(text, of);
                    if (!escapes_valid(p, static_cast<std::size_t>(value.end.in(text, of) - p))) return false;
                }
            } else if (!are_scalars(value, text, limit, of, n)) {
                return false;
            }
        }
        return true;
    }

    bool are_scalars(const Value& value, const std::uint8_t* text, const std::uint8_t* limit, const std::uint32_t* first,
                     std::size_t n) const noexcept {
        alignas(64) std::uint64_t words[kBatch], sizes[kBatch];
        const std::uint32_t* of = first;
        for (std::size_t r = 0; r < n; ++r, of += marks) {
            const std::uint8_t* p = value.begin.in(text, of);
            words[r] = load8(p, static_cast<std::size_t>(limit - p));
            sizes[r] = static_cast<std::uint64_t>(value.end.in(text, of) - p);
        }
        // Digits with at most one point among them, as most numbers are.
        std::uint64_t plain = 1;
        for (std::size_t r = 0; r < n; ++r) {
            const std::uint64_t negative = (words[r] & 0xff) == '-';
            const std::uint64_t size = sizes[r] - negative;
            // Digits become their values, and move to the top, with zeros below.
            const std::uint64_t front = (words[r] >> (8 * negative)) ^ kZeros;
            const std::uint64_t digits = front << ((64 - 8 * size) & 63);
            const std::uint64_t others = ((digits + 0x7676767676767676ull) | digits) & 0x8080808080808080ull;
            const std::uint64_t point = others >> 7;  // its lowest bit; 0: there is none
            const std::uint64_t is_point = (digits & (point * 0xff)) == point * 0x1e;  // '.' ^ '0'
            const std::uint64_t lowest = 1ull << ((64 - 8 * size) & 63);
            plain &= (size - 1 < 8) & (sizes[r] <= 8) & ((point & (point - 1)) == 0) & is_point & ((point >> 56) == 0) & (point != lowest) &
                     (((front & 0xff) != 0) | (size == 1) | ((front & 0xff00) == 0x1e00));
        }
        if (plain) return true;
        of = first;
        for (std::size_t r = 0; r < n; ++r, of += marks) {
            const std::uint8_t* p = value.begin.in(text, of);
            if (static_cast<std::int64_t>(sizes[r]) < 1 || !is_json_scalar(p, sizes[r], static_cast<std::size_t>(limit - p))) return false;
        }
        return true;
    }
};

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
