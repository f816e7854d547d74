// Columns as Arrow arrays, by the Arrow C Data Interface (https://arrow.apache.org/docs/format/CDataInterface.html).
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/column.h"

extern "C" {
struct ArrowSchema {
    const char* format;
    const char* name;
    const char* metadata;
    std::int64_t flags;
    std::int64_t n_children;
    ArrowSchema** children;
    ArrowSchema* dictionary;
    void (*release)(ArrowSchema*);
    void* private_data;
};

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

// Owner of the decoded bytes: `retain` is called once for each array that points into them, `release` when that array
// is released, on any thread.
struct Owner {
    void* object;
    void (*retain)(void*) noexcept;
    void (*release)(void*) noexcept;
};

// Returns a struct array of the first `rows` rows, which takes the columns' buffers; null where there is no memory.
// String views point into `data`.
ArrowArray* to_arrow(Column* columns, std::size_t count, std::size_t rows, const std::uint8_t* data, std::size_t size,
                     const Owner& owner) noexcept;

}  // namespace mmflow
