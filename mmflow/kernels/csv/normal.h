// Odd CSV made canonical: comments, ragged rows, trimmed and escaped values, several line ends, and repairs, by the rules
// of mmflow/formats/csv/normal.py. The CSV kernel decodes the result.
//
//   raw        # comment | 1, "x" | 2 | 3,"a"b",c
//   canonical              1,"x" | 2,NULL | 3,"a""b"
//   pieces     where in the raw text each part of the canonical text comes from: runs of lines as they are, and records
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/column.h"
#include "common/status.h"

namespace mmflow {

// Unquoted text that means null in canonical text, whatever else does.
constexpr std::uint8_t kNullText = 0x1d;

struct NormalSpec {
    std::size_t fields;  // columns of the file, less the extra one
    Text delimiter;      // empty: runs of blanks
    int quote, escape;   // -2, -3: none
    Text comment;        // empty: none
    bool trim, lenient, returns, trailing;
    bool fill, cut;      // short records get nulls; long ones lose fields
    bool extra;          // ... which become a field of their own, JSON
    bool keep_broken;    // a broken record becomes one of nulls
    bool stop_broken;    // nothing is read behind a broken record
    std::uint8_t out_delimiter, out_quote;
};

// A run of clean lines, and the number of records in them.
struct CleanRun {
    std::size_t end;
    std::size_t records;
};

// Returns the longest run of lines from `at` on that are canonical as they are; they begin before `stop`.
using FindClean = CleanRun (*)(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t at,
                               std::size_t stop) noexcept;

// Tables of int64, in rows.
struct NormalTables {
    Bytes pieces;   // offset in the output, offset and end in the input, 1 where it is the same text, else 0
    Bytes broken;   // offset, end, code (Structure.broken; 4: number of fields), fields, number of the record
    Bytes repairs;  // offset and end of the record, its number, field, kind, fields
    std::size_t piece_count = 0, broken_count = 0, repair_count = 0;
    void release() noexcept {
        pieces.release();
        broken.release();
        repairs.release();
    }
};

// Memory for one record, kept between calls.
struct NormalScratch {
    Bytes fields;  // CutField
    Bytes text;    // values that are not as in the data
    Bytes repairs;
    void release() noexcept {
        fields.release();
        text.release();
        repairs.release();
    }
};

struct NormalResult {
    Status status = Status::kDone;
    std::size_t consumed = 0;  // bytes of the input, up to a record
    std::size_t size = 0;      // of the output
    std::size_t records = 0;   // broken ones included
    std::size_t lines = 0;     // line ends within `consumed`
    std::size_t needed = 0;    // room for the first record, where there was none
};

// Writes the complete records that begin before `stop`; `final`: the file ends where `data` does. Stops early where `out`
// is full.
NormalResult normalise(const NormalSpec& spec, FindClean find_clean, const std::uint8_t* data, std::size_t size,
                       std::size_t stop, bool final, std::uint8_t* out, std::size_t capacity, NormalScratch& scratch,
                       NormalTables& tables) noexcept;

}  // namespace mmflow
