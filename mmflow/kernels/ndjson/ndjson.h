// Decoding of NDJSON to columns: one object of RFC 8259 a line. Everything unusual (broken records, unknown fields where
// all must be known, keys with escapes, values in rare spellings or of another type) needs the fallback, the reference
// decoder in mmflow/formats/ndjson/format.py.
#pragma once
#include "common/rows.h"

namespace mmflow {

// A field of the top level by its name.
struct JsonKey {
    Text name;
    int slot;  // number among the fields that are read; -1: known, but not read
};

struct JsonSpec {
    const JsonKey* keys;
    std::size_t key_count;
    bool closed;    // a record with another key needs the fallback
    int slots;
    const Target* targets;  // their `field` is a slot
    std::size_t target_count;
    const Filter* filters;  // likewise
    std::size_t filter_count;
    bool located;  // also return where each row's line begins
    int extra = -1;  // slot for unknown fields where `closed`: then these need no fallback
    std::size_t most_bytes = 0;  // of columns, see is_full
};

// Structural positions of one chunk, kept between calls, so that they are allocated once.
struct JsonScratch {
    Bytes entries;   // uint32: positions (ndjson/index.inl.h)
    Bytes slots;     // uint32: entry at which the value of each slot of each record begins; 0: it has none
    Bytes begins;    // uint32: begin of each record's line
    Bytes records;   // uint32: numbers of records
    Bytes selected;  // uint32: records that met the filters
    void release() noexcept {
        entries.release();
        slots.release();
        begins.release();
        records.release();
        selected.release();
    }
};

// Decodes the complete lines that begin before `stop`; `final`: the file ends where `data` does. `columns` has one for
// each target, `offsets` takes int64. On kNeedsFallback, `consumed` is where the line begins that needs it.
using JsonDecode = RecordsResult (*)(const JsonSpec& spec, const std::uint8_t* data, std::size_t size,
                                     std::size_t stop, bool final, JsonScratch& scratch, Column* columns,
                                     Bytes& offsets) noexcept;

}  // namespace mmflow
