// Input and result of the record kernels: the columns to read, and conditions by which rows may be left out.
#pragma once
#include <cstddef>
#include <cstdint>

#include "common/column.h"
#include "common/status.h"

namespace mmflow {

// A field to read as a column.
struct Target {
    int field;
    Type type;
};

// A condition on a field. Rows that certainly fail it are left out; null always fails.
struct Filter {
    enum class Test : int { kNotNull, kInt, kReal, kText };
    int field;
    Type type;
    Test test;
    std::int64_t low, high;      // kInt: closed range of whole numbers, days, last places, units
    double real_low, real_high;  // kReal: closed range
    const Text* texts;           // kText: equal to one of these
    std::size_t text_count;
};

// A call ends early once its columns hold enough: `most_bytes` (0: it never does), or kBatchRows rows of kBatchText bytes
// of text at least. So few calls read a file, whatever is left of its rows, and no batch is large.
constexpr std::size_t kBatchRows = 128 << 10;
constexpr std::size_t kBatchText = 4 << 20;

inline bool is_full(std::size_t most_bytes, const Column* columns, std::size_t count, std::size_t rows,
                    std::size_t consumed) noexcept {
    if (most_bytes == 0 || count == 0) return false;
    if (rows >= kBatchRows && consumed >= kBatchText) return true;
    std::size_t total = 0;
    for (std::size_t i = 0; i < count; ++i) total += columns[i].bytes(rows);
    return total >= most_bytes;
}

// Estimates the rows of a call, a little high, from the `count` rows of the first `length` of `size` bytes.
inline std::size_t expected_rows(std::size_t most_bytes, const Target* targets, std::size_t target_count, std::size_t count,
                                 std::size_t length, std::size_t size) noexcept {
    const std::size_t expected = count + count * (size / (length ? length : 1)) * 17 / 16;
    if (most_bytes == 0) return expected;
    std::size_t width = 0;
    for (std::size_t i = 0; i < target_count; ++i) width += targets[i].type.width();
    // Enough for the chunk that fills it.
    const std::size_t most = most_bytes / (width ? width : 1) + 2 * count;
    return expected < most ? expected : most;
}

struct RecordsResult {
    Status status = Status::kDone;
    std::size_t consumed = 0;  // bytes before the first unread record
    std::size_t records = 0;   // read, filtered ones included
    std::size_t rows = 0;      // of the columns
    std::size_t lines = 0;     // newlines within `consumed`
};

}  // namespace mmflow
