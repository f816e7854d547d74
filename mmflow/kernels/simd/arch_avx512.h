// 64 bytes in one AVX-512 register (BW for comparisons of bytes, VBMI2 for packing them).
#pragma once
#include <immintrin.h>

#include <bit>
#include <cstdint>

#define MMFLOW_ARCH avx512

namespace mmflow::avx512 {

struct Block {
    __m512i bytes;

    static Block load(const std::uint8_t* p) noexcept { return {_mm512_loadu_si512(p)}; }

    // Bit i: byte i equals c.
    std::uint64_t eq(std::uint8_t c) const noexcept {
        return whole(_mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(static_cast<char>(c))));
    }

    // Bit i: byte i equals table[its low four bits]; the table holds 16 bytes of ASCII.
    std::uint64_t in_table(const std::uint8_t* table) const noexcept {
        const __m512i pattern = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        return whole(_mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(pattern, bytes), bytes));
    }

    // Bit i: byte i is less than c, which is 1 to 128.
    std::uint64_t below(std::uint8_t c) const noexcept {
        return whole(_mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(static_cast<char>(c))));
    }

    // Bit i: byte i is c or more; c is 128 to 255.
    std::uint64_t at_least(std::uint8_t c) const noexcept {
        return whole(_mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(static_cast<char>(c))));
    }

    // Every byte with these bits set.
    Block with(std::uint8_t bits) const noexcept {
        return {_mm512_or_si512(bytes, _mm512_set1_epi8(static_cast<char>(bits)))};
    }

    // The bits of both.
    Block operator|(const Block& other) const noexcept { return {_mm512_or_si512(bytes, other.bytes)}; }

    // The lesser of each two bytes.
    Block least(const Block& other) const noexcept { return {_mm512_min_epu8(bytes, other.bytes)}; }

    // Whether any byte equals c.
    bool has(std::uint8_t c) const noexcept { return eq(c) != 0; }

    // Bit i: byte i is not ASCII.
    std::uint64_t high() const noexcept { return whole(_mm512_movepi8_mask(bytes)); }

   private:
    // In a general register: GCC else does sums of bits in mask registers, where they are slow.
    static std::uint64_t whole(std::uint64_t mask) noexcept {
        asm("" : "+r"(mask));
        return mask;
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

// Writes base + i for each bit i, and up to 32 meaningless entries behind them.
inline std::uint32_t* write_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    alignas(64) static constexpr std::uint8_t numbers[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const int count = __builtin_popcountll(bits);
    const __m512i offset = _mm512_set1_epi32(static_cast<int>(base));
    __m512i rest = _mm512_maskz_compress_epi8(bits, _mm512_load_si512(numbers));
    // The first 16 always: whether a block has any, or more than 8, is hard to predict.
    for (int done = 0;;) {
        const __m512i places = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(rest));
        _mm512_storeu_si512(out + done, _mm512_add_epi32(places, offset));
        done += 16;
        if (done >= count) [[likely]] break;
        rest = _mm512_alignr_epi32(_mm512_setzero_si512(), rest, 4);
    }
    return out + count;
}

// As `write_positions`, for blocks with many bits.
inline std::uint32_t* write_many_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    return write_positions(out, bits, base);
}

}  // namespace mmflow::avx512
