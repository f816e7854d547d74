// One table of kernels for each instruction set, and which of them this machine runs.
#pragma once
#include "csv.h"
#include "lines.h"
#include "ndjson.h"
#include "views.h"

namespace mmflow {

struct Kernels {
    const char* name;
    CsvDecode csv_decode;
    LinesDecode lines_decode;
    JsonDecode json_decode;
    TextViews text_views;
};

// Defined in isa_*.cpp; null where the instruction set was not compiled in.
extern const Kernels* const kScalarKernels;
extern const Kernels* const kAvx2Kernels;
extern const Kernels* const kAvx512Kernels;
extern const Kernels* const kNeonKernels;

// Those that run here, the fastest first; ends with a null.
const Kernels* const* available_kernels() noexcept;

}  // namespace mmflow
