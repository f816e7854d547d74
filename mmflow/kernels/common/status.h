// Result of a kernel. Kernels never throw, print or abort; they return a status and a byte offset.
#pragma once
#include <cstdint>

namespace mmflow {

enum class Status : int {
    kDone = 0,       // everything was read
    kNeedsFallback = 1,  // the record at the offset is for the reference decoder
    kNoMemory = 2,   // malloc failed
};

}  // namespace mmflow
