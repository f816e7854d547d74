// Rows in the order of several columns, by normalised keys that compare as unsigned integers (as in G. Graefe,
// "Implementing sorting in database systems", 2006, section 2.2). mmflow/worker/windows.py is what uses it, and
// tests/kernels/test_kernels_row_order.py compares it with pyarrow.
//
//     l_partkey  19 bits | l_orderkey  24 bits | null  1 bit | l_linenumber  3 bits      one word of 64 bits
//
// A column of fixed width becomes its distance from its smallest value (from its largest, if it is descending), in as many
// bits as its range takes; a bit before it says where null is. Columns share words as they fit. Text is a word for each 7
// bytes, whose last byte says how many of them there are, or that more follow.
//
// Floats are ordered by their bits: -0.0 before 0.0, and each NaN by its payload. mmflow gives them one zero and one NaN
// before (mmflow/plan/rewrites/float_order.py).
//
// Rows are sorted by the first word (radix sort from the last digit on, which is stable), then each run of equal words by
// the next. Rows that are equal stay in their order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aggregate/arrays.h"

namespace mmflow {

struct Direction {
    bool descending = false;
    bool nulls_first = false;
};

class RowOrder {
   public:
    // Sorts the rows of batches, struct arrays of the keys, all of whose text must outlive this object. Throws
    // std::length_error for 2**32 rows or more, and std::bad_alloc.
    RowOrder(std::vector<ArrayType> types, const std::vector<Direction>& directions,
             const std::vector<const ArrowArray*>& batches);

    std::size_t rows() const noexcept { return order_.size(); }

    // Numbers of the rows over all batches, in their order.
    const std::uint32_t* order() const noexcept { return order_.data(); }

    // Returns for each place of the order whether its row differs from the one before in the first `keys` columns. The
    // first row does.
    std::vector<std::uint8_t> starts(std::size_t keys) const;

   private:
    // Bits of a word that come from one column.
    struct Piece {
        enum class Part : std::uint8_t { kNull, kHigh, kValue };
        std::size_t column;
        Part part;
        unsigned bits;
        std::uint64_t from;  // value whose code is zero
    };

    // A word of fixed columns, or a column of text.
    struct Segment {
        std::vector<Piece> pieces;
        std::vector<std::uint64_t> words;  // by row; those of the first segment by place, once they are sorted
        std::size_t column = 0;            // of text
        bool text = false, descending = false;
        unsigned bits = 0;
        std::size_t prefix = 0;            // bytes that all its text begins with
        std::vector<std::string_view> texts;  // by row
    };

    // Rows of the order that are equal in all before a segment, and in `level` words of its text.
    struct Range {
        std::size_t begin, end, segment, level;
    };

    void plan(const std::vector<Direction>& directions, const std::vector<std::vector<ArrayView>>& views);
    void add_piece(const Piece& piece);
    void fill(const std::vector<std::vector<ArrayView>>& views);
    void sort();
    void sort_few(const Range& range);
    void sort_words(std::vector<std::uint64_t>& words, std::uint32_t* order, std::size_t count);
    int compare(std::uint32_t row, std::uint32_t other, std::size_t segment, std::size_t level) const noexcept;
    std::uint64_t word(const Segment& segment, std::size_t level, std::uint32_t row) const noexcept;

    std::vector<ArrayType> types_;
    std::vector<Direction> directions_;
    std::vector<std::size_t> lengths_;  // of batches
    std::vector<Segment> segments_;
    std::vector<std::uint32_t> order_;
    std::vector<std::uint64_t> other_words_;  // while it sorts
    std::vector<std::uint32_t> other_rows_;
};

// Functions of rows by their place among those of their partition, the rows that are equal in the first keys.
enum class WindowFunction : int {
    kRowNumber, kRank, kDenseRank, kPercentRank, kCumeDist, kLag, kLead,
    kFirst, kLast,    // of the partition up to the row's peers, the rows that are equal in all keys
    kPartitionLast,   // of the whole partition
    kCount,
};

struct WindowCall {
    WindowFunction function;
    std::int64_t rows;  // kLag, kLead: distance
    void* out;          // by row: uint64; double of kPercentRank and kCumeDist; int64 of kLag and all below, the number of
                        // the row whose value it is, or -1 where there is none
};

// Computes functions over the partitions of an order, whose rows are ordered by the keys from `partition_keys` to `keys`.
void compute_windows(const RowOrder& order, std::size_t partition_keys, std::size_t keys, const std::vector<WindowCall>& calls);

}  // namespace mmflow
