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

struct JsonShape {
    static constexpr std::size_t kParts = 96, kValues = 48, kSlots = 48;

    // Up to 16 of the bytes between two values, `offset` behind `entry`, which counts from the record's first one.
    struct Part {
        std::uint64_t pattern[2], mask[2];
        std::uint32_t entry, offset;
    };
    Part parts[kParts];
    std::size_t part_count = 0;  // 0: there is no shape yet
    std::size_t reach = 0;       // bytes behind an entry that parts read
    std::uint32_t texts[kValues], others[kValues];  // entries of values, counted likewise
    std::size_t text_count = 0, other_count = 0;
    std::uint32_t entries = 0;   // of the record, its line end included
    std::uint32_t places[kSlots];  // of the values of slots, counted likewise; 0: none

    // Captures the shape of the record that was walked from entry `first` to its line end.
    void capture(const JsonChunk& chunk, std::size_t first, std::size_t end, const std::uint32_t* slots,
               std::size_t slot_count) noexcept {
        part_count = text_count = other_count = reach = 0;
        if (slot_count > kSlots) return;
        std::size_t count = 0, begin = first;
        for (std::size_t e = first; e <= end; ++e) {
            const std::uint8_t c = chunk.at(e);
            const bool mark = c == '{' || c == '}' || c == '[' || c == ']' || c == ':' || c == ',' || c == '\n';
            if ((mark || chunk.at(e + 1) == ':') && e != end) continue;
            // A value, or the line end.
            const std::uint8_t* from = chunk.text + chunk.entries[begin];
            const std::size_t size = chunk.entries[e] + (e == end) - chunk.entries[begin];
            for (std::size_t offset = 0; offset < size; offset += 16) {
                if (count == kParts) return;
                Part& part = parts[count++];
                part = {{}, {}, static_cast<std::uint32_t>(begin - first), static_cast<std::uint32_t>(offset)};
                const std::size_t n = size - offset < 16 ? size - offset : 16;
                std::memcpy(part.pattern, from + offset, n);
                std::memset(part.mask, 0xff, n);
                if (offset + 16 > reach) reach = offset + 16;
            }
            if (e == end) break;
            std::size_t& values = c == '"' ? text_count : other_count;
            if (values == kValues) return;
            (c == '"' ? texts : others)[values++] = static_cast<std::uint32_t>(e - first);
            begin = e + 1;
        }
        for (std::size_t s = 0; s < slot_count; ++s) {
            places[s] = slots[s] ? slots[s] - static_cast<std::uint32_t>(first) : 0;
        }
        entries = static_cast<std::uint32_t>(end - first + 1);
        part_count = count;
    }

    // Whether the record at entry `first` has this shape; `count` entries exist, and bytes up to `limit`.
    MMFLOW_INLINE bool matches(const JsonChunk& chunk, std::size_t first, std::size_t count,
                               const std::uint8_t* limit) const noexcept {
        if (part_count == 0 || count - first < entries) return false;
        const std::uint32_t* at = chunk.entries + first;
        // Entries ascend, so that no part begins behind the last one.
        if (static_cast<std::size_t>(limit - chunk.text) - at[entries - 1] < reach) return false;
        // All parts, without a branch for each.
        std::uint64_t differing = 0;
        for (std::size_t i = 0; i < part_count; ++i) {
            const Part& part = parts[i];
            const std::uint8_t* p = chunk.text + at[part.entry] + part.offset;
            differing |= ((load_word(p) ^ part.pattern[0]) & part.mask[0]) | ((load_word(p + 8) ^ part.pattern[1]) & part.mask[1]);
        }
        if (differing != 0) return false;
        unsigned unquoted = 0;
        for (std::size_t i = 0; i < text_count; ++i) unquoted |= chunk.text[at[texts[i]]] ^ '"';
        if (unquoted != 0 || chunk.escapes) {
            for (std::size_t i = 0; i < text_count; ++i) {
                if (!chunk.plain(first + texts[i])) return false;
            }
        }
        for (std::size_t i = 0; i < other_count; ++i) {
            if (!chunk.plain(first + others[i])) return false;
        }
        return true;
    }

    void place(std::size_t first, std::uint32_t* slots, std::size_t slot_count) const noexcept {
        for (std::size_t s = 0; s < slot_count; ++s) slots[s] = places[s] ? places[s] + static_cast<std::uint32_t>(first) : 0;
    }
};

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
