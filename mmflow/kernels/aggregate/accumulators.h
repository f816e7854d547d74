// What is kept of each group for the measures of an aggregation: a state in its record, and one accumulator for all groups.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "aggregate/arrays.h"
#include "aggregate/records.h"

namespace mmflow {

enum class Function : int {
    kCount, kSum, kAvg, kMin, kMax, kBoolAnd, kBoolOr, kBitAnd, kBitOr, kBitXor, kVar, kVarPop, kStddev, kStddevPop
};

// A total that does not fit the type of its measure.
struct TotalOverflow : std::runtime_error {
    explicit TotalOverflow(const std::string& digits) : std::runtime_error(digits) {}
};

// Rows of a piece, and the states of their groups.
struct Grouped {
    const std::uint32_t* numbers;  // of the rows' groups
    std::size_t rows;
    States states;
    std::size_t groups;  // so far
};

class FloatSums;

class Accumulator {
   public:
    virtual ~Accumulator() = default;

    // Returns the state of a new group.
    virtual std::vector<std::uint64_t> first() const = 0;

    // Takes the rows that are valid in `column` (null: all) and true in `filter` (null: all).
    virtual void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) = 0;

    // Takes states that another accumulator of its kind wrote; a null is that of no rows. Throws std::invalid_argument where one is damaged.
    virtual void merge(const ArrayView& column, const Grouped& rows) = 0;

    // Appends the states of the groups [begin, end).
    virtual void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) = 0;

    // Appends the values of a measure to an array of `type`. Throws TotalOverflow where one does not fit.
    virtual void write(Function function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType& type,
                       ArrayMaker& out) = 0;

    // Returns what the sums of doubles share; null: these are none.
    virtual FloatSums* float_sums() noexcept { return nullptr; }

    // Bytes that it holds beside the states.
    virtual std::size_t bytes() const noexcept { return 0; }
};

// Returns an accumulator for a function of a column of `type` (null: of no column), whose states are of type `state`.
// Throws std::invalid_argument where there is none.
std::unique_ptr<Accumulator> make_accumulator(Function function, const ArrayType* type);

// Returns whether both functions are computed from the same state.
inline bool same_state(Function a, Function b) noexcept {
    const auto sums = [](Function f) { return f == Function::kSum || f == Function::kAvg; };
    return a == b || (sums(a) && sums(b)) || (a >= Function::kVar && b >= Function::kVar);
}

}  // namespace mmflow
