#include "simd/dispatch.h"

#if 1
#include "simd/arch_scalar.h"
#include "csv/regular.inl.h"
#include "csv/csv.inl.h"
#include "encodings/encodings.inl.h"
#include "json/extract.inl.h"
#include "json/walk.inl.h"
#include "lines/lines.inl.h"
#include "ndjson/ndjson.inl.h"
#include "views.inl.h"

namespace mmflow {
namespace {
constexpr Kernels kTable{"scalar", scalar::csv_decode, scalar::lines_decode, scalar::json_decode,
                         scalar::json_walk, scalar::json_extract, scalar::text_views, scalar::text_translate, scalar::text_bound, scalar::text_locate,
                         scalar::write_regular};
}  // namespace
extern const Kernels* const kScalarKernels = &kTable;
}  // namespace mmflow
#else
namespace mmflow {
extern const Kernels* const kScalarKernels = nullptr;
}  // namespace mmflow
#endif
