// 64 bytes in four NEON registers (AArch64).
#pragma once
#include <arm_neon.h>

#include <bit>
#include <cstdint>

#define MMFLOW_ARCH neon

namespace mmflow::neon {

struct Block {
    uint8x16_t part[4];

    static Block load(const std::uint8_t* p) noexcept {
        return {{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
    }

    // Bit i: byte i equals c.
    std::uint64_t eq(std::uint8_t c) const noexcept {
        const uint8x16_t pattern = vdupq_n_u8(c);
        return joined(vceqq_u8(part[0], pattern), vceqq_u8(part[1], pattern), vceqq_u8(part[2], pattern),
                      vceqq_u8(part[3], pattern));
    }

    // Bit i: byte i equals table[its low four bits]; the table holds 16 bytes of ASCII.
    std::uint64_t in_table(const std::uint8_t* table) const noexcept {
        const uint8x16_t pattern = vld1q_u8(table), nibble = vdupq_n_u8(15);
        const auto in = [&](uint8x16_t v) noexcept { return vceqq_u8(vqtbl1q_u8(pattern, vandq_u8(v, nibble)), v); };
        return joined(in(part[0]), in(part[1]), in(part[2]), in(part[3]));
    }

    // Bit i: byte i is less than c, which is 1 to 128.
    std::uint64_t below(std::uint8_t c) const noexcept {
        const uint8x16_t limit = vdupq_n_u8(c);
        return joined(vcltq_u8(part[0], limit), vcltq_u8(part[1], limit), vcltq_u8(part[2], limit),
                      vcltq_u8(part[3], limit));
    }

    // Bit i: byte i is c or more; c is 128 to 255.
    std::uint64_t at_least(std::uint8_t c) const noexcept {
        const uint8x16_t limit = vdupq_n_u8(c);
        return joined(vcgeq_u8(part[0], limit), vcgeq_u8(part[1], limit), vcgeq_u8(part[2], limit),
                      vcgeq_u8(part[3], limit));
    }

    // Every byte with these bits set.
    Block with(std::uint8_t bits) const noexcept {
        const uint8x16_t pattern = vdupq_n_u8(bits);
        return {{vorrq_u8(part[0], pattern), vorrq_u8(part[1], pattern), vorrq_u8(part[2], pattern),
                 vorrq_u8(part[3], pattern)}};
    }

    // The bits of both.
    Block operator|(const Block& other) const noexcept {
        return {{vorrq_u8(part[0], other.part[0]), vorrq_u8(part[1], other.part[1]), vorrq_u8(part[2], other.part[2]),
                 vorrq_u8(part[3], other.part[3])}};
    }

    // The lesser of each two bytes.
    Block least(const Block& other) const noexcept {
        return {{vminq_u8(part[0], other.part[0]), vminq_u8(part[1], other.part[1]), vminq_u8(part[2], other.part[2]),
                 vminq_u8(part[3], other.part[3])}};
    }

    // Whether any byte equals c: cheaper than the bits of `eq`.
    bool has(std::uint8_t c) const noexcept {
        const uint8x16_t pattern = vdupq_n_u8(c);
        const uint8x16_t ab = vorrq_u8(vceqq_u8(part[0], pattern), vceqq_u8(part[1], pattern));
        const uint8x16_t cd = vorrq_u8(vceqq_u8(part[2], pattern), vceqq_u8(part[3], pattern));
        return vmaxvq_u8(vorrq_u8(ab, cd)) != 0;
    }

    // Bit i: byte i is not ASCII.
    std::uint64_t high() const noexcept {
        const uint8x16_t limit = vdupq_n_u8(0x80);
        return joined(vcgeq_u8(part[0], limit), vcgeq_u8(part[1], limit), vcgeq_u8(part[2], limit),
                      vcgeq_u8(part[3], limit));
    }

   private:
    // One bit of each byte, by three pairwise additions (as in simdjson's neon_to_bitmask).
    static std::uint64_t joined(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) noexcept {
        const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
        const uint8x16_t ab = vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
        const uint8x16_t cd = vpaddq_u8(vandq_u8(c, bits), vandq_u8(d, bits));
        const uint8x16_t sum = vpaddq_u8(ab, cd);
        return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
    }
};

// Bit i of the result: parity of bits 0..i.
inline std::uint64_t prefix_xor(std::uint64_t x) noexcept {
    for (int shift = 1; shift < 64; shift <<= 1) x ^= x << shift;
    return x;
}

// Number of the lowest set bit; undefined if none is set.
inline std::uint32_t lowest_bit(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(__builtin_ctzll(x | 1ull << 63)); }

// The low bits of `pattern`, in order, at the bits of `mask`.
inline std::uint64_t deposit(std::uint64_t pattern, std::uint64_t mask) noexcept {
    std::uint64_t out = 0;
    for (; mask != 0; mask &= mask - 1, pattern >>= 1) out |= mask & (~mask + 1) & (~(pattern & 1) + 1);
    return out;
}

}  // namespace mmflow::neon

#include "simd/positions.inl.h"

namespace mmflow::neon {

// As `write_positions`, for blocks with many bits.
inline std::uint32_t* write_many_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    return write_positions(out, bits, base);
}

}  // namespace mmflow::neon
