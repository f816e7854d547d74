// The shape of a record, by which the next ones are checked, compiled once for each instruction set.
//
// Records of a file mostly differ in their values alone. The bytes between the values of a record that was walked
// ({"time": and ,"host": and so on, up to the line end) are compared with those of the next. Where they are equal and
// every value is a scalar, that record is valid too, and its values are at the same entries.
#pragma once
#include "ndjson/grammar.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

MMFLOW_INLINE std::uint64_t load_word(const std::uint8_t* p) noexcept {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    return word;
}

// Whether n bytes are equal. `room`: bytes from a on that may be read.
MMFLOW_INLINE bool same_bytes(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, std::size_t room) noexcept {
    if (n > 16 || room < 16) return std::memcmp(a, b, n) == 0;
    if (n >= 8) return ((load_word(a) ^ load_word(b)) | (load_word(a + n - 8) ^ load_word(b + n - 8))) == 0;
    const std::uint64_t differing = load_word(a) ^ load_word(b);
    return (differing & low_bits(8 * n)) == 0;
}

struct JsonShape {
    static constexpr std::size_t kParts = 48, kSlots = 48;

    // Bytes between two values, from `entry` on, counted from the record's first entry.
    struct Part {
        const std::uint8_t* bytes;
        std::uint32_t size;
        std::uint32_t entry;
    };
    Part parts[kParts];
    std::size_t part_count = 0;  // 0: there is no shape yet
    std::uint32_t entries = 0;   // of the record, its line end included
    std::uint32_t places[kSlots];  // of the values of slots, counted likewise; 0: none

    // Captures the shape of the record that was walked from entry `first` to its line end.
    void capture(const JsonChunk& chunk, std::size_t first, std::size_t end, const std::uint32_t* slots,
               std::size_t slot_count) noexcept {
        part_count = 0;
        if (slot_count > kSlots) return;
        std::size_t count = 0, begin = first;
        for (std::size_t e = first; e <= end; ++e) {
            const std::uint8_t c = chunk.at(e);
            const bool mark = c == '{' || c == '}' || c == '[' || c == ']' || c == ':' || c == ',' || c == '\n';
            if ((mark || chunk.at(e + 1) == ':') && e != end) continue;
            // A value, or the line end.
            if (count == kParts) return;
            const std::uint32_t from = chunk.entries[begin];
            parts[count++] = {chunk.text + from, chunk.entries[e] + (e == end) - from,
                              static_cast<std::uint32_t>(begin - first)};
            begin = e + 1;
        }
        for (std::size_t s = 0; s < slot_count; ++s) {
            places[s] = slots[s] ? slots[s] - static_cast<std::uint32_t>(first) : 0;
        }
        entries = static_cast<std::uint32_t>(end - first + 1);
        part_count = count;
    }

    // Whether the record at entry `first` has this shape; `count` entries and `length` bytes exist.
    MMFLOW_INLINE bool matches(const JsonChunk& chunk, std::size_t first, std::size_t count,
                            std::size_t length) const noexcept {
        if (part_count == 0 || count - first < entries) return false;
        for (std::size_t i = 0; i < part_count; ++i) {
            const Part& part = parts[i];
            const std::size_t e = first + part.entry, at = chunk.entries[e];
            if (i > 0 && !chunk.plain(e - 1)) return false;
            if (length - at < part.size || !same_bytes(chunk.text + at, part.bytes, part.size, length - at)) return false;
        }
        return true;
    }

    void place(std::size_t first, std::uint32_t* slots, std::size_t slot_count) const noexcept {
        for (std::size_t s = 0; s < slot_count; ++s) slots[s] = places[s] ? places[s] + static_cast<std::uint32_t>(first) : 0;
    }
};

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
