// Groups of short texts that were seen before, by their bytes as they lie in a file: a hash table for decoders
// (csv/known.h), which so need no views of texts.
//
// A text is three words of 64 bits: its first 16 bytes, padded with zeros, and of longer ones the last 8.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "aggregate/text_slots.h"
#include "common/inline.h"

namespace mmflow {

// The table as decoders read it. Inlined, since they are compiled for several instruction sets.
struct KnownTable {
    static constexpr std::size_t kLongest = 24;  // bytes
    static constexpr std::uint32_t kUnknown = ~std::uint32_t{0};

    struct alignas(32) Text {  // within a cache line
        std::uint64_t words[3];
        std::uint32_t size;
        std::uint32_t group;
    };

    const std::uint16_t* slots;  // numbers of texts, from 1 on; 0: free
    const Text* texts;
    unsigned bits;  // of the number of a slot

    // Returns the group of a text; kUnknown where it has none. 16 bytes from `p` on may be read.
    MMFLOW_INLINE std::uint32_t find(const std::uint8_t* p, std::size_t size) const noexcept {
        if (size - 1 < 16) [[likely]] return look_up<false>(text_at<false>(p, size));
        if (size - 1 < kLongest) return look_up<true>(text_at<true>(p, size));
        return kUnknown;  // an empty field may be null
    }

    // kLong: of more than 16 bytes.
    template <bool kLong>
    MMFLOW_INLINE static Text text_at(const std::uint8_t* p, std::size_t size) noexcept {
        const auto length = static_cast<std::uint32_t>(size);
        if constexpr (kLong) return {{load(p), load(p + 8), load(p + size - 8)}, length, 0};
        const std::uint64_t* const mask = kMasks.words[size];
        return {{load(p) & mask[0], load(p + 8) & mask[1], 0}, length, 0};
    }

    template <bool kLong>
    MMFLOW_INLINE static std::size_t place(const Text& text, unsigned bits) noexcept {
        // The upper bits of a product depend on all bits; its folding mixes those once more.
        std::uint64_t sum = text.words[0] + text.words[1] * 0x9e3779b97f4a7c15ull;
        if constexpr (kLong) sum += text.words[2] * 0xe7037ed1a0b428daull;
        return ((sum ^ sum >> 32) * 0xd1342543de82ef95ull) >> (64 - bits);
    }

   private:
    template <bool kLong>
    MMFLOW_INLINE std::uint32_t look_up(const Text& text) const noexcept {
        for (std::size_t at = place<kLong>(text, bits);; at = (at + 1) & ((std::size_t{1} << bits) - 1)) {
            const std::size_t number = slots[at];
            if (number == 0) [[unlikely]] return kUnknown;
            const Text& known = texts[number - 1];
            std::uint64_t differs = (known.words[0] ^ text.words[0]) | (known.words[1] ^ text.words[1]) |
                                    (known.size ^ text.size);
            if constexpr (kLong) differs |= known.words[2] ^ text.words[2];
            if (differs == 0) [[likely]] return known.group;
        }
    }

    // Bits of the first two words that are text, by its length.
    struct Masks {
        std::uint64_t words[17][2];
    };
    static constexpr Masks kMasks = [] {
        Masks made{};
        for (std::size_t size = 0; size < 17; ++size) {
            for (std::size_t i = 0; i < size; ++i) made.words[size][i / 8] |= 0xffull << (8 * (i % 8));
        }
        return made;
    }();

    MMFLOW_INLINE static std::uint64_t load(const std::uint8_t* p) noexcept {
        std::uint64_t word;
        std::memcpy(&word, p, 8);
        return word;
    }
};

class KnownTexts {
   public:
    // Notes the group of a text; false: it is too long, or there are too many.
    bool note(std::string_view text, std::uint32_t group);

    // Valid until the next `note`.
    KnownTable table() const noexcept { return {table_.slots.data(), table_.texts.data(), table_.bits}; }

    std::size_t bytes() const noexcept { return table_.bytes(); }

   private:
    TextSlots<KnownTable::Text> table_;
};

}  // namespace mmflow
