// Records behind their lengths: where each one ends, by following the lengths from one to the next. Its reference is
// the loop in tests/kernels/test_kernels_lengths.py.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

// Writes the ends of the whole records of `data`, at most `capacity` of them, and returns how many there are.
// A length is an unsigned number of `width` bytes (1, 2, 4, 8), and counts those behind itself.
std::size_t follow_lengths(const std::uint8_t* data, std::size_t size, std::size_t width, bool big_endian,
                           std::int64_t* ends, std::size_t capacity) noexcept;

}  // namespace mmflow
