// Rows of batches, copied into the partitions of an exchange: one pass over each column, straight into the buffers that
// the partitions' arrays will own. mmflow/worker/partition.py has the same with pyarrow.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "aggregate/arrays.h"

namespace mmflow {

// Bytes that grow without being zeroed.
class GrowingBytes {
   public:
    // Makes room for `more` bytes behind `size()`, and returns where they begin.
    std::uint8_t* reserve(std::size_t more);
    void advance(std::size_t written) noexcept { size_ += written; }
    void shrink() noexcept;

    std::uint8_t* data() noexcept { return data_.get(); }
    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return capacity_; }

   private:
    struct Free {
        void operator()(std::uint8_t* block) const noexcept { std::free(block); }
    };
    std::unique_ptr<std::uint8_t, Free> data_;
    std::size_t size_ = 0, capacity_ = 0;
};

// Throws std::bad_alloc. Not thread-safe.
class Partitions {
   public:
    // Throws std::invalid_argument for text by offsets, whose blocks would be bounded.
    Partitions(std::vector<ArrayType> types, std::size_t count);
    Partitions(const Partitions&) = delete;
    Partitions& operator=(const Partitions&) = delete;

    // Appends rows order[bounds[p]..bounds[p + 1]) to partition p; `bounds` has one more than there are partitions.
    void append(const ArrowArray& rows, const std::int64_t* order, const std::int64_t* bounds);

    std::size_t count() const noexcept { return parts_.size(); }
    std::size_t rows(std::size_t partition) const noexcept { return parts_[partition].rows; }
    std::size_t bytes() const noexcept { return bytes_; }

    // Returns the rows of a partition as a struct array allocated by malloc, and leaves it empty.
    ArrowArray* take(std::size_t partition);

   private:
    struct Column {
        GrowingBytes values;              // or views, or bits
        GrowingBytes validity;            // bits, from the first null on
        std::vector<GrowingBytes> texts;  // of views
        std::size_t nulls = 0;

        std::size_t bytes() const noexcept;
    };
    struct Part {
        std::vector<Column> columns;
        std::size_t rows = 0;
    };

    void append_column(const ArrayType& type, const ArrayView& view, const std::int64_t* order, std::size_t count,
                       std::size_t rows, Column& column);

    std::vector<ArrayType> types_;
    std::vector<Part> parts_;
    std::size_t bytes_ = 0;
};

}  // namespace mmflow
