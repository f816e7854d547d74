// Decoding of text to lines, as views of the bytes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/rows.h"

namespace mmflow {

struct LinesSpec {
    bool returns_lines;          // return the lines, not only their number
    bool located;                // also return where each begins
    const std::uint8_t* needle;  // only lines that hold these bytes (no line break among them)
    std::size_t needle_size;     // 0: all lines
    std::size_t most_bytes = 0;  // of the column, see is_full
};

// Positions in one chunk, kept between calls.
struct LinesScratch {
    Bytes places;  // uint32
    void release() noexcept { places.release(); }
};

// Decodes the complete lines that begin before `stop`, without "\n" or "\r\n"; `final`: the file ends where `data` does.
// Empty lines count. On kNeedsFallback, the line at `consumed` is not UTF-8, or begins with a NUL. `column`: one, where
// the lines are returned.
using LinesDecode = RecordsResult (*)(const LinesSpec& spec, const std::uint8_t* data, std::size_t size,
                                    std::size_t stop, bool final, LinesScratch& scratch, Column* column,
                                    Bytes& offsets) noexcept;

}  // namespace mmflow
