#include "simd/dispatch.h"

#if defined(__AVX512VBMI2__)
#include "simd/arch_avx512.h"
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
constexpr Kernels kTable{"avx512", avx512::csv_decode, avx512::lines_decode, avx512::json_decode,
                         avx512::json_walk, avx512::json_extract, avx512::text_views, avx512::text_translate, avx512::text_bound, avx512::text_locate,
                         avx512::write_regular};
}  // namespace
extern const Kernels* const kAvx512Kernels = &kTable;
}  // namespace mmflow
#else
namespace mmflow {
extern const Kernels* const kAvx512Kernels = nullptr;
}  // namespace mmflow
#endif
