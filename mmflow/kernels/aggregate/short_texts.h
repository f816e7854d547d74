// Groups of one key column of views, whose texts were seen before and are short: a hash table without a branch on where
// the bytes of a text lie, which is hard to predict.
//
// A text is three words of 64 bits. Up to 12 bytes lie in its view, which holds the length, too; longer ones, up to 24
// bytes, are covered by words that overlap.
#pragma once
#include <cstddef>
#include <cstdint>

#include "aggregate/arrays.h"
#include "aggregate/text_slots.h"

namespace mmflow {

class ShortTexts {
   public:
    // Writes the groups of rows; false: one is not known.
    bool find(const ArrayView& column, std::size_t rows, std::uint32_t* groups) const noexcept;

    // Notes the group of a text; false: it is too long, or there are too many.
    bool note(std::string_view text, std::uint32_t group);

    std::size_t bytes() const noexcept { return table_.bytes(); }

   private:
    static constexpr std::size_t kLongest = 24;  // bytes
    struct Text {
        std::uint64_t words[3];
        std::uint32_t size;
        std::uint32_t group;
    };

    static Text seen(const std::uint8_t* view, const std::uint8_t* const* data) noexcept;
    static std::size_t place(const Text& text, unsigned bits) noexcept;

    TextSlots<Text> table_;
};

}  // namespace mmflow
