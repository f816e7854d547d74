// Exact sums of floats and of their squares, whose variance is rounded once, and so the same in any order of the values.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "aggregate/exact_sum.h"

namespace mmflow {

// Sums of one group.
struct Moments {
    FloatSum sum, squares;
    FloatSum rests;  // of the squares, beyond doubles: of another magnitude, so in a sum of their own
    std::uint64_t extreme = 0;  // number of the sums of squares of very large and very small values, from 1 on
};

// What the moments of groups share.
class MomentSums {
   public:
    std::size_t bytes() const noexcept { return sums_.bytes() + extremes_.size() * (sizeof(Extreme) + sizeof(void*) * 2); }

    void add(Moments& moments, double value) {
        sums_.add(moments.sum, value);
        const double size = value < 0 ? -value : value;
        if (size >= kSmall && size < kLarge) [[likely]] return add_square(moments.squares, moments.rests, value);
        if (size > 0) add_extreme(moments, value);
    }

    // Returns the variance, rounded once, of a group of at least two values, or at least one where `sample` is false. NaN
    // where a value is NaN or infinite.
    double variance(const Moments& moments, bool sample) const noexcept;

    // Appends the state of a group.
    void write(Moments& moments, std::vector<std::uint8_t>& out);

    // Adds a state; false: it is damaged.
    [[nodiscard]] bool merge(Moments& moments, const std::uint8_t* state, std::size_t size);

   private:
    // Squares of values between these are sums of two doubles; others are first multiplied by 2^-600 or 2^600.
    static constexpr double kSmall = 0x1p-480, kLarge = 0x1p500;
    struct Extreme {
        FloatSum large, large_rests, small, small_rests;
    };

    void add_square(FloatSum& sum, FloatSum& rests, double value) {
        const double square = value * value;
        sums_.add(sum, square);
        sums_.add(rests, __builtin_fma(value, value, -square));
    }
    void add_extreme(Moments& moments, double value);
    Extreme& extreme(Moments& moments);

    FloatSums sums_;
    std::vector<std::unique_ptr<Extreme>> extremes_;
};

}  // namespace mmflow
