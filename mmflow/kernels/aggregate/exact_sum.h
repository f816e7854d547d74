// Exact sums of floats, correctly rounded, and so the same in any order of the values.
//
// A sum begins as a window: 128 bits of fixed point around the first value, which hold values of 63 binary orders of
// magnitude. What lies outside of it, or overflows it, goes to a wide sum that holds any double, made when it is needed.
// Few groups with many rows are added up in large sums first.
// (Wide sums: Radford M. Neal, 2015, "Fast exact summation using small and large superaccumulators", the small one.)
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <vector>

#include "aggregate/whole.h"

namespace mmflow {

// Whole number of units of 2^-1074, the least double: digit i counts 2^(32 i). Digits overlap, so carries may wait.
struct WideSum {
    static constexpr std::size_t kDigits = 69, kLimbs = (kDigits + 1) / 2;
    std::int64_t digits[kDigits] = {};
    std::uint32_t waiting = 0;  // additions since the last `carry`, each of less than 2^32 to a digit

    // Adds +-magnitude * 2^bit units.
    void add(u128 magnitude, int bit, bool negative) noexcept;

    // Makes each digit but the last one of 32 bits, and not negative.
    void carry() noexcept;

    // Makes all digits those of the absolute value, and returns whether the sum was negative.
    bool make_magnitude() noexcept;
};

// Sum of one group.
struct FloatSum {
    static constexpr std::int16_t kUnset = 4096;
    std::uint64_t low = 0, high = 0;  // the window: units of 2^(base - 1075), two's complement
    std::uint64_t count = 0;          // of values; none: the sum is null
    std::int16_t base = kUnset;       // biased exponent of the least value in the window
    std::uint8_t special = 0;         // infinities and NaN so far
    std::uint8_t misses = 0;          // since the window was moved
    std::uint32_t wide = 0;           // number of the wide sum, from 1 on
};

// Sums of mantissas by sign and exponent, which need neither shifts nor signs: of values from 2^-128 to 2^128.
// (After the large superaccumulator of Neal's.)
struct LargeSum {
    static constexpr unsigned kLeast = 1023 - 128, kExponents = 256;
    std::uint64_t parts[2 * kExponents][2] = {};

    // Adds a value; false: it is beyond those.
    bool add(double value) noexcept {
        const auto bits = std::bit_cast<std::uint64_t>(value);
        const bool zero = bits << 1 == 0;
        const unsigned exponent = zero ? 0 : static_cast<unsigned>(bits >> 52 & 0x7ff) - kLeast;
        if (exponent >= kExponents) [[unlikely]] return false;
        const std::uint64_t mantissa = zero ? 0 : (bits & ((1ull << 52) - 1)) | 1ull << 52;
        std::uint64_t* const part = parts[(bits >> 63) * kExponents + exponent];
        part[0] += mantissa;
        if (part[0] < mantissa) [[unlikely]] ++part[1];
        return true;
    }
};

// What exact sums of groups share. The sums themselves lie in records, or elsewhere.
class FloatSums {
   public:
    static constexpr std::size_t kFew = 16;  // groups for which large sums pay

    std::size_t bytes() const noexcept {
        return wide_.size() * (sizeof(WideSum) + sizeof(void*) * 2) + large_.size() * sizeof(LargeSum);
    }

    // Adds value(row) to sum(group(row)) for the rows that `each` calls a function with, of `groups` groups.
    template <class Each, class Value, class Group, class Sum>
    void add_all(std::size_t rows, std::size_t groups, Each&& each, Value&& value, Group&& group, Sum&& sum) {
        seen_ += rows;
        if (groups > kFew || seen_ < kMany * groups) {
            each([&](std::size_t row) { add(sum(group(row)), value(row)); });
            return;
        }
        LargeSum* tables[kFew];
        make_large(tables, groups);
        each([&](std::size_t row) {
            const auto number = group(row);
            FloatSum& one = sum(number);
            ++one.count;
            const double added = value(row);
            if (!tables[number]->add(added) && !add_in_window(one, added)) [[unlikely]] add_elsewhere(one, added);
        });
    }

    void add(FloatSum& sum, double value) {
        ++sum.count;
        if (!add_in_window(sum, value)) [[unlikely]] add_elsewhere(sum, value);
    }

    // Moves what large sums hold to the sums, where the functions below look.
    template <class Sum>
    void settle(Sum&& sum) {
        for (std::size_t group = 0; group < large_.size(); ++group) add_large(sum(group), *large_[group]);
        large_.clear();
        seen_ = 0;
    }

    // Return the float nearest to the sum, or to the mean of a group that has values.
    double total(const FloatSum& sum) const noexcept { return rounded(sum, false); }
    double mean(const FloatSum& sum) const noexcept { return rounded(sum, true) + 0.0; }  // not -0, where it rounds to zero

    // Writes the absolute value in units of 2^-1074, lowest limb first, and returns whether the sum is negative. There must
    // be no infinities or NaN among the values.
    bool magnitude(const FloatSum& sum, std::uint64_t (&limbs)[WideSum::kLimbs]) const noexcept;

    // Appends the state of a sum; its form is in exact_sum.cpp.
    void write(FloatSum& sum, std::vector<std::uint8_t>& out);

    // Adds a state; false: it is damaged.
    [[nodiscard]] bool merge(FloatSum& sum, const std::uint8_t* state, std::size_t size);

   private:
    static constexpr auto kShifts = [] {
        std::array<std::int64_t, 63> made{};
        for (std::size_t i = 0; i < made.size(); ++i) made[i] = std::int64_t{1} << i;
        return made;
    }();
    static constexpr std::size_t kMany = 1024;  // rows for each of few groups, for which large sums pay

    // Adds a value that fits into the window.
    static bool add_in_window(FloatSum& sum, double value) noexcept {
        const auto bits = std::bit_cast<std::uint64_t>(value);
        const auto exponent = static_cast<unsigned>(bits >> 52 & 0x7ff);
        // Zeros fit anywhere. Subnormal values, infinities and NaN are outside of any window.
        const std::uint64_t some = bits << 1 != 0;
        const std::uint64_t shift = (exponent - static_cast<std::uint64_t>(sum.base)) & (~some + 1);
        if (shift >= std::size(kShifts)) return false;
        const std::uint64_t mantissa = (bits & ((1ull << 52) - 1)) | some << 52;
        const auto sign = static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> 63);
        // A product takes fewer instructions than shifts by a variable.
        const auto value_bits = static_cast<std::int64_t>((mantissa ^ sign) - sign);
        return add_to_window(sum, static_cast<i128>(value_bits) * kShifts[shift]);
    }

    static bool add_to_window(FloatSum& sum, i128 added) noexcept {
        i128 window = static_cast<i128>(sum.low | static_cast<u128>(sum.high) << 64);
        if (__builtin_add_overflow(window, added, &window)) return false;
        sum.low = static_cast<std::uint64_t>(window);
        sum.high = static_cast<std::uint64_t>(static_cast<u128>(window) >> 64);
        return true;
    }

    void make_large(LargeSum** tables, std::size_t groups);
    void add_large(FloatSum& sum, const LargeSum& large);
    void add_elsewhere(FloatSum& sum, double value);
    void add_window(FloatSum& sum, i128 window, std::int16_t base);
    void empty_window(FloatSum& sum);
    WideSum& wide(FloatSum& sum);
    double rounded(const FloatSum& sum, bool mean) const noexcept;

    std::size_t seen_ = 0;  // rows
    std::vector<std::unique_ptr<WideSum>> wide_;
    std::vector<std::unique_ptr<LargeSum>> large_;  // of the first groups, while there are few
};

}  // namespace mmflow
