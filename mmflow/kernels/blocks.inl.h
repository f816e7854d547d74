// What the kernels share over blocks of 64 bytes, compiled once for each instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mmflow::MMFLOW_ARCH {
namespace {

// Text that is indexed at a time: with its positions it stays in the second level cache.
constexpr std::size_t kChunk = 64 << 10;

inline std::uint64_t low_bits(std::size_t n) noexcept { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// The block at p, of which `left` bytes are there; behind them it is blank.
inline Block load_blank(const std::uint8_t* p, std::size_t left) noexcept {
    if (left >= 64) [[likely]] return Block::load(p);
    std::uint8_t padded[64];
    std::memset(padded, ' ', 64);
    std::memcpy(padded, p, left);
    return Block::load(padded);
}

// A view over text: up to 12 bytes inline, else the first four and where it lies.
inline void write_view(std::uint8_t* out, const std::uint8_t* p, std::size_t n, std::size_t room, std::uint32_t buffer,
                       std::uint32_t offset) noexcept {
    std::uint32_t words[4] = {static_cast<std::uint32_t>(n), 0, 0, 0};
    if (n <= 12) {
        if (room >= 12) [[likely]] {
            std::uint64_t a;
            std::uint32_t b;
            std::memcpy(&a, p, 8);
            std::memcpy(&b, p + 8, 4);
            a &= n >= 8 ? ~0ull : (1ull << (8 * n)) - 1;
            b &= n <= 8 ? 0u : n == 12 ? ~0u : (1u << (8 * (n - 8))) - 1;
            std::memcpy(words + 1, &a, 8);
            words[3] = b;
        } else {
            std::memcpy(words + 1, p, n);
        }
    } else {
        std::memcpy(words + 1, p, 4);
        words[2] = buffer;
        words[3] = offset;
    }
    std::memcpy(out, words, 16);
}

inline std::size_t count_newlines(const std::uint8_t* data, std::size_t size) noexcept {
    std::size_t count = 0, at = 0;
    for (; at + 64 <= size; at += 64) count += static_cast<std::size_t>(__builtin_popcountll(Block::load(data + at).eq('\n')));
    for (; at < size; ++at) count += data[at] == '\n';
    return count;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
