// Odd CSV made canonical: comments, ragged rows, trimmed and escaped values, several line ends, and repairs, by the rules
// of mmflow/formats/csv/normal.py. The CSV kernel decodes the result.
//
//   raw        # comment | 1, "x" | 2 | 3,"a"b",c
//   canonical              1,"x" | 2,NULL | 3,"a""b"
//   pieces     where in the raw text each part of the canonical text comes from: runs of lines as they are, and records
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/column.h"
#include "common/status.h"

namespace mmflow {

// Unquoted text that means null in canonical text, whatever else does.
constexpr std::uint8_t kNullText = 0x1d;

// The longest delimiter that is looked for 64 bytes at a time.
constexpr std::size_t kLongestDelimiter = 16;

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

    // Whether lines with all their fields are canonical as they are.
    bool by_line() const noexcept {
        return delimiter.size == 1 && delimiter.data[0] == out_delimiter && escape < 0 && !trim &&
               (quote < 0 || quote == out_quote);
    }
};

// Kinds of repairs: `REPAIRS` of mmflow/formats/csv/normal.py.
enum RepairKind { kInnerQuote = 1, kAfterQuote, kAroundQuote, kOpenQuote, kReturn, kFilled, kDropped, kKept };

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

    // Each returns false where there is no memory.
    bool add_piece(std::size_t out, std::size_t begin, std::size_t end, bool same) noexcept {
        return add(pieces, piece_count, out, begin, end, same);
    }
    bool add_broken(std::size_t begin, std::size_t end, int code, std::size_t fields, std::size_t record) noexcept {
        return add(broken, broken_count, begin, end, code, fields, record);
    }
    bool add_repair(std::size_t begin, std::size_t end, std::size_t record, std::size_t field, int kind,
                    std::size_t fields) noexcept {
        return add(repairs, repair_count, begin, end, record, field, kind, fields);
    }

   private:
    template <typename... Values>
    static bool add(Bytes& table, std::size_t& count, Values... values) noexcept {
        const std::int64_t row[] = {static_cast<std::int64_t>(values)...};
        if (!table.reserve((count + 1) * sizeof row)) return false;
        std::memcpy(table.data + count++ * sizeof row, row, sizeof row);
        return true;
    }
};

// Canonical text, and the number of its records; broken ones, which it need not hold, are counted, too.
struct NormalOutput {
    std::uint8_t* data;
    std::size_t capacity;
    std::size_t size = 0;
    std::size_t records = 0;
};

// Writes regular records from `at` on, which is not in a comment, and leaves `at` in front of one that is not regular, or
// for which there is no room. They begin before `stop`. Returns false where there is no memory.
using WriteRegular = bool (*)(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                              bool final, std::size_t& at, NormalOutput& out, NormalTables& tables) noexcept;

// Returns the offset of the line end of a comment, or of the data's end.
inline std::size_t comment_end(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t at) noexcept {
    const auto* newline = static_cast<const std::uint8_t*>(std::memchr(data + at, '\n', size - at));
    const std::size_t end = newline == nullptr ? size : static_cast<std::size_t>(newline - data);
    if (!spec.returns) return end;
    const auto* cr = static_cast<const std::uint8_t*>(std::memchr(data + at, '\r', end - at));
    return cr == nullptr ? end : static_cast<std::size_t>(cr - data);
}

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
NormalResult normalise(const NormalSpec& spec, WriteRegular write_regular, const std::uint8_t* data, std::size_t size,
                       std::size_t stop, bool final, std::uint8_t* out, std::size_t capacity, NormalScratch& scratch,
                       NormalTables& tables) noexcept;

}  // namespace mmflow
