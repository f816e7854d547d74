#include "simd/dispatch.h"

#if defined(__AVX2__)
#include "simd/arch_avx2.h"
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
constexpr Kernels kTable{"avx2", avx2::csv_decode, avx2::lines_decode, avx2::json_decode,
                         avx2::json_walk, avx2::json_extract, avx2::text_views, avx2::text_translate, avx2::text_bound, avx2::text_locate,
                         avx2::write_regular};
}  // namespace
extern const Kernels* const kAvx2Kernels = &kTable;
}  // namespace mmflow
#else
namespace mmflow {
extern const Kernels* const kAvx2Kernels = nullptr;
}  // namespace mmflow
#endif
