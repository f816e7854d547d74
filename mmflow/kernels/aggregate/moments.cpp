#include "aggregate/moments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

namespace mmflow {
namespace {

// Whole number of units of 2^-2148: squares of doubles, added up 2^64 times, and multiplied by a count.
constexpr std::size_t kSize = 72;
constexpr int kUnit = -2148;
constexpr std::size_t kSumLimbs = WideSum::kLimbs;

// Adds +-number * 2^shift, modulo 2^(64 kSize).
void add_shifted(std::uint64_t (&to)[kSize], const std::uint64_t (&number)[kSumLimbs], int shift, bool negative) noexcept {
    std::uint64_t carry = negative;
    const int limbs = shift >> 6, bits = shift & 63;
    const auto limb = [&](int i) { return i >= 0 && i < static_cast<int>(kSumLimbs) ? number[i] : 0; };
    for (int i = std::max(limbs, 0); i < static_cast<int>(kSize); ++i) {
        const int from = i - limbs;
        const std::uint64_t part = bits == 0 ? limb(from) : limb(from) << bits | limb(from - 1) >> (64 - bits);
        const u128 sum = static_cast<u128>(to[i]) + (negative ? ~part : part) + carry;
        to[i] = static_cast<std::uint64_t>(sum);
        carry = static_cast<std::uint64_t>(sum >> 64);
    }
}

// Subtracts the square of a number.
void subtract_square(std::uint64_t (&from)[kSize], const std::uint64_t (&number)[kSumLimbs]) noexcept {
    for (std::size_t i = 0; i < kSumLimbs; ++i) {
        if (number[i] == 0) continue;
        std::uint64_t carry = 0;
        for (std::size_t j = 0; j < kSumLimbs; ++j) {
            const u128 product = static_cast<u128>(number[i]) * number[j] + carry;
            const auto part = static_cast<std::uint64_t>(product);
            carry = static_cast<std::uint64_t>(product >> 64) + (from[i + j] < part);
            from[i + j] -= part;
        }
        for (std::size_t j = i + kSumLimbs; carry != 0 && j < kSize; ++j) {
            const std::uint64_t before = from[j];
            from[j] -= carry;
            carry = before < carry;
        }
    }
}

}  // namespace

MomentSums::Extreme& MomentSums::extreme(Moments& moments) {
    if (moments.extreme == 0) {
        extremes_.push_back(std::make_unique<Extreme>());
        moments.extreme = extremes_.size();
    }
    return *extremes_[moments.extreme - 1];
}

void MomentSums::add_extreme(Moments& moments, double value) {
    if (!std::isfinite(value)) return;  // the sum knows
    Extreme& mine = extreme(moments);
    if (std::abs(value) >= kLarge) add_square(mine.large, mine.large_rests, value * 0x1p-600);
    else add_square(mine.small, mine.small_rests, value * 0x1p600);
}

double MomentSums::variance(const Moments& moments, bool sample) const noexcept {
    if (moments.sum.special) return std::numeric_limits<double>::quiet_NaN();
    // (count * sum of squares - sum^2) / (count * (count - 1))
    std::uint64_t limbs[2 + kSize] = {}, number[kSumLimbs];
    auto& total = *reinterpret_cast<std::uint64_t(*)[kSize]>(limbs + 2);
    const auto add = [&](const FloatSum& sum, int shift) {
        const bool negative = sums_.magnitude(sum, number);
        add_shifted(total, number, shift, negative);
    };
    add(moments.squares, -1074 - kUnit);
    add(moments.rests, -1074 - kUnit);
    if (moments.extreme != 0) {
        const Extreme& extreme = *extremes_[moments.extreme - 1];
        add(extreme.large, -1074 + 1200 - kUnit);
        add(extreme.large_rests, -1074 + 1200 - kUnit);
        add(extreme.small, -1074 - 1200 - kUnit);
        add(extreme.small_rests, -1074 - 1200 - kUnit);
    }
    const std::uint64_t count = moments.sum.count;
    static_cast<void>(multiply(total, kSize, count));
    sums_.magnitude(moments.sum, number);
    subtract_square(total, number);
    if (std::all_of(total, std::end(total), [](std::uint64_t limb) { return limb == 0; })) return 0.0;
    const std::uint64_t rest = divide(limbs, std::size(limbs), count);
    const bool more = divide(limbs, std::size(limbs), sample ? count - 1 : count) != 0;
    return nearest(limbs, std::size(limbs), kUnit - 128, more || rest != 0, false);
}

// A state: of the sum, the squares, their rests and, where there are any, of the extreme ones, each behind its length (2 bytes).
void MomentSums::write(Moments& moments, std::vector<std::uint8_t>& out) {
    const auto append = [&](FloatSum& sum) {
        const std::size_t place = out.size();
        out.resize(place + 2);
        sums_.write(sum, out);
        const auto size = static_cast<std::uint16_t>(out.size() - place - 2);
        std::memcpy(out.data() + place, &size, 2);
    };
    for (FloatSum* const sum : {&moments.sum, &moments.squares, &moments.rests}) append(*sum);
    if (moments.extreme == 0) return;
    Extreme& mine = extreme(moments);
    for (FloatSum* const sum : {&mine.large, &mine.large_rests, &mine.small, &mine.small_rests}) append(*sum);
}

bool MomentSums::merge(Moments& moments, const std::uint8_t* state, std::size_t size) {
    const auto next = [&](FloatSum& sum) {
        std::uint16_t length;
        if (size < 2) return false;
        std::memcpy(&length, state, 2);
        if (size - 2 < length || !sums_.merge(sum, state + 2, length)) return false;
        state += 2 + length;
        size -= 2 + length;
        return true;
    };
    if (!next(moments.sum) || !next(moments.squares) || !next(moments.rests)) return false;
    if (size == 0) return true;
    Extreme& mine = extreme(moments);
    return next(mine.large) && next(mine.large_rests) && next(mine.small) && next(mine.small_rests) && size == 0;
}

}  // namespace mmflow
