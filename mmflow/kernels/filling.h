// Bytes of a pipe into memory, until that is full: one call for what Python would read in 250 pieces, with the
// interpreter's lock between any two. `PolledReader.read_some` is its reference.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

enum class FillEnd { kFull, kEnd, kLate, kStopped, kFailed };

struct Filled {
    std::size_t size = 0;
    FillEnd end = FillEnd::kFull;
    int error = 0;  // errno
};

// Reads a descriptor into `to` until that is full, the descriptor ends, or `wake` can be read. Returns at the latest so
// many seconds after its first byte came; where bytes came before the call, `seconds` are those that are left.
Filled fill(int descriptor, int wake, std::uint8_t* to, std::size_t size, double seconds, bool came_before) noexcept;

}  // namespace mmflow
