// Spelling of a column's values in CSV, where it is not the usual one (mmflow/formats/csv/styles.py).
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

struct Text;

// Where the parts of a date of fixed width lie: two digits of day and month, four of the year, up to two other bytes.
struct DateLayout {
    std::uint8_t width = 0;  // 0: the format has no fixed width
    std::uint8_t day = 0, month = 0, year = 0;
    std::uint8_t mark_at[2] = {0, 0};
    std::uint8_t mark[2] = {0, 0};  // 0: none
};

// Format of dates and times, as steps of two bytes (mmflow/formats/csv/strptime.py): an operation and its argument.
struct TimeForm {
    const std::uint8_t* steps;
    std::size_t count;
    DateLayout layout;
};

// Offsets from UTC by wall time, in seconds: that of row i counts from starts[i] up to the next.
struct WallClock {
    static constexpr std::int64_t kNone = INT64_MIN;  // such wall times come twice, never, or are left to the fallback

    const std::int64_t* starts = nullptr;
    const std::int64_t* offsets = nullptr;
    std::size_t count = 0;  // 0: times without an offset are not accepted
};

struct Style {
    bool own_nulls = false;
    const Text* nulls = nullptr;  // texts that mean null in this column
    std::size_t null_count = 0;
    std::uint8_t decimal = '.';
    const std::uint8_t* thousands = nullptr;
    std::size_t thousands_size = 0;  // 0: digits are not grouped
    const Text* trues = nullptr;
    std::size_t true_count = 0;
    const Text* falses = nullptr;
    std::size_t false_count = 0;
    const TimeForm* forms = nullptr;
    std::size_t form_count = 0;
    WallClock clock;
    int epoch = -1;  // decimal places of the unit in which numbers count since 1970; -1: they don't
};

}  // namespace mmflow
