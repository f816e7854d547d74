#include "aggregate/float_measures.h"

#include <type_traits>

#include "aggregate/folds.h"
#include "aggregate/rows.h"

namespace mmflow {
namespace {

template <class State>
State& state_at(std::uint64_t* record, std::size_t place) noexcept {
    return *reinterpret_cast<State*>(record + place);
}

}  // namespace

void FloatMeasures::update(const ArrayView& values, const ArrayView* chosen, const std::uint32_t* numbers, std::size_t rows,
                           const States& states) const {
    // A copy, which the compiler keeps in registers.
    const FloatMeasures at = *this;
    const auto pass = [&](auto sums_up, auto least_too, auto greatest_too) {
        for_each_row(&values, chosen, rows, [&, first = states.first, stride = states.stride,
                                             from = values.values + values.offset * 8](std::size_t row) {
            double value;
            std::memcpy(&value, from + row * 8, 8);
            std::uint64_t* const record = first + numbers[row] * stride;
            if constexpr (decltype(sums_up)::value) at.sums->add(state_at<FloatSum>(record, at.sum), value);
            if constexpr (decltype(least_too)::value) fold<Extreme<true>>(state_at<Kept<double>>(record, at.least), value);
            if constexpr (decltype(greatest_too)::value)
                fold<Extreme<false>>(state_at<Kept<double>>(record, at.greatest), value);
            if (at.count != kNone) ++record[at.count];
        });
    };
    const auto choose = [](bool wanted, auto&& then) {
        if (wanted) then(std::true_type{});
        else then(std::false_type{});
    };
    choose(sum != kNone, [&](auto a) {
        choose(least != kNone, [&](auto b) {
            choose(greatest != kNone, [&](auto c) { pass(a, b, c); });
        });
    });
}

}  // namespace mmflow
