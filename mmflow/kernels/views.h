// Conversion of text by offsets, as Arrow files hold it, to 16-byte views over the same bytes, validated in one pass.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/status.h"

namespace mmflow {

// A column of text from a file. Nothing is trusted but that its buffers exist.
struct TextColumn {
    const std::uint8_t* offsets;  // count + 1, int32 or int64 by `width`; of any alignment
    std::size_t width;
    const std::uint8_t* data;
    std::size_t size;
    const std::uint8_t* bits;  // rows that are not null; nullptr: all
    std::size_t count;
};

// Writes 16 bytes for each row to `views`; those of nulls are zero. The byte at `o` is taken to lie in buffer o >> piece,
// at o & (2^piece - 1): views count in int32. kNeedsFallback: offsets go back or beyond the data, text is not UTF-8 (or is
// longer than a piece), and the output is meaningless.
using TextViews = Status (*)(const TextColumn&, int piece, std::uint8_t* views) noexcept;

}  // namespace mmflow
