// Columns as Arrow arrays, by the Arrow C Data Interface (https://arrow.apache.org/docs/format/CDataInterface.html).
#pragma once
#include <cstddef>
#include <cstdint>

#include "column.h"

extern "C" {
struct ArrowArray {
    std::int64_t length;
    std::int64_t null_count;
    std::int64_t offset;
    std::int64_t n_buffers;
    std::int64_t n_children;
    const void** buffers;
    ArrowArray** children;
    ArrowArray* dictionary;
    void (*release)(ArrowArray*);
    void* private_data;
};
}

namespace mmflow {

// What keeps the decoded bytes alive: `hold` is called once for each array that points into them, `drop` when that
// array is released, on any thread.
struct Owner {
    void* object;
    void (*hold)(void*) noexcept;
    void (*drop)(void*) noexcept;
};

// A struct array of the first `rows` rows; takes the columns' buffers. Null where there is no memory.
// `data` are the bytes that string views point into.
ArrowArray* to_arrow(Column* columns, std::size_t count, std::size_t rows, const std::uint8_t* data, std::size_t size,
                     const Owner& owner) noexcept;

}  // namespace mmflow
