// Text: lines as views of the decoded bytes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rows.h"

namespace mmflow {

struct LinesSpec {
    bool wanted;                 // give the lines, not just their number
    bool located;                // also give where each begins
    const std::uint8_t* needle;  // only lines that hold these bytes (no line break among them)
    std::size_t needle_size;     // 0: all lines
};

// Positions in one chunk, kept between calls.
struct LinesScratch {
    Bytes places;  // uint32
    void release() noexcept { places.release(); }
};

// Lines that begin before `stop`, as far as they are complete; `final`: the file ends where `data` does.
// Without "\n" or "\r\n"; empty lines are lines. On kIrregular, at `consumed` begins a line that is not UTF-8, or
// with a NUL. `column`: one, where the lines are wanted.
using LinesDecode = RecordsResult (*)(const LinesSpec& spec, const std::uint8_t* data, std::size_t size,
                                    std::size_t stop, bool final, LinesScratch& scratch, Column* column,
                                    Bytes& offsets) noexcept;

}  // namespace mmflow
