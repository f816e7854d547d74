// Loops over the rows that count: not null, and chosen by a filter.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "aggregate/arrays.h"

namespace mmflow {

// 64 bits from bit `at` on; bits at and beyond `end` are zero.
inline std::uint64_t bits_at(const std::uint8_t* bits, std::size_t at, std::size_t end) noexcept {
    std::uint64_t made = 0;
    const std::size_t first = at / 8, last = (end + 7) / 8;
    const int shift = static_cast<int>(at % 8);
    std::memcpy(&made, bits + first, last - first < 8 ? last - first : 8);
    made >>= shift;
    if (shift && last - first > 8) made |= static_cast<std::uint64_t>(bits[first + 8]) << (64 - shift);
    return end - at < 64 ? made & ((1ull << (end - at)) - 1) : made;
}

// Calls `each(row)` for the rows below `rows` that are valid in `column` and true in `filter`, where there are these.
template <class Each>
void for_each_row(const ArrayView* column, const ArrayView* filter, std::size_t rows, Each&& each) {
    const bool nulls = column != nullptr && column->validity != nullptr;
    if (!nulls && filter == nullptr) {
        for (std::size_t row = 0; row < rows; ++row) each(row);
        return;
    }
    for (std::size_t begin = 0; begin < rows; begin += 64) {
        const std::size_t count = rows - begin < 64 ? rows - begin : 64;
        std::uint64_t wanted = count == 64 ? ~0ull : (1ull << count) - 1;
        const auto with = [&](const std::uint8_t* bits, std::size_t offset) {
            wanted &= bits_at(bits, offset + begin, offset + rows);
        };
        if (nulls) with(column->validity, column->offset);
        if (filter != nullptr) with(filter->values, filter->offset);
        if (filter != nullptr && filter->validity != nullptr) with(filter->validity, filter->offset);
        if (wanted == ~0ull) {
            for (std::size_t row = begin; row < begin + 64; ++row) each(row);
            continue;
        }
        for (; wanted; wanted &= wanted - 1) each(begin + static_cast<std::size_t>(std::countr_zero(wanted)));
    }
}

}  // namespace mmflow
