#include "program/primitives.h"

#include <cstring>

namespace mmflow::program {

const Primitives* find_primitives(const char* instruction_set) noexcept {
    for (const Primitives* one : {kAvx512Primitives, kAvx2Primitives}) {
        if (one != nullptr && std::strcmp(one->name, instruction_set) == 0) return one;
    }
    return kScalarPrimitives;
}

}  // namespace mmflow::program
