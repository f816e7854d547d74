// Conversion of fields to columns, compiled once for each instruction set; shared by CSV and NDJSON.
//
// A kernel's `Rows` finds the text of a field. It is passed by value, since the bytes of columns may alias anything
// else. It has:
//   place(field), Cell cell(record, place)   the field's text
//   FieldState field_state<kind>(cell)   whether that is a value, null, or needs the fallback
//   bool texts_are_bytes()   whether all text is UTF-8 and differs from no value by quotes or escapes
//   Status write_text(column, cell, out, base)
//   Status append(column, record, field, base)   of nested columns; kNested: whether there are any
//   void use_style(style)   of columns that are not spelled as usual; kJson: there are none, nor leading zeros
//   bool load_plain<tails>(records, count, place, batch)   loads fields without a branch; false: none; not where kJson
//   bool write_plain(records, count, place, out, base, empty)   writes text, but for nulls, without a branch; likewise
#pragma once
#include <type_traits>

#include "simd/blocks.inl.h"
#include "simd/parse_numbers.inl.h"
#include "common/rows.h"
#include "common/styles.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

enum class FieldState { kValue, kNull, kNeedsFallback };

// Text of a field. `escaped`: the value differs from the bytes (doubled quotes, backslashes).
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

// Parses whole numbers, dates, times and decimals to 64 bits.
template <Kind kKind>
inline bool parse_whole(const Type& type, const Cell& c, std::int64_t& out) noexcept {
    if constexpr (kKind != Kind::kDate32 && kKind != Kind::kTime32 && kKind != Kind::kTime64 &&
                  kKind != Kind::kTimestamp) {
        if (type.exact && has_leading_zero(c.p, c.n)) return false;
    }
    if constexpr (kKind >= Kind::kInt8 && kKind <= Kind::kInt64) {
        constexpr int size = static_cast<int>(kKind) - static_cast<int>(Kind::kInt8);
        return parse_int(c.p, c.n, c.room, kLow[size], kHigh[size], out);
    } else if constexpr (kKind >= Kind::kUInt8 && kKind <= Kind::kUInt64) {
        std::uint64_t value = 0;
        const bool ok = parse_uint(c.p, c.n, c.room, kTop[static_cast<int>(kKind) - static_cast<int>(Kind::kUInt8)], value);
        out = static_cast<std::int64_t>(value);  // its bits
        return ok;
    } else if constexpr (kKind == Kind::kDate32) {
        std::int32_t days = 0;
        const bool ok = parse_date(c.p, c.n, days);
        out = days;
        return ok;
    } else if constexpr (kKind == Kind::kDecimal128) {
        return parse_decimal(c.p, c.n, c.room, type.digits, type.scale, out);
    } else if constexpr (kKind == Kind::kTime32 || kKind == Kind::kTime64) {
        return parse_time(c.p, c.n, type.digits, out);
    } else {
        static_assert(kKind == Kind::kTimestamp);
        return parse_timestamp(c.p, c.n, type.digits, type.zoned, out);
    }
}

// Digits of whole numbers that every float32, float64 represents.
constexpr std::size_t kWholeDigits[] = {7, 15};

// Parses floats.
template <class T>
MMFLOW_INLINE bool parse_real(const Type& type, const Cell& c, T& out) noexcept {
    constexpr bool wide = sizeof(T) == 8;
    if (type.exact && (has_leading_zero(c.p, c.n) || has_more_digits(c.p, c.n, kWholeDigits[wide]))) return false;
    if constexpr (wide) {
        return parse_double(c.p, c.n, c.room, out);
    } else {
        return parse_float(c.p, c.n, out);
    }
}

// Parses whole numbers, dates, times and decimals that are not spelled as usual.
template <Kind kKind>
inline bool parse_styled_whole(const Type& type, const Cell& c, std::int64_t& out) noexcept {
    if constexpr (kKind == Kind::kDate32 || kKind == Kind::kTime32 || kKind == Kind::kTime64 || kKind == Kind::kTimestamp) {
        const Style& style = *type.style;
        if (style.form_count == 0 && style.epoch < 0 && style.clock.count == 0) return parse_whole<kKind>(type, c, out);
        return parse_styled_time<kKind>(type, c.p, c.n, c.room, out);
    } else {
        std::uint8_t text[kNumberBytes] = {};
        std::size_t size = 0;
        if (!respell_number(*type.style, c.p, c.n, text, size)) return false;
        return parse_whole<kKind>(type, {text, size, kNumberBytes, c.quoted, false}, out);
    }
}

// Parses floats that are not spelled as usual.
template <class T>
inline bool parse_styled_real(const Type& type, const Cell& c, T& out) noexcept {
    std::uint8_t text[kNumberBytes] = {};
    std::size_t size = 0;
    if (!respell_number(*type.style, c.p, c.n, text, size)) return false;
    return parse_real(type, {text, size, kNumberBytes, c.quoted, false}, out);
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

// Calls visit with whether values of the type have a style of their own; those of JSON have none.
template <class Rows, class Visit>
inline auto with_style(const Type& type, Visit&& visit) noexcept {
    if constexpr (!Rows::kJson) {
        if (type.style != nullptr) return visit(std::true_type{});
    }
    return visit(std::false_type{});
}

template <Kind kKind>
constexpr std::size_t kWidth = Type{kKind}.width();

// Writes a value; false where its text needs the fallback.
template <Kind kKind, bool kStyled>
inline bool write_value(const Type& type, const Cell& c, std::uint8_t* out) noexcept {
    if constexpr (kKind == Kind::kFloat64) {
        double value = 0;
        const bool ok = kStyled ? parse_styled_real(type, c, value) : parse_real(type, c, value);
        std::memcpy(out, &value, 8);
        return ok;
    } else if constexpr (kKind == Kind::kFloat32) {
        float value = 0;
        const bool ok = kStyled ? parse_styled_real(type, c, value) : parse_real(type, c, value);
        std::memcpy(out, &value, 4);
        return ok;
    } else {
        std::int64_t value = 0;
        const bool ok = kStyled ? parse_styled_whole<kKind>(type, c, value) : parse_whole<kKind>(type, c, value);
        if constexpr (kKind == Kind::kDecimal128) {
            const std::int64_t sign = value >> 63;
            std::memcpy(out, &value, 8);
            std::memcpy(out + 8, &sign, 8);
        } else {
            std::memcpy(out, &value, kWidth<kKind>);  // little endian: the low bytes are the value
        }
        return ok;
    }
}

// Writes a value into row `row`, which is not null.
template <Kind kKind, bool kStyled, class Rows>
MMFLOW_INLINE Status write_one(const Rows& rows, const Cell& c, const Type& type, Column& column, std::size_t row,
                               std::uint8_t* out, const std::uint8_t* base) noexcept {
    if constexpr (kKind == Kind::kString) {
        return rows.write_text(column, c, out, base);
    } else if constexpr (kKind == Kind::kBool) {
        bool value = false;
        if constexpr (kStyled) {
            const Style& style = *type.style;
            const bool is_true = is_one_of(style.trues, style.true_count, c.p, c.n);
            if (is_true || is_one_of(style.falses, style.false_count, c.p, c.n)) {
                column.set_bit(row, is_true);
                return Status::kDone;
            }
        }
        if (!parse_bool(c.p, c.n, value) || (type.exact && c.n == 1)) return Status::kNeedsFallback;
        column.set_bit(row, value);
        return Status::kDone;
    } else {
        return write_value<kKind, kStyled>(type, c, out) ? Status::kDone : Status::kNeedsFallback;
    }
}

// End of a pass over records.
struct Pass {
    std::size_t done;  // records
    Status status = Status::kDone;
};

template <Kind kKind, bool kExact>
inline void parse_number_lanes(Batch& batch) noexcept {
    if constexpr (kKind == Kind::kFloat64) {
        parse_real_lanes<kExact>(batch);
    } else if constexpr (kKind >= Kind::kUInt8) {
        constexpr int size = static_cast<int>(kKind) - static_cast<int>(Kind::kUInt8);
        parse_whole_lanes<false, kExact>(batch, 0, size < 3 ? static_cast<std::int64_t>(kTop[size]) : INT64_MAX);
    } else {
        constexpr int size = static_cast<int>(kKind) - static_cast<int>(Kind::kInt8);
        parse_whole_lanes<true, kExact>(batch, kLow[size], kHigh[size]);
    }
}

// Parses a field of up to kBatch records at once; returns whether all are ok. The others are for the functions above.
template <Kind kKind, bool kStyled, class Rows, class Place>
inline bool read_batch(const Rows& rows, const std::uint32_t* records, std::size_t count, Place place, const Type& type,
                       Batch& batch) noexcept {
    bool loaded = false;
    if constexpr (!kStyled && !Rows::kJson) loaded = rows.template load_plain<kKind == Kind::kDate32>(records, count, place, batch);
    for (std::size_t i = loaded ? count : 0; i < count; ++i) {
        const Cell c = rows.cell(records[i], place);
        batch.length[i] = rows.template field_state<kKind>(c) == FieldState::kValue ? c.n : 0;
        batch.word[i] = load8(c.p, c.room);
        if constexpr (kKind == Kind::kDate32) {
            batch.tail[i] = c.room >= 10 ? c.p[8] | static_cast<std::uint64_t>(c.p[9]) << 8 : 0;
        }
        if constexpr (kStyled) {
            const Style& style = *type.style;
            if constexpr (kKind == Kind::kDate32) {
                if (style.form_count) {
                    const bool arranged = batch.length[i] && arrange_date(style.forms[0].layout, c.p, c.n, batch.word[i], batch.tail[i]);
                    batch.length[i] = arranged ? 10 : 0;
                }
            } else if constexpr (kKind == Kind::kFloat64) {
                if (style.decimal == ',') batch.word[i] = swap_points(batch.word[i]);
            }
        }
    }
    if constexpr (kKind == Kind::kDate32) {
        parse_date_lanes(batch);
    } else if (type.exact && !Rows::kJson) {
        parse_number_lanes<kKind, true>(batch);
    } else {
        parse_number_lanes<kKind, false>(batch);
    }
    std::uint64_t ok = 1;
    for (std::size_t i = 0; i < count; ++i) ok &= batch.ok[i];
    return ok != 0;
}

// Converts a field of `count` records into rows from `row` on.
template <Kind kKind, bool kStyled, class Rows>
inline Pass convert(Rows rows, const std::uint32_t* records, std::size_t count, int field, Column& column,
                    std::size_t row, const std::uint8_t* base) noexcept {
    constexpr std::size_t width = kWidth<kKind>;
    const std::size_t limit = row + count;
    // Copies: the compiler must assume that `out` aliases the column.
    const Type type = column.type;
    if constexpr (kStyled) rows.use_style(*type.style);
    const auto place = rows.place(field);
    bool nulls = column.validity.data != nullptr;
    std::uint8_t* out = column.values.data + row * width;
    // Converts one record.
    const auto one = [&](std::size_t i, Status& status) noexcept {
        const Cell c = rows.cell(records[i], place);
        const FieldState state = rows.template field_state<kKind>(c);
        if (state != FieldState::kValue) [[unlikely]] {
            status = state == FieldState::kNeedsFallback ? Status::kNeedsFallback
                     : column.set_null(row + i, limit) ? Status::kDone : Status::kNoMemory;
            nulls = true;
            return;
        }
        if (nulls) column.set_valid(row + i);
        status = write_one<kKind, kStyled>(rows, c, type, column, row + i, out + i * width, base);
    };
    Status status = Status::kDone;
    if constexpr (kBatched<kKind>) {
        Batch batch;
        for (std::size_t begin = 0; begin < count; begin += kBatch) {
            const std::size_t n = count - begin < kBatch ? count - begin : kBatch;
            const bool ok = read_batch<kKind, kStyled>(rows, records + begin, n, place, type, batch);
            // Little endian: the low bytes are the value.
            for (std::size_t i = 0; i < n; ++i) std::memcpy(out + (begin + i) * width, &batch.value[i], width);
            if (ok && !nulls) continue;
            for (std::size_t i = 0; i < n; ++i) {
                if (batch.ok[i]) {
                    if (nulls) column.set_valid(row + begin + i);
                    continue;
                }
                one(begin + i, status);
                if (status != Status::kDone) [[unlikely]] return {begin + i, status};
            }
        }
    } else {
        for (std::size_t begin = 0; begin < count; begin += kBatch) {
            const std::size_t end = count - begin < kBatch ? count : begin + kBatch;
            bool written = false, empty = false;
            if constexpr (kKind == Kind::kString && !Rows::kJson)
                written = rows.write_plain(records + begin, end - begin, place, out + begin * width, base, empty);
            if (written && !empty && !nulls) continue;
            for (std::size_t i = begin; i < end; ++i) {
                std::uint32_t size = 0;
                if (written) std::memcpy(&size, out + i * width, 4);
                if (size != 0) {
                    if (nulls) column.set_valid(row + i);
                    continue;
                }
                one(i, status);
                if (status != Status::kDone) [[unlikely]] return {i, status};
            }
        }
    }
    return {count};
}

constexpr std::size_t kMostSimilar = 4;  // texts that are compared by their first bytes

inline bool is_one_of(const Filter& filter, const Cell& c) noexcept {
    return is_one_of(filter.texts, filter.text_count, c.p, c.n);
}

// Keeps those of `count` records whose text has the length and the first bytes of one of the filter's, or whose value may be no
// text; returns how many. For rows whose texts are their bytes.
template <class Rows>
inline std::size_t keep_similar(const Rows& rows, const Filter& filter, std::uint32_t* records, std::size_t count) noexcept {
    const auto place = rows.place(filter.field);
    const std::size_t text_count = filter.text_count;
    std::uint64_t words[kMostSimilar], masks[kMostSimilar], sizes[kMostSimilar];
    for (std::size_t t = 0; t < text_count; ++t) {
        const Text& text = filter.texts[t];
        sizes[t] = text.size;
        masks[t] = low_bits(8 * text.size);
        words[t] = load8(text.data, text.size) & masks[t];
    }
    std::size_t n = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t record = records[i];
        const Cell c = rows.cell(record, place);
        const std::uint64_t word = load8(c.p, c.room);
        std::uint64_t similar = Rows::kJson && !c.quoted;
        for (std::size_t t = 0; t < text_count; ++t) similar |= ((word & masks[t]) == words[t]) & (c.n == sizes[t]);
        records[n] = record;
        n += similar;
    }
    return n;
}

// Keeps those of `count` records that may meet the filter, `kept` in number.
template <Kind kKind, bool kStyled, class Rows>
inline Pass apply_filter(Rows rows, const Filter& filter, std::uint32_t* records, std::size_t count,
                         std::size_t& kept) noexcept {
    if constexpr (kStyled) rows.use_style(*filter.type.style);
    const auto place = rows.place(filter.field);
    if constexpr (kKind == Kind::kString) {
        if (filter.test == Filter::Test::kText && filter.text_count <= kMostSimilar && rows.texts_are_bytes()) {
            count = keep_similar(rows, filter, records, count);
        }
    }
    std::size_t n = 0;
    Pass pass{count};
    // Whether the record is kept; means nothing where it is not ok.
    const auto one = [&](std::uint32_t record, bool& ok) noexcept {
        const Cell c = rows.cell(record, place);
        const FieldState state = rows.template field_state<kKind>(c);
        ok = state != FieldState::kNeedsFallback;
        if (state != FieldState::kValue) return false;
        if constexpr (kKind == Kind::kString) {
            ok = rows.is_text(c);
            return filter.test != Filter::Test::kText || c.escaped || is_one_of(filter, c);
        } else if constexpr (kKind == Kind::kFloat64) {
            double value = 0;
            ok = kStyled ? parse_styled_real(filter.type, c, value) : parse_real(filter.type, c, value);
            return filter.test == Filter::Test::kNotNull || (value >= filter.real_low && value <= filter.real_high);
        } else if constexpr (kKind == Kind::kFloat32 || kKind == Kind::kBool) {
            ok = false;  // not pushed
            return false;
        } else {
            std::int64_t value = 0;
            ok = kStyled ? parse_styled_whole<kKind>(filter.type, c, value) : parse_whole<kKind>(filter.type, c, value);
            if (kKind == Kind::kUInt64 && value < 0) return true;  // beyond the bounds' range
            return filter.test == Filter::Test::kNotNull || (value >= filter.low && value <= filter.high);
        }
    };
    const auto stop_at = [&](std::size_t i) noexcept { pass = {i, Status::kNeedsFallback}; };
    bool ok = true;
    if constexpr (kBatched<kKind>) {
        Batch batch;
        for (std::size_t begin = 0; begin < count && ok; begin += kBatch) {
            const std::size_t size = count - begin < kBatch ? count - begin : kBatch;
            const bool all_ok = read_batch<kKind, kStyled>(rows, records + begin, size, place, filter.type, batch);
            if (filter.test == Filter::Test::kNotNull) {
                std::memset(batch.value, 1, sizeof batch.value);
            } else if constexpr (kKind == Kind::kFloat64) {
                compare_lanes(batch, filter.real_low, filter.real_high);
            } else {
                compare_lanes(batch, filter.low, filter.high);
            }
            for (std::size_t i = 0; i < size; ++i) {
                const std::uint32_t record = records[begin + i];
                bool keep = batch.value[i] != 0;
                if (!all_ok && !batch.ok[i]) {
                    keep = one(record, ok);
                    if (!ok) [[unlikely]] {
                        stop_at(begin + i);
                        break;
                    }
                }
                records[n] = record;
                n += keep;
            }
        }
    } else {
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint32_t record = records[i];
            const bool keep = one(record, ok);
            if (!ok) [[unlikely]] {
                stop_at(i);
                break;
            }
            records[n] = record;
            n += keep;
        }
    }
    kept = n;
    return pass;
}

// The records of a chunk that become rows.
struct Selection {
    const std::uint32_t* records;
    std::size_t count;
    Status status = Status::kDone;  // else rows end before record `first_unread`
    std::uint32_t first_unread = 0;

    void cut(const std::uint32_t* at, std::size_t kept, Status why) noexcept {
        first_unread = *at;
        count = kept;
        status = why;
    }
};

// Copies the selected records to `kept`, and leaves out those that fail some filter.
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
            return with_style<Rows>(filter.type, [&](auto styled) noexcept {
                std::size_t left = 0;
                const Pass ended = apply_filter<decltype(kind)::value, decltype(styled)::value>(rows, filter, kept,
                                                                                               selected.count, left);
                count = left;
                return ended;
            });
        });
        // `kept` is compacted up to the record that needs the fallback, which is still in its place.
        if (pass.status != Status::kDone) selected.cut(kept + pass.done, count, pass.status);
        selected.count = count;
    }
}

// Converts all columns of the selected records into rows from `row` on; `expected`: estimate of all rows in the end.
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
            nested = column.type.nested() || column.type.json();
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
                return with_style<Rows>(column.type, [&](auto styled) noexcept {
                    return convert<decltype(kind)::value, decltype(styled)::value>(
                        rows, selected.records, selected.count, targets[t].field, column, row, base);
                });
            });
        }
        if (pass.status == Status::kNoMemory) {
            selected.status = pass.status;
            return;
        }
        if (pass.status != Status::kDone) selected.cut(selected.records + pass.done, pass.done, pass.status);
    }
}

// Writes where the selected records begin, for rows from `row` on; `begins` are offsets in the chunk at `at`. Returns
// false where there is no memory.
inline bool write_offsets(Bytes& offsets, std::size_t row, const Selection& selected, const std::uint32_t* begins,
                         std::size_t at) noexcept {
    if (!offsets.reserve((row + selected.count) * 8)) return false;
    auto* out = reinterpret_cast<std::int64_t*>(offsets.data) + row;
    for (std::size_t i = 0; i < selected.count; ++i) out[i] = static_cast<std::int64_t>(at + begins[selected.records[i]]);
    return true;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
