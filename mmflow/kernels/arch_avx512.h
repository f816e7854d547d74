// 64 bytes in one AVX-512 register (BW for comparisons of bytes).
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
        return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(static_cast<char>(c)));
    }

    // Bit i: byte i equals one of them.
    template <class... Bytes>
    std::uint64_t eq_any(Bytes... c) const noexcept {
        return (eq(static_cast<std::uint8_t>(c)) | ...);
    }

    // Bit i: byte i is less than c, which is 1 to 128.
    std::uint64_t below(std::uint8_t c) const noexcept {
        return _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(static_cast<char>(c)));
    }

    // Every byte with these bits set.
    Block with(std::uint8_t bits) const noexcept {
        return {_mm512_or_si512(bytes, _mm512_set1_epi8(static_cast<char>(bits)))};
    }

    // Bit i: byte i is not ASCII.
    std::uint64_t high() const noexcept { return _mm512_movepi8_mask(bytes); }
};

// Bit i of the result: parity of bits 0..i (carry-less product with all ones).
inline std::uint64_t prefix_xor(std::uint64_t x) noexcept {
    const __m128i product =
        _mm_clmulepi64_si128(_mm_set_epi64x(0, static_cast<long long>(x)), _mm_set1_epi8(-1), 0);
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(product));
}

// Number of the lowest bit; of no bits, any number.
inline std::uint32_t lowest_bit(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(_tzcnt_u64(x)); }

}  // namespace mmflow::avx512
