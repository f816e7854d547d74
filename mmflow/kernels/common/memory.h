// Reused blocks of memory. A decoder allocates the same few sizes again and again while earlier arrays are freed one by
// one, perhaps on other threads. From malloc, most of these blocks would be new pages, which fault in.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

// Returns at least `needed` bytes, `capacity` in fact, not zeroed; null where there is no memory.
std::uint8_t* allocate_block(std::size_t needed, std::size_t& capacity) noexcept;

// Frees a block for reuse. A process holds at most 32 MiB; the rest goes back to malloc.
void free_block(std::uint8_t* block, std::size_t capacity) noexcept;

}  // namespace mmflow
