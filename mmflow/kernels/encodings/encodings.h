// Translation of text in other encodings to UTF-8.
//
// Bytes that are no character become 0xC0, one for each byte (of UTF-16 and UTF-32: for each unit): UTF-8 never holds
// it, so the decoders find these records. Line breaks are never part of such a character.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/status.h"

namespace mmflow {

enum class TextForm : int { kTable, kUtf16Le, kUtf16Be, kUtf32Le, kUtf32Be };

// Characters by their bytes, as UTF-8: the low seven bytes are text, the highest is its length. 0: no character.
struct TextTables {
    bool ascii;                     // bytes below 128 are themselves
    const std::uint64_t* singles;   // 256; 0: the byte begins a longer character
    const std::uint64_t* pairs;     // 65536, by both bytes, the first one high; nullptr: there are none
    const std::uint64_t* triples;   // 65536, by the second and third byte, behind 0x8F; nullptr: there are none
    const std::uint32_t* fours;     // 39420 code points of GB 18030's BMP, in order; nullptr: there are none
};

struct TextSpec {
    TextForm form;
    TextTables tables;
};

// Places that belong together, every kTextStride bytes of the input.
struct TextPlace {
    std::uint64_t raw;
    std::uint64_t text;
};
constexpr std::size_t kTextStride = 4096;

struct TextResult {
    std::size_t consumed = 0;  // bytes before a character that the end cuts
    std::size_t written = 0;
    std::size_t places = 0;
};

// Translates up to `size` bytes; `final`: a character that the end cuts is none. `out` holds 3 * size + 128 bytes, or as
// many as `text_bound` says, `places` one for each kTextStride begun.
using TextTranslate = TextResult (*)(const TextSpec& spec, const std::uint8_t* data, std::size_t size, bool final,
                                     std::uint8_t* out, TextPlace* places) noexcept;

// Bytes that `out` must hold; 0: all is ASCII of an encoding that is its superset, so there is nothing to do.
using TextBound = std::size_t (*)(const TextSpec& spec, const std::uint8_t* data, std::size_t size) noexcept;

// Replaces offsets in the text, ascending, by those of the same characters in the input.
using TextLocate = void (*)(const TextSpec& spec, const std::uint8_t* data, std::size_t size, const TextPlace* places,
                            std::size_t place_count, std::int64_t* offsets, std::size_t count) noexcept;

}  // namespace mmflow
