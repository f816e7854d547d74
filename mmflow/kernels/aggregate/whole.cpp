#include "aggregate/whole.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mmflow {

void WholeSum::add(const WholeSum& other) noexcept {
    const u128 before = low | static_cast<u128>(high) << 64;
    const u128 after = before + (other.low | static_cast<u128>(other.high) << 64);
    low = static_cast<std::uint64_t>(after);
    high = static_cast<std::uint64_t>(after >> 64);
    top += other.top + (after < before ? 1 : 0);
    count += other.count;
}

void WholeSum::magnitude(std::uint64_t (&limbs)[3]) const noexcept {
    limbs[0] = low, limbs[1] = high, limbs[2] = static_cast<std::uint64_t>(top);
    if (!negative()) return;
    std::uint64_t carry = 1;
    for (std::uint64_t& limb : limbs) {
        limb = ~limb + carry;
        carry = carry && limb == 0;
    }
}

std::uint64_t divide(std::uint64_t* limbs, std::size_t size, std::uint64_t by) noexcept {
    std::uint64_t rest = 0;
    for (std::size_t i = size; i-- > 0;) {
        if (rest == 0 && limbs[i] < by) {
            rest = limbs[i];
            limbs[i] = 0;
            continue;
        }
        const u128 part = static_cast<u128>(rest) << 64 | limbs[i];
        limbs[i] = static_cast<std::uint64_t>(part / by);
        rest = static_cast<std::uint64_t>(part % by);
    }
    return rest;
}

std::uint64_t multiply(std::uint64_t* limbs, std::size_t size, std::uint64_t by) noexcept {
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const u128 product = static_cast<u128>(limbs[i]) * by + carry;
        limbs[i] = static_cast<std::uint64_t>(product);
        carry = static_cast<std::uint64_t>(product >> 64);
    }
    return carry;
}

std::string decimal_digits(std::uint64_t* limbs, std::size_t size) {
    std::string digits;
    do {
        digits.push_back(static_cast<char>('0' + divide(limbs, size, 10)));
    } while (std::any_of(limbs, limbs + size, [](std::uint64_t limb) { return limb != 0; }));
    std::reverse(digits.begin(), digits.end());
    return digits;
}

double nearest(const std::uint64_t* limbs, std::size_t size, int exponent, bool sticky, bool negative) noexcept {
    constexpr int kLeast = -1074;  // the exponent of the least subnormal number
    while (size > 0 && limbs[size - 1] == 0) --size;
    const double sign = negative ? -1.0 : 1.0;
    if (size == 0) return 0.0 * sign;
    const int bits = static_cast<int>(size) * 64 - std::countl_zero(limbs[size - 1]);
    const int dropped = std::max({bits - 53, kLeast - exponent, 0});
    const auto limb = [&](std::size_t n) { return n < size ? limbs[n] : 0; };
    const std::size_t first = static_cast<std::size_t>(dropped) / 64;
    const int shift = dropped % 64;
    std::uint64_t kept = limb(first) >> shift;
    if (shift != 0) kept |= limb(first + 1) << (64 - shift);
    if (dropped > 0) {
        const std::size_t half = static_cast<std::size_t>(dropped - 1) / 64;
        const std::uint64_t bit = 1ull << ((dropped - 1) % 64);
        if (limb(half) & bit) {
            bool more = sticky || (kept & 1) != 0 || (limb(half) & (bit - 1)) != 0;
            for (std::size_t n = 0; !more && n < half && n < size; ++n) more = limbs[n] != 0;
            kept += more;
        }
    }
    return sign * std::ldexp(static_cast<double>(kept), exponent + dropped);
}

double nearest_quotient(std::uint64_t* limbs, std::size_t size, int exponent, std::uint64_t divisor,
                        bool negative) noexcept {
    const bool sticky = divide(limbs, size, divisor) != 0;
    return nearest(limbs, size, exponent - 128, sticky, negative);
}

}  // namespace mmflow
