#include "program/primitives.h"

#if defined(__AVX2__)
#define MMFLOW_PROGRAM_ARCH avx2
#define MMFLOW_PROGRAM_NAME "avx2"
#include "program/primitives.inl.h"

namespace mmflow::program {
extern const Primitives* const kAvx2Primitives = &avx2::kTable;
}  // namespace mmflow::program
#else
namespace mmflow::program {
extern const Primitives* const kAvx2Primitives = nullptr;
}  // namespace mmflow::program
#endif
