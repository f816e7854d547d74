// CSV: from bytes to columns. The rules are those of mmflow/formats/csv_structure.py; whatever is not plain by them
// (broken records, odd quotes, values in rare spellings) is left to the reference decoder.
#pragma once
#include <cstddef>
#include <cstdint>

#include "column.h"
#include "status.h"

namespace mmflow {

struct Text {
    const std::uint8_t* data;
    std::size_t size;
};

// A field that is wanted as a column.
struct CsvTarget {
    int field;
    Type type;
};

// A condition on a field that every row of interest meets; rows that surely don't are left out. Null never meets one.
struct CsvFilter {
    enum class Test : int { kNotNull, kInt, kReal, kText };
    int field;
    Type type;
    Test test;
    std::int64_t low, high;        // kInt: closed range of whole numbers, days, last places, units
    double real_low, real_high;    // kReal: closed range
    const Text* texts;             // kText: equal to one of these
    std::size_t text_count;
};

struct CsvSpec {
    int fields;
    std::uint8_t delimiter;
    int quote;  // -1: none
    const CsvTarget* targets;
    std::size_t target_count;
    const CsvFilter* filters;
    std::size_t filter_count;
    const Text* nulls;  // unquoted texts that mean null
    std::size_t null_count;
    bool located;  // also give where each row's record begins
};

struct CsvResult {
    Status status = Status::kDone;
    std::size_t consumed = 0;  // bytes up to the first record that was not read
    std::size_t records = 0;   // read, filtered ones included
    std::size_t rows = 0;      // of the columns
    std::size_t lines = 0;     // newlines within `consumed`
    std::int64_t first = -1;   // offset of the first record
};

// Structural positions of one chunk, kept between calls so that memory is asked for once.
struct CsvScratch {
    Bytes starts;    // uint32: where fields start
    Bytes records;   // uint32: number of each record's first field
    Bytes selected;  // uint32: of those that met the filters
    void release() noexcept {
        starts.release();
        records.release();
        selected.release();
    }
};

// Records that begin before `stop`, as far as they are complete; `final`: the file ends where `data` does.
// `columns` has one for each target, `offsets` takes int64. On kIrregular, `consumed` is where the odd record begins.
using CsvDecode = CsvResult (*)(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                                bool final, CsvScratch& scratch, Column* columns, Bytes& offsets) noexcept;

}  // namespace mmflow
