// NDJSON: from bytes to columns. One object of RFC 8259 a line; whatever is not plain (broken records, fields that are
// not known where all must be, keys with escapes, values in rare spellings or of another type) is left to the reference
// decoder, mmflow/formats/ndjson.py.
#pragma once
#include "rows.h"

namespace mmflow {

// A field of the top level by its name.
struct JsonKey {
    Text name;
    int slot;  // number among the fields that are read; -1: known, but not read
};

struct JsonSpec {
    const JsonKey* keys;
    std::size_t key_count;
    bool closed;    // a key that is not among them is odd
    int slots;
    const Target* targets;  // their `field` is a slot
    std::size_t target_count;
    const Filter* filters;  // likewise
    std::size_t filter_count;
    bool located;  // also give where each row's line begins
};

// Structural positions of one chunk, kept between calls so that memory is asked for once.
struct JsonScratch {
    Bytes entries;   // uint32: positions (ndjson_index.inl.h)
    Bytes slots;     // uint32: entry at which the value of each slot of each record begins; 0: it has none
    Bytes begins;    // uint32: of each record's line
    Bytes records;   // uint32: numbers of records
    Bytes selected;  // uint32: of those that met the filters
    void release() noexcept {
        entries.release();
        slots.release();
        begins.release();
        records.release();
        selected.release();
    }
};

// Records whose lines begin before `stop`, as far as their line ends are there; `final`: the file ends where `data`
// does. `columns` has one for each target, `offsets` takes int64. On kIrregular, at `consumed` begins the line of the
// odd record.
using JsonDecode = RecordsResult (*)(const JsonSpec& spec, const std::uint8_t* data, std::size_t size,
                                     std::size_t stop, bool final, JsonScratch& scratch, Column* columns,
                                     Bytes& offsets) noexcept;

}  // namespace mmflow
