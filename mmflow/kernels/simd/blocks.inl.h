// Helpers over blocks of 64 bytes, compiled once for each instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/inline.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// Bytes of text that are indexed at a time: with their positions they fit the second level cache.
constexpr std::size_t kChunk = 64 << 10;

constexpr std::size_t kReadAhead = 2 << 10;

inline std::uint64_t low_bits(std::size_t n) noexcept { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// Loads the block at p, of which `left` bytes exist, padded with spaces.
inline Block load_blank(const std::uint8_t* p, std::size_t left) noexcept {
    if (left >= 64) [[likely]] return Block::load(p);
    std::uint8_t padded[64];
    std::memset(padded, ' ', 64);
    std::memcpy(padded, p, left);
    return Block::load(padded);
}

// Has bytes that a pass over blocks reaches soon brought into the cache. Between two chunks, whose bytes are read again and again, the
// processor's own prefetcher loses the stream.
MMFLOW_INLINE void read_ahead(const std::uint8_t* p) noexcept { __builtin_prefetch(p + kReadAhead); }

// Writes a view of text: up to 12 bytes inline, else the first four and its place.
MMFLOW_INLINE void write_view(std::uint8_t* out, const std::uint8_t* p, std::size_t n, std::size_t room, std::uint32_t buffer,
                       std::uint32_t offset) noexcept {
    // As two words: loads of bytes that were stored in parts would stall.
    std::uint64_t low = n, high = 0;
    if (n <= 12) {
        if (room >= 12) [[likely]] {
            std::uint64_t first;
            std::uint32_t last;
            std::memcpy(&first, p, 8);
            std::memcpy(&last, p + 8, 4);
            first &= n >= 8 ? ~0ull : (1ull << (8 * n)) - 1;
            last &= n <= 8 ? 0u : n == 12 ? ~0u : (1u << (8 * (n - 8))) - 1;
            low |= first << 32;
            high = first >> 32 | static_cast<std::uint64_t>(last) << 32;
        } else {
            for (std::size_t i = 0; i < n; ++i) {
                const std::uint64_t byte = p[i];
                if (i < 4) low |= byte << (32 + 8 * i); else high |= byte << (8 * (i - 4));
            }
        }
    } else {
        std::uint32_t prefix;
        std::memcpy(&prefix, p, 4);
        low |= static_cast<std::uint64_t>(prefix) << 32;
        high = buffer | static_cast<std::uint64_t>(offset) << 32;
    }
    std::memcpy(out, &low, 8);
    std::memcpy(out + 8, &high, 8);
}

// Bytes that write_near_view reads from where a text begins.
constexpr std::size_t kViewRoom = 12;

// Writes a view as `write_view` does, of buffer 0, without a branch: whether a text is long is hard to predict.
MMFLOW_INLINE void write_near_view(std::uint8_t* out, const std::uint8_t* p, std::uint32_t n, std::uint32_t offset) noexcept {
    // Bytes of a view's words that are text, by its length up to 12; 13: longer.
    struct Masks {
        std::uint32_t first;
        std::uint64_t rest;
    };
    static constexpr Masks masks[14] = {{0, 0}, {0xff, 0}, {0xffff, 0}, {0xffffff, 0}, {~0u, 0}, {~0u, 0xff}, {~0u, 0xffff},
        {~0u, 0xffffff}, {~0u, 0xffffffff}, {~0u, 0xffffffffff}, {~0u, 0xffffffffffff}, {~0u, 0xffffffffffffff},
        {~0u, ~0ull}, {~0u, 0}};
    const Masks& mask = masks[n < 13 ? n : 13];
    std::uint32_t first;
    std::uint64_t rest;
    std::memcpy(&first, p, 4);
    std::memcpy(&rest, p + 4, 8);
    const std::uint64_t is_long = n > 12;
    const std::uint64_t low = n | static_cast<std::uint64_t>(first & mask.first) << 32;
    const std::uint64_t high = (rest & mask.rest) | ((~is_long + 1) & static_cast<std::uint64_t>(offset) << 32);
    std::memcpy(out, &low, 8);
    std::memcpy(out + 8, &high, 8);
}

inline std::size_t count_newlines(const std::uint8_t* data, std::size_t size) noexcept {
    std::size_t count = 0, at = 0;
    for (; at + 64 <= size; at += 64) count += static_cast<std::size_t>(__builtin_popcountll(Block::load(data + at).eq('\n')));
    for (; at < size; ++at) count += data[at] == '\n';
    return count;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
