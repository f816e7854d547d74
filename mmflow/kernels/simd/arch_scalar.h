// 64 bytes in plain C++, eight at a time: runs everywhere, and defines what the others must do.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#define MMFLOW_ARCH scalar

namespace mmflow::scalar {

struct Block {
    std::uint64_t word[8];

    static Block load(const std::uint8_t* p) noexcept {
        Block b;
        std::memcpy(b.word, p, 64);
        return b;
    }

    // Bit i: byte i equals c.
    std::uint64_t eq(std::uint8_t c) const noexcept {
        const std::uint64_t pattern = 0x0101010101010101ull * c;
        std::uint64_t mask = 0;
        for (int i = 0; i < 8; ++i) {
            const std::uint64_t x = word[i] ^ pattern;
            // 0x80 in each zero byte, exactly (no borrow between bytes).
            const std::uint64_t zero = ~(((x & kLow7) + kLow7) | x | kLow7);
            mask |= gathered(zero) << (8 * i);
        }
        return mask;
    }

    // Bit i: byte i equals table[its low four bits]; the table holds 16 bytes of ASCII.
    std::uint64_t in_table(const std::uint8_t* table) const noexcept {
        std::uint8_t bytes[64];
        std::memcpy(bytes, word, 64);
        std::uint64_t mask = 0;
        for (int i = 0; i < 64; ++i) mask |= static_cast<std::uint64_t>(table[bytes[i] & 15] == bytes[i]) << i;
        return mask;
    }

    // Bit i: byte i is less than c, which is 1 to 128.
    std::uint64_t below(std::uint8_t c) const noexcept {
        const std::uint64_t up = 0x0101010101010101ull * static_cast<std::uint8_t>(0x80 - c);
        std::uint64_t mask = 0;
        for (int i = 0; i < 8; ++i) mask |= gathered(~(((word[i] & kLow7) + up) | word[i]) & ~kLow7) << (8 * i);
        return mask;
    }

    // Bit i: byte i is c or more; c is 128 to 255.
    std::uint64_t at_least(std::uint8_t c) const noexcept {
        const std::uint64_t up = 0x0101010101010101ull * static_cast<std::uint8_t>(0x100 - c);
        std::uint64_t mask = 0;
        for (int i = 0; i < 8; ++i) mask |= gathered(((word[i] & kLow7) + up) & word[i] & ~kLow7) << (8 * i);
        return mask;
    }

    // Every byte with these bits set.
    Block with(std::uint8_t bits) const noexcept {
        Block b;
        for (int i = 0; i < 8; ++i) b.word[i] = word[i] | 0x0101010101010101ull * bits;
        return b;
    }

    // The bits of both.
    Block operator|(const Block& other) const noexcept {
        Block b;
        for (int i = 0; i < 8; ++i) b.word[i] = word[i] | other.word[i];
        return b;
    }

    // The lesser of each two bytes.
    Block least(const Block& other) const noexcept {
        std::uint8_t a[64], b[64];
        std::memcpy(a, word, 64);
        std::memcpy(b, other.word, 64);
        for (int i = 0; i < 64; ++i) a[i] = a[i] < b[i] ? a[i] : b[i];
        return load(a);
    }

    // Whether any byte equals c.
    bool has(std::uint8_t c) const noexcept { return eq(c) != 0; }

    // Bit i: byte i is not ASCII.
    std::uint64_t high() const noexcept {
        std::uint64_t mask = 0;
        for (int i = 0; i < 8; ++i) mask |= gathered(word[i] & ~kLow7) << (8 * i);
        return mask;
    }

   private:
    static constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7full;

    // The top bits of eight bytes as one byte.
    static std::uint64_t gathered(std::uint64_t tops) noexcept { return ((tops >> 7) * 0x0102040810204080ull) >> 56; }
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

}  // namespace mmflow::scalar

#include "simd/positions.inl.h"

namespace mmflow::scalar {

// As `write_positions`, for blocks with many bits.
inline std::uint32_t* write_many_positions(std::uint32_t* out, std::uint64_t bits, std::uint32_t base) noexcept {
    return write_positions(out, bits, base);
}

}  // namespace mmflow::scalar
