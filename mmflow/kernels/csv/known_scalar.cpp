#include "csv/known.h"

#include "simd/arch_scalar.h"
#include "csv/known.inl.h"

namespace mmflow {
extern const CsvKnown kScalarCsvKnown = scalar::csv_known;
}  // namespace mmflow
