#include "csv/known.h"

#if defined(__AVX512VBMI2__)
#include "simd/arch_avx512.h"
#include "csv/known.inl.h"

namespace mmflow {
extern const CsvKnown kAvx512CsvKnown = avx512::csv_known;
}  // namespace mmflow
#else
namespace mmflow {
extern const CsvKnown kAvx512CsvKnown = nullptr;
}  // namespace mmflow
#endif
