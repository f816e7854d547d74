// 64 bytes in two AVX2 registers.
#pragma once
#include <immintrin.h>

#include <bit>
#include <cstdint>

#define MMFLOW_ARCH avx2

namespace mmflow::avx2 {

struct Block {
    __m256i low, high_half;

    static Block load(const std::uint8_t* p) noexcept {
        const auto* q = reinterpret_cast<const __m256i*>(p);
        return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
    }

    // Bit i: byte i equals c.
    std::uint64_t eq(std::uint8_t c) const noexcept {
        const __m256i pattern = _mm256_set1_epi8(static_cast<char>(c));
        return joined(_mm256_cmpeq_epi8(low, pattern), _mm256_cmpeq_epi8(high_half, pattern));
    }

    // Bit i: byte i equals table[its low four bits]; the table holds 16 bytes of ASCII.
    std::uint64_t in_table(const std::uint8_t* table) const noexcept {
        const __m256i pattern = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        return joined(_mm256_cmpeq_epi8(_mm256_shuffle_epi8(pattern, low), low),
                      _mm256_cmpeq_epi8(_mm256_shuffle_epi8(pattern, high_half), high_half));
    }

    // Bit i: byte i is less than c, which is 1 to 128.
    std::uint64_t below(std::uint8_t c) const noexcept {
        const __m256i most = _mm256_set1_epi8(static_cast<char>(c - 1));
        return joined(_mm256_cmpeq_epi8(_mm256_min_epu8(low, most), low),
                      _mm256_cmpeq_epi8(_mm256_min_epu8(high_half, most), high_half));
    }

    // Bit i: byte i is c or more; c is 128 to 255.
    std::uint64_t at_least(std::uint8_t c) const noexcept {
        const __m256i least = _mm256_set1_epi8(static_cast<char>(c));
        return joined(_mm256_cmpeq_epi8(_mm256_max_epu8(low, least), low),
                      _mm256_cmpeq_epi8(_mm256_max_epu8(high_half, least), high_half));
    }

    // Every byte with these bits set.
    Block with(std::uint8_t bits) const noexcept {
        const __m256i pattern = _mm256_set1_epi8(static_cast<char>(bits));
        return {_mm256_or_si256(low, pattern), _mm256_or_si256(high_half, pattern)};
    }

    // The bits of both.
    Block operator|(const Block& other) const noexcept {
        return {_mm256_or_si256(low, other.low), _mm256_or_si256(high_half, other.high_half)};
    }

    // The lesser of each two bytes.
    Block least(const Block& other) const noexcept {
        return {_mm256_min_epu8(low, other.low), _mm256_min_epu8(high_half, other.high_half)};
    }

    // Whether any byte equals c: cheaper than the bits of `eq`.
    bool has(std::uint8_t c) const noexcept {
        const __m256i pattern = _mm256_set1_epi8(static_cast<char>(c));
        return _mm256_movemask_epi8(_mm256_or_si256(_mm256_cmpeq_epi8(low, pattern), _mm256_cmpeq_epi8(high_half, pattern))) != 0;
    }

    // Bit i: byte i is not ASCII.
    std::uint64_t high() const noexcept { return joined(low, high_half); }

   private:
    static std::uint64_t joined(__m256i a, __m256i b) noexcept {
        const auto x = static_cast<std::uint32_t>(_mm256_movemask_epi8(a));
        const auto y = static_cast<std::uint32_t>(_mm256_movemask_epi8(b));
        return static_cast<std::uint64_t>(y) << 32 | x;
    }
};

// Bit i of the result: parity of bits 0..i (carry-less product with all ones).
inline std::uint64_t prefix_xor(std::uint64_t x) noexcept {
    const __m128i product =
        _mm_clmulepi64_si128(_mm_set_epi64x(0, static_cast<long long>(x)), _mm_set1_epi8(-1), 0);
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(product));
}

// Number of the lowest set bit; undefined if none is set.
inline std::uint32_t lowest_bit(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(_tzcnt_u64(x)); }

// The low bits of `pattern`, in order, at the bits of `mask`.
inline std::uint64_t deposit(std::uint64_t pattern, std::uint64_t mask) noexcept { return _pdep_u64(pattern, mask); }

}  // namespace mmflow::avx2

#include "simd/positions.inl.h"

namespace mmflow::avx2 {

// By eight bits: the numbers of those that are set, one a byte.
struct BitNumbers {
    std::uint64_t of[256] = {};

    constexpr BitNumbers() noexcept {
        for (unsigned bits = 0; bits < 256; ++bits) {
            int count = 0;
            for (unsigned i = 0; i < 8; ++i) {
                if (bits >> i & 1) of[bits] |= static_cast<std::uint64_t>(i) << (8 * count++);
            }
        }
    }
};
alignas(64) inline constexpr BitNumbers kBitNumbers;

// As `write_positions`, for blocks with many bits: eight at a time by a table, always in the same time.
inline std::uint32_t* write_many_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    __m256i offset = _mm256_set1_epi32(static_cast<int>(base));
    for (int i = 0; i < 8; ++i) {
        const auto byte = static_cast<std::uint8_t>(bits >> (8 * i));
        const __m128i numbers = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&kBitNumbers.of[byte]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi32(_mm256_cvtepu8_epi32(numbers), offset));
        offset = _mm256_add_epi32(offset, _mm256_set1_epi32(8));
        out += __builtin_popcount(byte);
    }
    return out;
}

}  // namespace mmflow::avx2
