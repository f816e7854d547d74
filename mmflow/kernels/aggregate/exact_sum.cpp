#include "aggregate/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

namespace mmflow {
namespace {

constexpr int kUnit = -1074;  // exponent of the units of wide sums
constexpr std::uint8_t kPlusInfinity = 1, kMinusInfinity = 2, kNan = 4;
// A window is put so that later values may be 2^32 times smaller; and no infinity lies in it.
constexpr int kBelow = 32, kHighestBase = 2047 - 63;
// A window that misses so many values is moved.
constexpr std::uint8_t kMostMisses = 16;
constexpr std::uint32_t kMostWaiting = 1u << 29;

// The states of sums: the count (8 bytes), a tag, and
//     kDouble       the sum, which is a double (8)
//     kWindow       base (2), low (8), high (8)
//     kSpecial      infinities and NaN that were seen (1)
//     kPlus, kMinus the number of the first digit (1), digits of the absolute value in units of 2^-1074 (4 each)
enum Tag : std::uint8_t { kDouble, kWindow, kSpecial, kPlus, kMinus };

template <class T>
void append(std::vector<std::uint8_t>& out, T value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof(T));
}

template <class T>
T load(const std::uint8_t* bytes) noexcept {
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
}

u128 magnitude_of(i128 value) noexcept { return value < 0 ? -static_cast<u128>(value) : static_cast<u128>(value); }

int bits_of(u128 value) noexcept {
    const auto high = static_cast<std::uint64_t>(value >> 64);
    return high ? 128 - std::countl_zero(high) : 64 - std::countl_zero(static_cast<std::uint64_t>(value));
}

int zeros_below(u128 value) noexcept {
    const auto low = static_cast<std::uint64_t>(value);
    return low ? std::countr_zero(low) : 64 + std::countr_zero(static_cast<std::uint64_t>(value >> 64));
}

}  // namespace

void WideSum::add(u128 magnitude, int bit, bool negative) noexcept {
    if (++waiting >= kMostWaiting) carry();
    std::size_t digit = static_cast<std::size_t>(bit) / 32;
    const int shift = bit % 32;
    // The lowest part takes 32 - shift bits, so that the others are whole digits.
    const std::uint64_t low = static_cast<std::uint64_t>(magnitude) & ((1ull << (32 - shift)) - 1);
    std::int64_t part = static_cast<std::int64_t>(low << shift);
    magnitude >>= 32 - shift;
    for (;;) {
        digits[digit] += negative ? -part : part;
        if (magnitude == 0) return;
        part = static_cast<std::int64_t>(static_cast<std::uint32_t>(magnitude));
        magnitude >>= 32;
        ++digit;
    }
}

void WideSum::carry() noexcept {
    std::int64_t carried = 0;
    for (std::size_t i = 0; i + 1 < kDigits; ++i) {
        const std::int64_t digit = digits[i] + carried;
        carried = digit >> 32;
        digits[i] = digit & 0xffffffff;
    }
    digits[kDigits - 1] += carried;
    waiting = 0;
}

bool WideSum::make_magnitude() noexcept {
    carry();
    const bool negative = digits[kDigits - 1] < 0;
    if (negative) {
        for (std::int64_t& digit : digits) digit = -digit;
        carry();
    }
    return negative;
}

WideSum& FloatSums::wide(FloatSum& sum) {
    if (sum.wide == 0) {
        wide_.push_back(std::make_unique<WideSum>());
        sum.wide = static_cast<std::uint32_t>(wide_.size());
    }
    return *wide_[sum.wide - 1];
}

void FloatSums::empty_window(FloatSum& sum) {
    const i128 window = static_cast<i128>(sum.low | static_cast<u128>(sum.high) << 64);
    if (window != 0) wide(sum).add(magnitude_of(window), sum.base - 1, window < 0);
    sum.low = sum.high = 0;
}

void FloatSums::add_elsewhere(FloatSum& sum, double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
    if (exponent == 0x7ff) {
        sum.special |= value != value ? kNan : value > 0 ? kPlusInfinity : kMinusInfinity;
        return;
    }
    const bool move = sum.base == FloatSum::kUnset || ++sum.misses >= kMostMisses;
    if (move && exponent != 0) {
        empty_window(sum);
        sum.misses = 0;
        sum.base = static_cast<std::int16_t>(std::clamp(exponent - kBelow, 1, kHighestBase));
        if (add_in_window(sum, value)) return;
    }
    const std::uint64_t mantissa = (bits & ((1ull << 52) - 1)) | static_cast<std::uint64_t>(exponent != 0) << 52;
    wide(sum).add(mantissa, std::max(exponent, 1) - 1, std::signbit(value));
}

// Adds a window of another sum.
void FloatSums::add_window(FloatSum& sum, i128 window, std::int16_t base) {
    if (window == 0) return;
    if (sum.base == FloatSum::kUnset) sum.base = base;
    const u128 magnitude = magnitude_of(window);
    const int shift = base - sum.base;
    if (shift >= 0 && bits_of(magnitude) + shift < 127) {
        const auto added = static_cast<i128>(magnitude << shift);
        if (add_to_window(sum, window < 0 ? -added : added)) return;
    }
    wide(sum).add(magnitude, base - 1, window < 0);
}

void FloatSums::make_large(LargeSum** tables, std::size_t groups) {
    while (large_.size() < groups) large_.push_back(std::make_unique<LargeSum>());
    for (std::size_t group = 0; group < groups; ++group) tables[group] = large_[group].get();
}

void FloatSums::add_large(FloatSum& sum, const LargeSum& large) {
    for (unsigned i = 0; i < 2 * LargeSum::kExponents; ++i) {
        const std::uint64_t* const part = large.parts[i];
        const auto magnitude = static_cast<i128>(part[0] | static_cast<u128>(part[1]) << 64);  // of 2^64 rows at most
        const auto base = static_cast<std::int16_t>(LargeSum::kLeast + i % LargeSum::kExponents);
        add_window(sum, i < LargeSum::kExponents ? magnitude : -magnitude, base);
    }
}

double FloatSums::rounded(const FloatSum& sum, bool mean) const noexcept {
    if (sum.special) {
        if (sum.special == kPlusInfinity) return std::numeric_limits<double>::infinity();
        if (sum.special == kMinusInfinity) return -std::numeric_limits<double>::infinity();
        return std::numeric_limits<double>::quiet_NaN();
    }
    const i128 window = static_cast<i128>(sum.low | static_cast<u128>(sum.high) << 64);
    if (sum.wide == 0) {
        if (window == 0) return 0.0;
        const u128 magnitude = magnitude_of(window);
        // Most means are quotients of two doubles.
        if (mean && sum.count < 1ull << 53) {
            const int below = zeros_below(magnitude);
            if (bits_of(magnitude) - below <= 53 && sum.base > 64 && sum.base + 128 < 2046) {
                const auto digits = static_cast<double>(static_cast<std::uint64_t>(magnitude >> below));
                const double total = std::ldexp(digits, sum.base - 1075 + below) / static_cast<double>(sum.count);
                return window < 0 ? -total : total;
            }
        }
        std::uint64_t limbs[4] = {0, 0, static_cast<std::uint64_t>(magnitude),
                                  static_cast<std::uint64_t>(magnitude >> 64)};
        const int exponent = sum.base - 1075;
        return mean ? nearest_quotient(limbs, 4, exponent, sum.count, window < 0)
                    : nearest(limbs + 2, 2, exponent, false, window < 0);
    }
    std::uint64_t limbs[2 + WideSum::kLimbs] = {};
    const bool negative = magnitude(sum, *reinterpret_cast<std::uint64_t(*)[WideSum::kLimbs]>(limbs + 2));
    if (std::all_of(limbs, std::end(limbs), [](std::uint64_t limb) { return limb == 0; })) return 0.0;
    return mean ? nearest_quotient(limbs, std::size(limbs), kUnit, sum.count, negative)
                : nearest(limbs + 2, WideSum::kLimbs, kUnit, false, negative);
}

bool FloatSums::magnitude(const FloatSum& sum, std::uint64_t (&limbs)[WideSum::kLimbs]) const noexcept {
    WideSum all = sum.wide == 0 ? WideSum{} : *wide_[sum.wide - 1];
    const i128 window = static_cast<i128>(sum.low | static_cast<u128>(sum.high) << 64);
    if (window != 0) all.add(magnitude_of(window), sum.base - 1, window < 0);
    const bool negative = all.make_magnitude();
    std::fill(limbs, std::end(limbs), 0);
    for (std::size_t i = 0; i < WideSum::kDigits; ++i)
        limbs[i / 2] |= static_cast<std::uint64_t>(all.digits[i]) << (i % 2 * 32);
    return negative;
}

void FloatSums::write(FloatSum& sum, std::vector<std::uint8_t>& out) {
    append(out, sum.count);
    if (sum.special) {
        append(out, kSpecial);
        append(out, sum.special);
        return;
    }
    if (sum.wide == 0) {
        const i128 window = static_cast<i128>(sum.low | static_cast<u128>(sum.high) << 64);
        const u128 magnitude = magnitude_of(window);
        const int below = window == 0 ? 0 : zeros_below(magnitude);
        const double value = std::ldexp(static_cast<double>(static_cast<std::uint64_t>(magnitude >> below)),
                                        window == 0 ? 0 : sum.base - 1075 + below);
        // Sums of few values mostly are doubles.
        if (window == 0 || (bits_of(magnitude) - below <= 53 && std::isfinite(value))) {
            append(out, kDouble);
            append(out, window < 0 ? -value : value);
            return;
        }
        append(out, kWindow);
        append(out, sum.base);
        append(out, sum.low);
        append(out, sum.high);
        return;
    }
    empty_window(sum);
    WideSum all = wide(sum);
    const bool negative = all.make_magnitude();
    std::size_t first = 0, end = WideSum::kDigits;
    while (end > 0 && all.digits[end - 1] == 0) --end;
    while (first < end && all.digits[first] == 0) ++first;
    append(out, negative ? kMinus : kPlus);
    append(out, static_cast<std::uint8_t>(first));
    for (std::size_t i = first; i < end; ++i) append(out, static_cast<std::uint32_t>(all.digits[i]));
}

bool FloatSums::merge(FloatSum& sum, const std::uint8_t* state, std::size_t size) {
    if (size < 10) return false;
    const auto count = load<std::uint64_t>(state);
    const std::uint8_t tag = state[8];
    const std::uint8_t* rest = state + 9;
    size -= 9;
    switch (tag) {
        case kDouble:
            if (size != 8) return false;
            add(sum, load<double>(rest));
            --sum.count;
            break;
        case kWindow: {
            if (size != 18) return false;
            const auto base = load<std::int16_t>(rest);
            if (base < 1 || base > kHighestBase) return false;
            const u128 bits = load<std::uint64_t>(rest + 2) | static_cast<u128>(load<std::uint64_t>(rest + 10)) << 64;
            add_window(sum, static_cast<i128>(bits), base);
            break;
        }
        case kSpecial:
            if (size != 1) return false;
            sum.special |= rest[0];
            break;
        case kPlus:
        case kMinus: {
            const std::size_t first = rest[0], digits = (size - 1) / 4;
            if ((size - 1) % 4 != 0 || first + digits > WideSum::kDigits) return false;
            WideSum& all = wide(sum);
            if (++all.waiting >= kMostWaiting) all.carry();
            for (std::size_t i = 0; i < digits; ++i) {
                const auto digit = static_cast<std::int64_t>(load<std::uint32_t>(rest + 1 + i * 4));
                all.digits[first + i] += tag == kMinus ? -digit : digit;
            }
            break;
        }
        default: return false;
    }
    sum.count += count;
    return true;
}

}  // namespace mmflow
