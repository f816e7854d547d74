// Input and result of the record kernels: the columns to read, and conditions by which rows may be left out.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/column.h"
#include "common/status.h"

namespace mmflow {

// A field to read as a column.
struct Target {
    int field;
    Type type;
};

// A condition on a field. Rows that certainly fail it are left out; null always fails.
struct Filter {
    enum class Test : int { kNotNull, kInt, kReal, kText };
    int field;
    Type type;
    Test test;
    std::int64_t low, high;      // kInt: closed range of whole numbers, days, last places, units
    double real_low, real_high;  // kReal: closed range
    const Text* texts;           // kText: equal to one of these
    std::size_t text_count;
};

struct RecordsResult {
    Status status = Status::kDone;
    std::size_t consumed = 0;  // bytes before the first unread record
    std::size_t records = 0;   // read, filtered ones included
    std::size_t rows = 0;      // of the columns
    std::size_t lines = 0;     // newlines within `consumed`
};

}  // namespace mmflow
