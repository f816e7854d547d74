#include "csv/known.h"

#include <cstring>

namespace mmflow {
namespace {

bool is_number(Kind kind) noexcept {
    return (kind >= Kind::kInt8 && kind <= Kind::kUInt64) || kind == Kind::kFloat64 || kind == Kind::kDate32;
}

}  // namespace

bool may_be_known(const CsvSpec& spec, std::size_t key) noexcept {
    if (spec.fields < 2 || spec.filter_count != 0 || spec.located || spec.null_count != 1 || spec.nulls[0].size != 0) return false;
    for (std::size_t i = 0; i < spec.target_count; ++i) {
        const Type& type = spec.targets[i].type;
        if (type.style != nullptr || !(i == key ? type.kind == Kind::kString : is_number(type.kind))) return false;
    }
    return true;
}

CsvKnown find_csv_known(const char* instruction_set) noexcept {
    if (kAvx512CsvKnown != nullptr && std::strcmp(instruction_set, "avx512") == 0) return kAvx512CsvKnown;
    if (kAvx2CsvKnown != nullptr && std::strcmp(instruction_set, "avx2") == 0) return kAvx2CsvKnown;
    return kScalarCsvKnown;
}

}  // namespace mmflow
