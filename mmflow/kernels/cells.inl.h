// From fields to columns, compiled once for each instruction set: what CSV and NDJSON have in common.
//
// A kernel's `Rows` says what stands in a field; it is passed by value, since what columns are written through may
// alias anything else. It has:
//   Cell cell(record, field)          the field's text
//   Meaning meaning<kind>(cell)       is that a value, null, or only for the reference decoder to judge
//   Status write_text(column, cell, out, base)
//   Status append(column, record, field, base)   of nested columns; kNested says whether there are any
#pragma once
#include <type_traits>

#include "blocks.inl.h"
#include "rows.h"
#include "values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

enum class Meaning { kValue, kNull, kOdd };

// What stands in a field. `escaped`: the text is not what the bytes are (doubled quotes, backslashes).
struct Cell {
    const std::uint8_t* p;
    std::size_t n;
    std::size_t room;  // bytes from p on that may be read
    bool quoted;
    bool escaped;
};

constexpr std::int64_t kLow[] = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN};
constexpr std::int64_t kHigh[] = {INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX};
constexpr std::uint64_t kTop[] = {UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX};

// Whole numbers, dates, times and decimals, as 64 bits.
template <Kind kKind>
inline bool parse_whole(const Type& type, const Cell& c, std::int64_t& out) noexcept {
    if constexpr (kKind >= Kind::kInt8 && kKind <= Kind::kInt64) {
        constexpr int size = static_cast<int>(kKind) - static_cast<int>(Kind::kInt8);
        return parse_int(c.p, c.n, c.room, kLow[size], kHigh[size], out);
    } else if constexpr (kKind >= Kind::kUInt8 && kKind <= Kind::kUInt64) {
        std::uint64_t value = 0;
        const bool sure = parse_uint(c.p, c.n, c.room, kTop[static_cast<int>(kKind) - static_cast<int>(Kind::kUInt8)], value);
        out = static_cast<std::int64_t>(value);  // at most 18 digits: no sign is lost
        return sure;
    } else if constexpr (kKind == Kind::kDate32) {
        std::int32_t days = 0;
        const bool sure = parse_date(c.p, c.n, days);
        out = days;
        return sure;
    } else if constexpr (kKind == Kind::kDecimal128) {
        return parse_decimal(c.p, c.n, c.room, type.digits, type.scale, out);
    } else if constexpr (kKind == Kind::kTime32 || kKind == Kind::kTime64) {
        return parse_time(c.p, c.n, type.digits, out);
    } else {
        static_assert(kKind == Kind::kTimestamp);
        return parse_timestamp(c.p, c.n, type.digits, type.zoned, out);
    }
}

// Calls visit with the kind as a constant.
template <class Visit>
inline auto with_kind(Kind kind, Visit&& visit) noexcept {
#define MMFLOW_CASE(k) case Kind::k: return visit(std::integral_constant<Kind, Kind::k>{});
    switch (kind) {
        MMFLOW_CASE(kBool)
        MMFLOW_CASE(kInt8) MMFLOW_CASE(kInt16) MMFLOW_CASE(kInt32) MMFLOW_CASE(kInt64)
        MMFLOW_CASE(kUInt8) MMFLOW_CASE(kUInt16) MMFLOW_CASE(kUInt32) MMFLOW_CASE(kUInt64)
        MMFLOW_CASE(kFloat32) MMFLOW_CASE(kFloat64) MMFLOW_CASE(kDecimal128)
        MMFLOW_CASE(kDate32) MMFLOW_CASE(kTime32) MMFLOW_CASE(kTime64) MMFLOW_CASE(kTimestamp)
        default: return visit(std::integral_constant<Kind, Kind::kString>{});
    }
#undef MMFLOW_CASE
}

template <Kind kKind>
constexpr std::size_t kWidth = Type{kKind}.width();

// Is true, unless the text of a value is only for the reference decoder; `write` takes the value.
template <Kind kKind>
inline bool write_value(const Type& type, const Cell& c, std::uint8_t* out) noexcept {
    if constexpr (kKind == Kind::kFloat64) {
        double value = 0;
        const bool sure = parse_double(c.p, c.n, c.room, value);
        std::memcpy(out, &value, 8);
        return sure;
    } else if constexpr (kKind == Kind::kFloat32) {
        float value = 0;
        const bool sure = parse_float(c.p, c.n, value);
        std::memcpy(out, &value, 4);
        return sure;
    } else {
        std::int64_t value = 0;
        const bool sure = parse_whole<kKind>(type, c, value);
        if constexpr (kKind == Kind::kDecimal128) {
            const std::int64_t sign = value >> 63;
            std::memcpy(out, &value, 8);
            std::memcpy(out + 8, &sign, 8);
        } else {
            std::memcpy(out, &value, kWidth<kKind>);  // little endian: the low bytes are the value
        }
        return sure;
    }
}

// Writes a value into row `row`, which is not null; kIrregular where only the reference decoder may judge it.
template <Kind kKind, class Rows>
MMFLOW_INLINE Status write_one(const Rows& rows, const Cell& c, const Type& type, Column& column, std::size_t row,
                               std::uint8_t* out, const std::uint8_t* base) noexcept {
    if constexpr (kKind == Kind::kString) {
        return rows.write_text(column, c, out, base);
    } else if constexpr (kKind == Kind::kBool) {
        bool value = false;
        if (!parse_bool(c.p, c.n, value)) return Status::kIrregular;
        column.set_bit(row, value);
        return Status::kDone;
    } else {
        return write_value<kKind>(type, c, out) ? Status::kDone : Status::kIrregular;
    }
}

// Where a pass over records came to an end.
struct Pass {
    std::size_t done;  // records
    Status status = Status::kDone;
};

// Converts a field of `count` records into rows from `row` on.
template <Kind kKind, class Rows>
inline Pass convert(const Rows rows, const std::uint32_t* records, std::size_t count, int field, Column& column,
                    std::size_t row, const std::uint8_t* base) noexcept {
    constexpr std::size_t width = kWidth<kKind>;
    const std::size_t limit = row + count;
    // Copies: what is written through `out` might be the column, as far as the compiler knows.
    const Type type = column.type;
    bool nulls = column.validity.data != nullptr;
    std::uint8_t* out = column.values.data + row * width;
    for (std::size_t i = 0; i < count; ++i, ++row, out += width) {
        const Cell c = rows.cell(records[i], field);
        const Meaning meaning = rows.template meaning<kKind>(c);
        if (meaning != Meaning::kValue) [[unlikely]] {
            if (meaning == Meaning::kOdd) return {i, Status::kIrregular};
            if (!column.set_null(row, limit)) return {i, Status::kNoMemory};
            nulls = true;
            continue;
        }
        if (nulls) column.set_valid(row);
        const Status status = write_one<kKind>(rows, c, type, column, row, out, base);
        if (status != Status::kDone) [[unlikely]] return {i, status};
    }
    return {count};
}

inline bool one_of(const Filter& filter, const Cell& c) noexcept {
    for (std::size_t i = 0; i < filter.text_count; ++i) {
        const Text& text = filter.texts[i];
        if (text.size == c.n && std::memcmp(text.data, c.p, c.n) == 0) return true;
    }
    return false;
}

// Leaves in `records` those of `count` that may meet the filter; `kept` says how many.
template <Kind kKind, class Rows>
inline Pass narrow(const Rows rows, const Filter& filter, std::uint32_t* records, std::size_t count,
                   std::size_t& kept) noexcept {
    std::size_t n = 0;
    Pass pass{count};
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t record = records[i];
        const Cell c = rows.cell(record, filter.field);
        const Meaning meaning = rows.template meaning<kKind>(c);
        bool keep = meaning == Meaning::kValue, sure = meaning != Meaning::kOdd;
        if (!keep) {
            // null, or odd
        } else if constexpr (kKind == Kind::kString) {
            if (!rows.is_text(c)) {
                sure = false;
            } else if (filter.test == Filter::Test::kText && !c.escaped) {
                keep = one_of(filter, c);
            }
        } else if constexpr (kKind == Kind::kFloat64) {
            double value = 0;
            sure = parse_double(c.p, c.n, c.room, value);
            keep = filter.test == Filter::Test::kNotNull || (value >= filter.real_low && value <= filter.real_high);
        } else if constexpr (kKind == Kind::kFloat32 || kKind == Kind::kBool) {
            sure = false;  // not pushed
        } else {
            std::int64_t value = 0;
            sure = parse_whole<kKind>(filter.type, c, value);
            keep = filter.test == Filter::Test::kNotNull || (value >= filter.low && value <= filter.high);
        }
        if (!sure) [[unlikely]] {
            pass = {i, Status::kIrregular};
            break;
        }
        records[n] = record;
        n += keep;
    }
    kept = n;
    return pass;
}

// The records of a chunk that become rows.
struct Selection {
    const std::uint32_t* records;
    std::size_t count;
    Status status = Status::kDone;  // else rows end before record `odd`
    std::uint32_t odd = 0;

    void cut(const std::uint32_t* at, std::size_t kept, Status why) noexcept {
        odd = *at;
        count = kept;
        status = why;
    }
};

// Leaves out, of `selected.count` records copied to `kept`, those that some filter drops.
template <class Rows>
inline void filter_records(const Rows& rows, const Filter* filters, std::size_t filter_count, Selection& selected,
                           std::uint32_t* kept) noexcept {
    if (filter_count == 0 || selected.count == 0) return;
    std::memcpy(kept, selected.records, selected.count * 4);
    selected.records = kept;
    for (std::size_t f = 0; f < filter_count; ++f) {
        const Filter& filter = filters[f];
        std::size_t count = 0;
        const Pass pass = with_kind(filter.type.kind, [&](auto kind) noexcept {
            std::size_t left = 0;
            const Pass ended = narrow<decltype(kind)::value>(rows, filter, kept, selected.count, left);
            count = left;
            return ended;
        });
        // `kept` was compacted up to the odd record only, which itself still stands where it did.
        if (pass.status != Status::kDone) selected.cut(kept + pass.done, count, pass.status);
        selected.count = count;
    }
}

// Converts all columns of the selected records into rows from `row` on; `expected`: rows that there may be in the end.
template <class Rows>
inline void convert_columns(const Rows& rows, const Target* targets, std::size_t target_count, Column* columns,
                            std::size_t row, std::size_t expected, const std::uint8_t* base,
                            Selection& selected) noexcept {
    for (std::size_t t = 0; t < target_count; ++t) {
        Column& column = columns[t];
        const std::size_t rows_now = row + selected.count;
        if (!column.reserve(row == 0 && expected > rows_now ? expected : rows_now)) {
            selected.status = Status::kNoMemory;
            return;
        }
        Pass pass{selected.count};
        bool nested = false;
        if constexpr (Rows::kNested) {
            nested = column.type.nested();
            for (std::size_t i = 0; nested && i < selected.count; ++i) {
                const Status status = rows.append(column, selected.records[i], targets[t].field, base);
                if (status != Status::kDone) {
                    pass = {i, status};
                    break;
                }
            }
        }
        if (!nested) {
            pass = with_kind(column.type.kind, [&](auto kind) noexcept {
                return convert<decltype(kind)::value>(rows, selected.records, selected.count, targets[t].field, column,
                                                      row, base);
            });
        }
        if (pass.status == Status::kNoMemory) {
            selected.status = pass.status;
            return;
        }
        if (pass.status != Status::kDone) selected.cut(selected.records + pass.done, pass.done, pass.status);
    }
}

// Gives where the selected records begin, for rows from `row` on: `begins` are offsets in the chunk, which is at `at`.
// False where there is no memory.
inline bool give_offsets(Bytes& offsets, std::size_t row, const Selection& selected, const std::uint32_t* begins,
                         std::size_t at) noexcept {
    if (!offsets.reserve((row + selected.count) * 8)) return false;
    auto* out = reinterpret_cast<std::int64_t*>(offsets.data) + row;
    for (std::size_t i = 0; i < selected.count; ++i) out[i] = static_cast<std::int64_t>(at + begins[selected.records[i]]);
    return true;
}

// Rows that `size` bytes may hold, where `count` stood in the first `length`: a little more than that.
inline std::size_t expected_rows(std::size_t count, std::size_t length, std::size_t size) noexcept {
    return count + count * (size / (length ? length : 1)) * 17 / 16;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
