#include "csv/known.h"

#if defined(__AVX2__)
#include "simd/arch_avx2.h"
#include "csv/known.inl.h"

namespace mmflow {
extern const CsvKnown kAvx2CsvKnown = avx2::csv_known;
}  // namespace mmflow
#else
namespace mmflow {
extern const CsvKnown kAvx2CsvKnown = nullptr;
}  // namespace mmflow
#endif
