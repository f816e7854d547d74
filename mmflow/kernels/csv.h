// CSV: from bytes to columns. The rules are those of mmflow/formats/csv_structure.py; whatever is not plain by them
// (broken records, odd quotes, values in rare spellings) is left to the reference decoder.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rows.h"

namespace mmflow {

struct CsvSpec {
    int fields;
    std::uint8_t delimiter;
    int quote;  // -1: none
    const Target* targets;
    std::size_t target_count;
    const Filter* filters;
    std::size_t filter_count;
    const Text* nulls;  // unquoted texts that mean null
    std::size_t null_count;
    bool located;  // also give where each row's record begins
};

// Structural positions of one chunk, kept between calls so that memory is asked for once.
struct CsvScratch {
    Bytes layout;    // which starts are kept
    Bytes starts;    // uint32: where fields start
    Bytes records;   // uint32: number of each record's first field
    Bytes selected;  // uint32: of those that met the filters
    void release() noexcept {
        layout.release();
        starts.release();
        records.release();
        selected.release();
    }
};

// Records that begin before `stop`, as far as they are complete; `final`: the file ends where `data` does.
// `columns` has one for each target, `offsets` takes int64. On kIrregular, `consumed` is where the odd record begins.
using CsvDecode = RecordsResult (*)(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                                bool final, CsvScratch& scratch, Column* columns, Bytes& offsets) noexcept;

}  // namespace mmflow
