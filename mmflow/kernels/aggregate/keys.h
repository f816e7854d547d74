// Groups by the values of key columns: a hash table from rows to the numbers of their groups.
//
// A row is a few words of 64 bits: which columns are null, then one word for a number and two for a decimal or a text,
// of which up to 12 bytes are in the words (as in Arrow's views) and longer ones elsewhere. So rows are compared as words.
// All NaN are equal, and -0 equals 0.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aggregate/arena.h"
#include "aggregate/arrays.h"

namespace mmflow {

class Keys {
   public:
    explicit Keys(std::vector<ArrayType> types);

    // Writes the number of each row's group. New groups get the next numbers, in the order of their rows.
    void find(const ArrayView* columns, std::size_t rows, std::uint32_t* groups);

    std::size_t size() const noexcept { return count_; }
    std::size_t bytes() const noexcept;

    // Appends the value of key column `column` of a group.
    void write(std::size_t column, std::size_t group, ArrayMaker& out) const;

   private:
    struct Slot {
        std::uint32_t tag;    // of the hash
        std::uint32_t group;  // kNone: free
    };
    static constexpr std::uint32_t kNone = 0xffffffff;
    static constexpr std::size_t kPiece = 1024;  // rows that are looked up at once

    void fill(const ArrayView& column, std::size_t key, std::size_t begin, std::size_t rows);
    template <std::size_t kWidth>
    void look_up(std::size_t rows, std::uint32_t* groups);
    bool find_small(const ArrayView& column, std::size_t begin, std::size_t rows, std::uint32_t* groups);
    bool equal(const std::uint64_t* row, const std::uint64_t* kept) const noexcept;
    std::uint32_t add(const std::uint64_t* row, std::uint32_t tag);
    void grow();

    std::vector<ArrayType> types_;
    std::vector<std::size_t> places_;  // first word of each key column
    std::size_t masks_ = 1, width_ = 1;
    std::vector<std::uint64_t> row_words_;  // kPiece rows
    std::vector<std::uint64_t> hashes_;
    std::vector<std::uint64_t> factors_;    // of the words in hashes
    std::vector<std::size_t> long_texts_;   // first words of columns with long texts in these rows

    std::vector<std::uint64_t> words_;      // of groups
    std::vector<Slot> slots_;
    std::size_t count_ = 0;
    Arena arena_;

    // Groups of one key column of whole numbers near each other, by the distance from `least_`.
    std::vector<std::uint32_t> near_;
    std::int64_t least_ = 0;
};

}  // namespace mmflow
