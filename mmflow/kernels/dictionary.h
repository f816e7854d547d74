// A growing dictionary of text, for values that repeat: views in, codes out, the same codes over many calls.
#pragma once
#include "common/column.h"
#include "hashing.h"

namespace mmflow {

class TextDictionary {
   public:
    // Limits: number of values, and bytes of all of them together.
    TextDictionary(std::size_t most_values, std::size_t most_bytes) noexcept
        : most_values_(most_values), most_bytes_(most_bytes) {}
    TextDictionary(const TextDictionary&) = delete;
    TextDictionary& operator=(const TextDictionary&) = delete;
    ~TextDictionary();

    // Writes the codes of `count` views (16 bytes each, padded with zeros, over `buffers`); 0 for nulls. Returns the number
    // of rows: fewer than `count` where it gives up, and then it is useless from there on.
    std::size_t encode(const std::uint8_t* views, const std::uint8_t* const* buffers, Validity validity,
                       std::size_t count, std::int32_t* codes) noexcept;

    // The values by code, in Arrow's layout: int32 offsets, one more than values, and text.
    std::size_t values() const noexcept { return values_; }
    const std::uint8_t* offsets() const noexcept { return offsets_.data; }
    const std::uint8_t* text() const noexcept { return text_.data; }
    std::size_t text_size() const noexcept { return text_size_; }

   private:
    // The view itself for text of up to 12 bytes; else its length and prefix, and a hash.
    struct Key {
        std::uint64_t low, high;
    };

    bool open() noexcept;
    std::int32_t find(Key key, const std::uint8_t* p, std::size_t n) noexcept;
    std::int32_t add(Key key, const std::uint8_t* p, std::size_t n) noexcept;

    std::size_t most_values_, most_bytes_;
    std::size_t values_ = 0, text_size_ = 0;
    int shift_ = 0;       // of a hash, to the number of a slot
    std::size_t mask_ = 0;
    Bytes slots_;         // int32: a code + 1, or 0
    Bytes keys_, offsets_, text_;
};

}  // namespace mmflow
