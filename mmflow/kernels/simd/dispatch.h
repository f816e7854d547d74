// Tables of kernels, one for each instruction set, and the choice of those that this machine runs.
#pragma once
#include "csv/csv.h"
#include "csv/normal.h"
#include "encodings/encodings.h"
#include "json/extract.h"
#include "json/walk.h"
#include "lines/lines.h"
#include "ndjson/ndjson.h"
#include "views.h"

namespace mmflow {

struct Kernels {
    const char* name;
    CsvDecode csv_decode;
    LinesDecode lines_decode;
    JsonDecode json_decode;
    JsonWalk json_walk;
    JsonExtract json_extract;
    TextViews text_views;
    TextTranslate text_translate;
    TextBound text_bound;
    TextLocate text_locate;
    WriteRegular write_regular;
};

// Defined in isa_*.cpp; null where the instruction set was not compiled in.
extern const Kernels* const kScalarKernels;
extern const Kernels* const kAvx2Kernels;
extern const Kernels* const kAvx512Kernels;
extern const Kernels* const kNeonKernels;

// Tables that run here, the fastest first, ending with a null.
const Kernels* const* available_kernels() noexcept;

}  // namespace mmflow
