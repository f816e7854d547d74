// Groups by the values of key columns: a hash table from rows to the numbers of their groups.
//
// A row is a few words of 64 bits: which columns are null, then one word for a number and two for a decimal or a text,
// of which up to 12 bytes are in the words (as in Arrow's views) and longer ones elsewhere. So rows are compared as words.
// All NaN are equal, and -0 equals 0.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aggregate/arena.h"
#include "aggregate/arrays.h"
#include "aggregate/few_keys.h"
#include "aggregate/known_texts.h"
#include "aggregate/records.h"
#include "aggregate/short_texts.h"

namespace mmflow {

class Keys {
   public:
    static constexpr std::size_t kPiece = 1024;

    // state: the words behind the key in the record of a new group
    Keys(std::vector<ArrayType> types, const std::vector<std::uint64_t>& state);

    // Writes the number of the group of each of up to kPiece rows. New groups get the next numbers, in the order of rows.
    void find(const ArrayView* columns, std::size_t rows, std::uint32_t* groups);

    // The groups of one key column of text, while there are few and short ones; null: look up keys by `find`.
    const KnownTexts* known_texts() const noexcept { return known_.get(); }

    std::size_t size() const noexcept { return records_.size(); }
    std::size_t bytes() const noexcept;

    // States that begin `place` words behind the key.
    States states(std::size_t place) const noexcept { return records_.states(width_ + place); }

    // Appends the values of key column `column` of the groups [begin, end).
    void write(std::size_t column, std::size_t begin, std::size_t end, ArrayMaker& out) const;

   private:
    static constexpr std::uint32_t kNone = 0xffffffff;
    // A slot is a tag of the hash, then the number of a group.
    static constexpr std::uint64_t kFree = ~std::uint64_t{0};
    static std::uint32_t group_of(std::uint64_t slot) noexcept { return static_cast<std::uint32_t>(slot); }
    static std::uint32_t tag_of(std::uint64_t slot) noexcept { return static_cast<std::uint32_t>(slot >> 32); }

    void fill(const ArrayView& column, std::size_t key, std::size_t rows);
    template <std::size_t kWidth>
    void look_up(std::size_t rows, std::uint32_t* groups);
    bool find_near(const ArrayView& column, std::size_t rows, std::uint32_t* groups) const;
    void note_near(std::size_t before);
    bool find_few(const ArrayView* columns, std::size_t rows, std::uint32_t* groups);
    void note_few(std::size_t before);
    void note_texts(std::size_t before);
    bool equal(const std::uint64_t* row, const std::uint64_t* kept) const noexcept;
    std::uint32_t add(const std::uint64_t* row, std::uint32_t tag);
    void put(std::uint64_t slot) noexcept;
    void grow();

    std::vector<ArrayType> types_;
    std::vector<std::size_t> places_;  // first word of each key column
    std::size_t masks_, width_;
    std::vector<std::uint64_t> row_words_;  // kPiece rows
    std::vector<std::uint64_t> hashes_;
    std::vector<std::uint64_t> factors_;    // of the words in hashes
    std::vector<std::size_t> long_texts_;   // first words of columns with long texts in these rows

    Records records_;
    std::size_t mask_ = 63;  // slots, less one
    Words slots_;
    Arena arena_;

    std::unique_ptr<FewKeys> few_;
    std::unique_ptr<ShortTexts> texts_;
    std::unique_ptr<KnownTexts> known_;

    // Groups of one key column of whole numbers near each other, by the distance from `least_`.
    std::vector<std::uint32_t> near_;
    std::int64_t least_ = 0;
};

}  // namespace mmflow
