// Aggregation of rows by key: measures of groups, from rows or from the states of other aggregations.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aggregate/accumulators.h"
#include "aggregate/float_measures.h"
#include "aggregate/keys.h"

namespace mmflow {

struct Measure {
    Function function;
    int column;  // of the rows; -1: none, as in count(*)
    int filter;  // boolean column; -1: none
};

// Not thread-safe. After an exception only the destructor may be called.
class Aggregator {
   public:
    // types: of the rows; keys: columns of the rows; results: of the measures
    Aggregator(std::vector<ArrayType> types, std::vector<int> keys, std::vector<Measure> measures,
               std::vector<ArrayType> results);

    // Takes rows, or with `states` what `states` of another aggregation of the same measures wrote.
    void update(const ArrowArray& rows);
    void merge(const ArrowArray& states);

    // The groups of rows' texts, for a decoder that finds them itself; null: there are none, or measures need the texts.
    const KnownTexts* known_texts() const noexcept { return key_measured_ ? nullptr : keys_->known_texts(); }

    // The column of the rows that is the key, where there are known texts.
    std::size_t known_key() const noexcept { return static_cast<std::size_t>(key_columns_[0]); }

    // Takes rows without nulls of known groups. `values`: of the columns; null for that of the key.
    void update_known(const std::uint32_t* groups, const std::vector<const std::uint8_t*>& values, std::size_t rows);

    std::size_t groups() const noexcept { return keys_->size(); }
    std::size_t bytes() const noexcept;

    // Return the groups [begin, end) as a struct array: keys, then a column for each distinct state, or each measure.
    ArrowArray* states(std::size_t begin, std::size_t end);
    ArrowArray* results(std::size_t begin, std::size_t end);

    // Types of the columns of `states`.
    std::vector<ArrayType> state_types() const;

    // The measure whose value `results` was writing.
    std::size_t current() const noexcept { return current_; }

   private:
    struct Argument {
        ArrayView column, filter;
    };
    void join_float_measures();
    void measure(std::vector<Argument>& arguments, const std::uint32_t* numbers, std::size_t rows);
    std::vector<ArrayView> key_views(const ArrowArray& rows, const std::vector<int>& columns) const;
    template <class Take>
    void each_piece(std::vector<ArrayView> keys, std::size_t rows, Take&& take);
    Grouped grouped(std::size_t accumulator, const std::uint32_t* numbers, std::size_t rows) const;
    std::vector<ArrayMaker> key_columns(std::size_t begin, std::size_t end) const;

    std::vector<ArrayType> types_, key_types_, state_types_, result_types_;
    std::vector<int> key_columns_, state_keys_;
    std::vector<Measure> measures_;
    std::vector<std::size_t> sources_;    // accumulator of each measure
    std::vector<Measure> distinct_;       // the first measure of each accumulator
    std::vector<std::unique_ptr<Accumulator>> accumulators_;
    std::vector<std::size_t> places_;     // of their states in records
    std::vector<FloatMeasures> float_measures_;
    std::vector<int> joined_;             // number among these of each accumulator; -1: none
    std::unique_ptr<Keys> keys_;
    bool key_measured_ = false;  // the first key is the column of a measure, too
    std::size_t current_ = 0;
};

}  // namespace mmflow
