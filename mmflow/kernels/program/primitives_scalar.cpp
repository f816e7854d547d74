#include "program/primitives.h"

#if 1
#define MMFLOW_PROGRAM_ARCH scalar
#define MMFLOW_PROGRAM_NAME "scalar"
#include "program/primitives.inl.h"

namespace mmflow::program {
extern const Primitives* const kScalarPrimitives = &scalar::kTable;
}  // namespace mmflow::program
#else
namespace mmflow::program {
extern const Primitives* const kScalarPrimitives = nullptr;
}  // namespace mmflow::program
#endif
