// Text by offsets, as Arrow files hold it, to 16-byte views over the same bytes: judged and converted in one pass.
#pragma once
#include <cstddef>
#include <cstdint>

#include "status.h"

namespace mmflow {

// A column of text as it stands in a file, of which nothing is believed but that its buffers are there.
struct TextColumn {
    const std::uint8_t* offsets;  // count + 1, int32 or int64 by `width`; of any alignment
    std::size_t width;
    const std::uint8_t* data;
    std::size_t size;
    const std::uint8_t* bits;  // which rows are not null; null: all
    std::size_t count;
};

// Writes 16 bytes for each row to `views`; those of nulls are zero. The byte at `o` is taken to lie in buffer o >> piece,
// at o & (2^piece - 1): views count in int32. kIrregular: offsets go back or beyond the data, text is not UTF-8 (or is
// longer than a piece), and what was written is no use.
using TextViews = Status (*)(const TextColumn&, int piece, std::uint8_t* views) noexcept;

}  // namespace mmflow
