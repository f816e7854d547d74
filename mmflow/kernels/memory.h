// Blocks of memory that are used again. A decoder asks for the same few sizes over and over while the arrays that it
// made before go one by one, perhaps on other threads; from malloc, each such block would mostly be fresh pages.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

// At least `needed` bytes, `capacity` says how many; null where there is no memory. Not zeroed.
std::uint8_t* take_block(std::size_t needed, std::size_t& capacity) noexcept;

// Gives a block back. At most 32 MiB are kept in a process, the rest is freed.
void give_block(std::uint8_t* block, std::size_t capacity) noexcept;

}  // namespace mmflow
