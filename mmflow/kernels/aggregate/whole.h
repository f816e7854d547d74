// Whole numbers wider than 64 bits, and the float nearest to them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace mmflow {

__extension__ typedef __int128 i128;
__extension__ typedef unsigned __int128 u128;

// Sum of whole numbers of up to 128 bits: two's complement in 192 bits, which no number of rows overflows.
struct WholeSum {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::int64_t top = 0;
    std::uint64_t count = 0;  // of values; none: the sum is null

    void add(i128 value) noexcept {
        const u128 before = low | static_cast<u128>(high) << 64;
        const u128 after = before + static_cast<u128>(value);
        low = static_cast<std::uint64_t>(after);
        high = static_cast<std::uint64_t>(after >> 64);
        top += (value < 0 ? -1 : 0) + (after < before ? 1 : 0);
    }

    void add(const WholeSum& other) noexcept;

    bool negative() const noexcept { return top < 0; }

    // Writes the absolute value, lowest limb first.
    void magnitude(std::uint64_t (&limbs)[3]) const noexcept;
};

// Sum of whole numbers of up to 64 bits: two's complement in 128 bits.
struct IntegerSum {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::uint64_t count = 0;

    void add(i128 value) noexcept {
        const u128 sum = (low | static_cast<u128>(high) << 64) + static_cast<u128>(value);
        low = static_cast<std::uint64_t>(sum);
        high = static_cast<std::uint64_t>(sum >> 64);
    }

    void add(const WholeSum& other) noexcept {
        add(static_cast<i128>(other.low | static_cast<u128>(other.high) << 64));
        count += other.count;
    }

    WholeSum wide() const noexcept { return {low, high, static_cast<std::int64_t>(high) < 0 ? -1 : 0, count}; }
};

// Divides a number of `size` limbs, lowest first, in place, and returns the remainder.
std::uint64_t divide(std::uint64_t* limbs, std::size_t size, std::uint64_t by) noexcept;

// Multiplies a number of `size` limbs in place, and returns what goes beyond them.
std::uint64_t multiply(std::uint64_t* limbs, std::size_t size, std::uint64_t by) noexcept;

// The digits of a number of `size` limbs, which are used up.
std::string decimal_digits(std::uint64_t* limbs, std::size_t size);

// Returns the float nearest to (limbs + a little, if `sticky`) * 2^exponent, of two the even one.
double nearest(const std::uint64_t* limbs, std::size_t size, int exponent, bool sticky, bool negative) noexcept;

// Returns the float nearest to limbs * 2^exponent / divisor. `limbs` has two more limbs in front, which are zero.
double nearest_quotient(std::uint64_t* limbs, std::size_t size, int exponent, std::uint64_t divisor,
                        bool negative) noexcept;

}  // namespace mmflow
