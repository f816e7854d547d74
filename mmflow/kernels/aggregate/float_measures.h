// Measures of one column of doubles, taken in one pass: the record of a row's group is brought into the cache, and its value
// loaded, once for all of them.
#pragma once
#include <cstddef>

#include "aggregate/arrays.h"
#include "aggregate/exact_sum.h"
#include "aggregate/records.h"

namespace mmflow {

struct FloatMeasures {
    static constexpr std::size_t kNone = ~std::size_t{0};

    int column, filter;  // of the rows; filter -1: none
    // Places of the states among those of a record; kNone: not wanted.
    std::size_t count = kNone, sum = kNone, least = kNone, greatest = kNone;
    FloatSums* sums = nullptr;

    // Returns whether one pass is better than one for each measure, which for few groups adds up large sums.
    bool pays(std::size_t groups) const noexcept {
        return groups > FloatSums::kFew && (count != kNone) + (sum != kNone) + (least != kNone) + (greatest != kNone) > 1;
    }

    // Takes rows of `numbers`' groups, as accumulators do. `states`: of the first place.
    void update(const ArrayView& values, const ArrayView* chosen, const std::uint32_t* numbers, std::size_t rows,
                const States& states) const;
};

}  // namespace mmflow
