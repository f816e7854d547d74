#include "simd/dispatch.h"

#if defined(__aarch64__)
#include "simd/arch_neon.h"
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
constexpr Kernels kTable{"neon", neon::csv_decode, neon::lines_decode, neon::json_decode,
                         neon::json_walk, neon::json_extract, neon::text_views, neon::text_translate, neon::text_bound, neon::text_locate,
                         neon::write_regular};
}  // namespace
extern const Kernels* const kNeonKernels = &kTable;
}  // namespace mmflow
#else
namespace mmflow {
extern const Kernels* const kNeonKernels = nullptr;
}  // namespace mmflow
#endif
