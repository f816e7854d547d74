#include "simd/dispatch.h"

namespace mmflow {
namespace {

#if defined(__x86_64__)
bool has_avx2() noexcept {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("pclmul");
}

bool has_avx512() noexcept {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vbmi2");
}
#else
bool has_avx2() noexcept { return false; }
bool has_avx512() noexcept { return false; }
#endif

struct Available {
    const Kernels* tables[5] = {};

    Available() noexcept {
        int count = 0;
        if (kAvx512Kernels != nullptr && has_avx512()) tables[count++] = kAvx512Kernels;
        if (kAvx2Kernels != nullptr && has_avx2()) tables[count++] = kAvx2Kernels;
        if (kNeonKernels != nullptr) tables[count++] = kNeonKernels;
        tables[count] = kScalarKernels;
    }
};

}  // namespace

const Kernels* const* available_kernels() noexcept {
    static const Available available;
    return available.tables;
}

}  // namespace mmflow
