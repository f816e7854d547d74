// Row-wise expressions over Arrow batches: filters and projections as a program of vectorised operations.
//
//     slice of 8192 rows --> conjuncts, each on the rows that the ones before left --> outputs of the rows that are left
//
// A value is a dense vector over the rows of a domain. What a program can't answer as DataFusion does (an overflow, a
// division by zero, a value that does not fit its type), it does not answer at all: kNeedsFallback.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/arrow_c.h"
#include "common/column.h"
#include "common/status.h"

namespace mmflow::program {

// Physical types of values. Booleans are bytes of 0 and 1, text a pointer and a length (`Text`).
enum class Form : int { kBool, kI8, kI16, kI32, kI64, kU8, kU16, kU32, kU64, kF32, kF64, kI128, kText };

// Operations, with their arguments; `plan/native/program.py` has the same numbers.
enum class Op : int {
    kColumn,     // of the batch, by number (`Node::number`)
    kConstant,   // `Node::bytes`; null where these are empty (text: where `number` is 1)
    kEqual, kNotEqual, kLess, kLessEqual,  // floats: all NaN are equal and greatest, -0 is 0
    kDistinct, kNotDistinct,               // likewise, with null as a value
    kAnd, kOr, kNot,                       // of three values
    kIsNull, kIsNotNull, kIsTrue, kIsFalse,
    kAdd, kSubtract, kMultiply,            // integers wrap
    kAddChecked, kSubtractChecked, kMultiplyChecked, kDivide, kModulo,  // may need the fallback; not for floats
    kNegate, kNegateChecked,
    kNanvl,      // the first; the second where that is NaN
    kIf,         // condition, value where it is true, value elsewhere. `number`: bit 0, 1: the value is lazy
    kIn,         // `bytes`: values (text: int32 length, then bytes), `number`: 1 if null is one of them
    kLike,       // `bytes`: tokens of LIKE, see text.h
    kCast,       // between numbers. `number`: 1: values that don't fit are null, else they need the fallback
    kScaleUp,    // of decimals, by 10^number; `limit`: digits of the result, 0: any
    kScaleDown,  // likewise, rounding half away from zero
    kTruncate,   // likewise, rounding to zero
    kFromReal,   // to decimals of `number` places and `limit` digits
    kToReal,     // decimals of `number` places to float64
};

struct Node {
    Op op;
    Form form;                // of the result
    std::vector<int> arguments;  // numbers of earlier nodes
    std::int64_t number = 0;
    int limit = 0;
    bool lenient = false;     // casts and scales: what does not fit is null
    std::string bytes = {};
};

// Layout of a column's values in the batch.
enum class Layout : int { kBits, kFixed, kViews, kOffsets32, kOffsets64 };

struct ColumnSpec {
    Layout layout;
    std::size_t width;  // bytes of a value; 0 for kBits and kOffsets, and where only nulls matter
};

// Column of the result: a node, or a column of the batch as it is (`column` >= 0).
struct OutputSpec {
    int node;
    int column;
};

struct Conjunct {
    int node;
    bool fallible;  // it is computed for all rows of a batch, as DataFusion may do
};

// Array that arrays of a result point into.
class Imported {
   public:
    // Takes the array.
    explicit Imported(ArrowArray& array) noexcept : array_(array) { array.release = nullptr; }
    Imported(const Imported&) = delete;
    Imported& operator=(const Imported&) = delete;
    ~Imported() {
        if (array_.release != nullptr) array_.release(&array_);
    }
    const ArrowArray& array() const noexcept { return array_; }

   private:
    ArrowArray array_;
};

// Columns of the batch that are columns of the result, where every row is left: are they in its array?
enum class Passed { kLeft, kCopied };

struct Result {
    Status status = Status::kDone;
    std::size_t rows = 0;
    bool whole = false;           // every row is left, and columns that pass are not in the array
    ArrowArray* array = nullptr;  // struct of the result's columns
};

// Program with its memory. Not thread-safe. `instruction_set`: name of one of simd/dispatch.h.
class Program {
   public:
    Program(std::vector<ColumnSpec> columns, std::vector<Node> nodes, std::vector<Conjunct> conjuncts,
            std::vector<OutputSpec> outputs, const char* instruction_set);
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    ~Program();

    // Computes the result of a batch of `rows` rows, a struct array that it takes. Its columns are as in the specification.
    Result run(ArrowArray& batch, std::size_t rows, Passed passed) noexcept;

   private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace mmflow::program
