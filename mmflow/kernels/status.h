// How a kernel ended. Kernels never throw, print or abort; they return one of these and a byte offset.
#pragma once
#include <cstdint>

namespace mmflow {

enum class Status : int {
    kDone = 0,       // everything asked for was read
    kIrregular = 1,  // at the offset stands a record that only the reference decoder may judge
    kNoMemory = 2,   // malloc gave nothing
};

}  // namespace mmflow
