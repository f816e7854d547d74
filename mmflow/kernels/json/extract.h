// Values at a path of texts of JSON: a text is checked against RFC 8259 as a line of NDJSON is, then the path is followed.
//
//   {"a": [1, {"b": "x"}]}    path a, 1, b    "x", as a view of the text
//
// A text that is no JSON, or rare (keys with escapes, brackets deeper than 60, lone surrogates), needs the fallback,
// mmflow/plan/functions/json_values.py.
#pragma once
#include "common/column.h"
#include "common/status.h"
#include "hashing.h"

namespace mmflow {

// A step of a path: the item of a list by its number, from the end where it is negative, or the value of a key.
struct JsonValueStep {
    bool item;
    std::int64_t number;
    Text key;
};

// What is made of the value at the path.
enum class JsonResult : int {
    kText = 0,    // its text without white space around its parts
    kString = 1,  // likewise, but of text without quotes and escapes; null of null
    kType = 2,    // OBJECT, ARRAY, VARCHAR, BOOLEAN, NULL, BIGINT, UBIGINT or DOUBLE
    kLength = 3,  // items of a list, 0 of another value: int64
    kExists = 4,  // nothing: it is valid where there is one
};

// Bytes of a result.
constexpr std::size_t json_width(JsonResult result) noexcept {
    return result == JsonResult::kExists ? 0 : result == JsonResult::kLength ? 8 : 16;
}

struct JsonExtraction {
    const JsonValueStep* steps;
    std::size_t step_count;
    JsonResult result;
};

// A column of text: views of 16 bytes over buffers.
struct JsonTexts {
    const std::uint8_t* views;
    const std::uint8_t* const* buffers;
    std::size_t buffer_count;
    Validity validity;
    std::size_t count;
};

// Results for all texts.
struct JsonExtracted {
    Bytes values;    // views over the buffers of the texts, and `side` behind these; int64 of kLength; empty of kExists
    Bytes validity;  // bits
    Bytes side;      // text that differs from what was read
    std::size_t side_size = 0;
    Bytes fallback;  // int64: numbers of texts that need the fallback; their results are null
    std::size_t fallback_count = 0;
    void release() noexcept {
        values.release();
        validity.release();
        side.release();
        fallback.release();
    }
};

// kDone or kNoMemory.
using JsonExtract = Status (*)(const JsonExtraction& wanted, const JsonTexts& texts, JsonExtracted& out) noexcept;

}  // namespace mmflow
