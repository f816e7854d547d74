// What the kernels of records are asked for: columns, and conditions by which rows may be left out.
#pragma once
#include <cstddef>
#include <cstdint>

#include "column.h"
#include "status.h"

namespace mmflow {

// A field that is wanted as a column.
struct Target {
    int field;
    Type type;
};

// A condition on a field that every row of interest meets; rows that surely don't are left out. Null never meets one.
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
    std::size_t consumed = 0;  // bytes up to the first record that was not read
    std::size_t records = 0;   // read, filtered ones included
    std::size_t rows = 0;      // of the columns
    std::size_t lines = 0;     // newlines within `consumed`
};

}  // namespace mmflow
