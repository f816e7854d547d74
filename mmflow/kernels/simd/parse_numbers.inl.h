// SIMD parsing of short values by the batch, compiled once for each instruction set: loops without branches over arrays,
// which compilers vectorize. Longer text, and rarer spellings, are not ok here, and left to values.inl.h.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/column.h"
#include "common/values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kBatch = 64;

// Kinds that are parsed by the batch.
template <Kind kKind>
constexpr bool kBatched = (kKind >= Kind::kInt8 && kKind <= Kind::kInt64) ||
                          (kKind >= Kind::kUInt8 && kKind <= Kind::kUInt64) || kKind == Kind::kFloat64 ||
                          kKind == Kind::kDate32;

struct Batch {
    alignas(64) std::uint64_t word[kBatch];    // the first eight bytes; those behind the text are arbitrary
    alignas(64) std::uint64_t length[kBatch];  // of the text; 0: no value
    alignas(64) std::uint64_t tail[kBatch];    // the last two of ten bytes
    alignas(64) std::uint64_t sign[kBatch];    // as the top bit
    alignas(64) std::uint64_t places[kBatch];  // digits behind the point, up to 15
    alignas(64) std::uint64_t value[kBatch];   // the bits of a whole number or of a double
    alignas(64) std::uint64_t ok[kBatch];    // 1; 0: the value means nothing
};

// Combines bytes that are all at most 9 (up to eight, the first lowest, moved to the top) to a number, by shifts, which
// every vector unit has for 64 bits, and one product of 32.
MMFLOW_INLINE std::uint64_t combine_digits(std::uint64_t digits) noexcept {
    const std::uint64_t pairs = ((digits << 3) + (digits << 1) + (digits >> 8)) & 0x00ff00ff00ff00ffull;
    const std::uint64_t fours = ((pairs << 6) + (pairs << 5) + (pairs << 2) + (pairs >> 16)) & 0x0000ffff0000ffffull;
    return (fours & 0xffffffffull) * 10000u + (fours >> 32);
}

// Whether all bytes are at most 9. Exact: a byte that carries into the next has its own top bit set.
MMFLOW_INLINE bool are_digits(std::uint64_t bytes) noexcept {
    return (((bytes + 0x7676767676767676ull) | bytes) & 0x8080808080808080ull) == 0;
}

// Parses 1 to 8 digits, with a sign where kSigned, within [low, high]; where kExact, without leading zeros.
template <bool kSigned, bool kExact>
inline void parse_whole_lanes(Batch& b, std::int64_t low, std::int64_t high) noexcept {
    for (std::size_t i = 0; i < kBatch; ++i) {
        const std::uint64_t negative = (b.word[i] & 0xff) == '-';
        const std::uint64_t n = b.length[i] - negative;  // huge without text
        const std::uint64_t text = (b.word[i] >> (8 * negative)) ^ kZeros;
        const std::uint64_t digits = text << ((64 - 8 * n) & 63);
        const auto value = static_cast<std::int64_t>((combine_digits(digits) ^ (~negative + 1)) + negative);
        b.value[i] = static_cast<std::uint64_t>(value);
        b.ok[i] = (n - 1 < 8) & are_digits(digits) & (b.length[i] <= 8) & (kSigned | (negative == 0)) & (value >= low) & (value <= high) &
                    (!kExact | ((text & 0xff) != 0) | (n < 2));
    }
}

// Parses an optional sign and digits with at most one point between them, 8 bytes at most, by one exact division (see
// parse_double). kExact: as above.
template <bool kExact>
inline void parse_real_lanes(Batch& b) noexcept {
    for (std::size_t i = 0; i < kBatch; ++i) {
        const std::uint64_t negative = (b.word[i] & 0xff) == '-';
        const std::uint64_t n = b.length[i] - negative;  // huge without text
        // The text is in the top bytes, with zeros below.
        const std::uint64_t front = (b.word[i] >> (8 * negative)) ^ kZeros;
        const std::uint64_t text = front << ((64 - 8 * n) & 63);
        const std::uint64_t x = text ^ 0x1e1e1e1e1e1e1e1eull;  // a point is '0' ^ 0x1e
        const std::uint64_t points = (x - 0x0101010101010101ull) & ~x & 0x8080808080808080ull;
        const std::uint64_t point = points & (~points + 1);  // the lowest is found exactly; none: 0
        const std::uint64_t has = point != 0;
        const std::uint64_t behind = ~((point << 1) - 1);  // bytes
        const std::uint64_t digits = ((text & ((point >> 7) - 1)) << (8 * has)) | (text & behind);
        const std::uint64_t bits = behind & 0x0101010101010101ull;
        const std::uint64_t halves = bits + (bits >> 32), quarters = halves + (halves >> 16);
        const std::uint64_t places = (quarters + (quarters >> 8)) & 15;
        b.places[i] = places;
        b.sign[i] = negative << 63;
        b.value[i] = combine_digits(digits) | 0x4330000000000000ull;  // as the last bits of 2^52
        b.ok[i] = (n - 1 < 8) & (n - has - places - 1 < 8) & (point >> 63 == 0) & are_digits(digits) & (b.length[i] <= 8) &
                    (!kExact | ((front & 0xff) != 0) | ((front & 0xffff) == 0x1e00) | (n < 2));
    }
    for (std::size_t i = 0; i < kBatch; ++i) {
        const double value = (std::bit_cast<double>(b.value[i]) - 0x1p52) / kPower10Double[b.places[i]];
        b.value[i] = std::bit_cast<std::uint64_t>(value) | b.sign[i];
    }
}

inline void parse_date_lanes(Batch& b) noexcept {
    for (std::size_t i = 0; i < kBatch; ++i) {
        std::uint64_t days = 0;
        const bool ok = days_since_1970(b.word[i], b.tail[i], days);
        b.value[i] = days;
        b.ok[i] = ok & (b.length[i] == 10);
    }
}

// Replaces values by 1 where they are within [low, high], else by 0.
inline void compare_lanes(Batch& b, std::int64_t low, std::int64_t high) noexcept {
    for (std::size_t i = 0; i < kBatch; ++i) {
        const auto value = static_cast<std::int64_t>(b.value[i]);
        b.value[i] = (value >= low) & (value <= high);
    }
}

inline void compare_lanes(Batch& b, double low, double high) noexcept {
    for (std::size_t i = 0; i < kBatch; ++i) {
        const double value = std::bit_cast<double>(b.value[i]);
        b.value[i] = (value >= low) & (value <= high);
    }
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
