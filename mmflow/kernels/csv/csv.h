// Decoding of CSV to columns, by the rules of mmflow/formats/csv/structure.py. Everything unusual (broken records, stray
// quotes, values in rare spellings) needs the fallback, the reference decoder.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/rows.h"

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
    bool located;  // also return where each row's record begins
    bool quoted_null = false;  // texts that mean null do so in quotes, too
    std::size_t most_bytes = 0;  // of columns, see is_full
};

// Structural positions of one chunk, kept between calls, so that they are allocated once.
struct CsvScratch {
    Bytes layout;    // field starts that are kept
    Bytes starts;    // uint32: where fields start
    Bytes records;   // uint32: number of each record's first field
    Bytes selected;  // uint32: records that met the filters
    void release() noexcept {
        layout.release();
        starts.release();
        records.release();
        selected.release();
    }
};

// Decodes the complete records that begin before `stop`; `final`: the file ends where `data` does. `columns` has one for
// each target, `offsets` takes int64. On kNeedsFallback, `consumed` is where the record begins that needs it.
using CsvDecode = RecordsResult (*)(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                                bool final, CsvScratch& scratch, Column* columns, Bytes& offsets) noexcept;

}  // namespace mmflow
