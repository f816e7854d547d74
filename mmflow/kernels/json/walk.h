// Records of JSON documents: one pass over the bytes finds where the records begin and end that are at a path
// ($.data[*]), and copies each as one line of NDJSON, which the kernel of ndjson/ decodes.
//
//   {"data": [ {"a": 1,          level 0: documents; 1: the object {"data": ...}; 2: the list, whose items are records
//               "b": 2}, ...     copied as {"a": 1, "b": 2}
//
// Only the way to the records is checked here. Of a record, brackets and quotes are counted; of what lies beside the
// path, too. The reference is mmflow/formats/json/walk.py.
#pragma once
#include "common/column.h"
#include "common/status.h"

namespace mmflow {

// A step of the path: every item of a list, or the value of a key of an object.
struct JsonStep {
    bool item;
    Text key;
};

// What comes next at a level.
enum class JsonPhase : int {
    kValue = 0,  // a value
    kKey = 1,    // a key of an object
    kAfter = 2,  // a value has ended: a comma, or the bracket that closes
    kSkip = 3,   // inside of a list or object beside the path
};

// Where a walk is between two calls.
struct JsonCursor {
    int level = 0;  // steps whose lists and objects are open
    JsonPhase phase = JsonPhase::kValue;
    bool first = true;    // nothing has come since the bracket that opened the level
    bool matched = true;  // the value is on the path
    std::int64_t depth = 0;      // kSkip: open brackets
    std::uint64_t inside = 0;    // kSkip: all ones inside of text
    std::uint64_t escape = 0;    // kSkip: the byte before escapes the next
};

enum class JsonProblem : int {
    kNone = 0,
    kEnds = 1,         // the document ends too early
    kUnexpected = 2,   // another byte than those that the phase allows
    kNoContainer = 3,  // the value on the path is of another kind than its step
    kNoMemory = 4,
};

struct JsonWalked {
    std::size_t consumed = 0;  // bytes that need not come again
    bool at_record = false;    // a record begins there, at `stop` or behind it
    std::size_t records = 0;
    std::size_t lines = 0;     // newlines within `consumed`
    std::size_t written = 0;   // bytes of `lines_out`
    JsonProblem problem = JsonProblem::kNone;
    std::size_t problem_at = 0;
};

struct JsonWalkOut {
    Bytes lines;   // the records, a line each
    Bytes places;  // int64 of each record: begin and end in the data, begin in `lines`
    bool copies;   // else neither is written
    void release() noexcept {
        lines.release();
        places.release();
    }
};

// Walks over the records that begin before `stop`, up to the begin of the next one. `final`: the file ends where `data`
// does. `cursor` is of the first byte, then of `consumed`.
using JsonWalk = JsonWalked (*)(const JsonStep* steps, std::size_t step_count, JsonCursor& cursor,
                                const std::uint8_t* data, std::size_t size, std::size_t stop, bool final,
                                JsonWalkOut& out) noexcept;

}  // namespace mmflow
