#include "program/primitives.h"

#if defined(__AVX512BW__)
#define MMFLOW_PROGRAM_ARCH avx512
#define MMFLOW_PROGRAM_NAME "avx512"
#include "program/primitives.inl.h"

namespace mmflow::program {
extern const Primitives* const kAvx512Primitives = &avx512::kTable;
}  // namespace mmflow::program
#else
namespace mmflow::program {
extern const Primitives* const kAvx512Primitives = nullptr;
}  // namespace mmflow::program
#endif
