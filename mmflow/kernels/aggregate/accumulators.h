// What is kept of each group for the measures of an aggregation: one accumulator for all groups.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "aggregate/arrays.h"

namespace mmflow {

enum class Function : int { kCount, kSum, kAvg, kMin, kMax, kBoolAnd, kBoolOr, kBitAnd, kBitOr, kBitXor };

// A total that does not fit the type of its measure.
struct TotalOverflow : std::runtime_error {
    explicit TotalOverflow(const std::string& digits) : std::runtime_error(digits) {}
};

class Accumulator {
   public:
    virtual ~Accumulator() = default;

    // Makes room for groups, the new ones empty.
    virtual void resize(std::size_t groups) = 0;

    // Takes the rows that are valid in `column` (null: all) and true in `filter` (null: all).
    virtual void update(const ArrayView* column, const ArrayView* filter, const std::uint32_t* groups,
                        std::size_t rows) = 0;

    // Takes states that another accumulator of its kind wrote. Throws std::invalid_argument where one is damaged.
    virtual void merge(const ArrayView& states, const std::uint32_t* groups, std::size_t rows) = 0;

    virtual void write_state(std::size_t group, ArrayMaker& out) = 0;

    // Appends the value of a measure to an array of `type`. Throws TotalOverflow where it does not fit.
    virtual void write(Function function, std::size_t group, const ArrayType& type, ArrayMaker& out) = 0;

    virtual std::size_t bytes() const noexcept = 0;
};

// Returns an accumulator for a function of a column of `type` (null: of no column), whose states are of type `state`.
// Throws std::invalid_argument where there is none.
std::unique_ptr<Accumulator> make_accumulator(Function function, const ArrayType* type);

// Returns whether both functions are computed from the same state.
inline bool same_state(Function a, Function b) noexcept {
    const auto sums = [](Function f) { return f == Function::kSum || f == Function::kAvg; };
    return a == b || (sums(a) && sums(b));
}

}  // namespace mmflow
