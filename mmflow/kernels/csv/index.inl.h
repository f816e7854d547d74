// The structure of CSV, compiled once for each instruction set.
//
//   index     one pass over blocks of 64 bytes: where fields start (simdjson's stage 1; Langdale and Lemire, 2019,
//             "Parsing gigabytes of JSON per second"). As long as every line has all its fields, it holds only the
//             fields that are read: one bit deposit a block leaves out the others, and another checks that every
//             `fields`-th end, and no other, is a newline.
//   records   every `fields`-th field start begins a record: checked, not searched
#pragma once
#include "simd/blocks.inl.h"
#include "csv/csv.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kNone = ~std::size_t{0};

// Field starts of a record that are kept: the record's own, and the begin and end of each field that is read.
struct Layout {
    std::size_t width = 0;            // of each record
    bool even = false;                // all lines so far have all their fields, so starts can be left out
    const std::uint64_t* kept;        // by number of a start in its record: bits of that and the next 63, set where kept
    const std::uint64_t* first;       // ... set where it begins a record
    const std::uint32_t* wrapped;     // by number plus up to 64: that number in its record
    const std::uint32_t* place;       // by field: number among the kept, or by line the field itself
    const std::uint32_t* identity;
};

inline bool plan_layout(const CsvSpec& spec, Bytes& memory, Layout& layout) noexcept {
    const auto fields = static_cast<std::size_t>(spec.fields);
    if (!memory.reserve(fields * 16 + (fields + 64) * 4 + fields * 8)) return false;
    auto* kept = reinterpret_cast<std::uint64_t*>(memory.data);
    auto* first = kept + fields;
    auto* wrapped = reinterpret_cast<std::uint32_t*>(first + fields);
    auto* place = wrapped + fields + 64;
    auto* identity = place + fields;
    std::memset(place, 0, fields * 4);
    const auto keep = [&](int field) { place[field] = place[(field + 1) % spec.fields] = 1; };
    place[0] = 1;
    for (std::size_t i = 0; i < spec.target_count; ++i) keep(spec.targets[i].field);
    for (std::size_t i = 0; i < spec.filter_count; ++i) keep(spec.filters[i].field);
    std::uint64_t bits = 0, begins = 0;
    for (std::size_t i = 64 + fields; i-- > 0;) {
        bits = bits << 1 | place[i % fields];
        begins = begins << 1 | (i % fields == 0);
        if (i < fields) {
            kept[i] = bits;
            first[i] = begins;
        }
    }
    for (std::size_t i = 0; i < fields + 64; ++i) wrapped[i] = static_cast<std::uint32_t>(i % fields);
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < fields; ++i) {
        const std::uint32_t number = count;
        count += place[i];
        place[i] = number;
        identity[i] = static_cast<std::uint32_t>(i);
    }
    // A line with a single field may be blank, so such lines are checked one by one.
    layout = {count, fields > 1, kept, first, wrapped, place, identity};
    return true;
}

struct Index {
    std::size_t fields = 0;       // field starts, the first one included; each ends where the next starts, less one
    std::size_t newlines = 0;     // that end records
    bool even = true;             // every record has its fields; else the starts are invalid
    std::uint32_t phase = 0;      // number, in its record, of the next start
    std::size_t fallback_at = kNone;  // offset of the first byte that the quotes before it don't allow
    bool quotes = false;
    bool doubled = false;         // within quotes
    bool returns = false;
    bool inner_newlines = false;  // within quotes
    bool ascii = true;
    bool nuls = true;             // perhaps
    bool inside = false;          // the chunk ends within quotes
};

// kEven: only the starts of the layout, where every record has its fields; else all of them.
template <bool kQuoted, bool kEven>
inline Index index_chunk(const CsvSpec& spec, const Layout& layout, const std::uint8_t* data, std::size_t size,
                         std::uint32_t* starts) noexcept {
    Index found;
    std::uint32_t* out = starts;
    *out++ = 0;
    const auto quote = static_cast<std::uint8_t>(spec.quote);
    std::uint64_t inside = 0;     // all ones: the block begins within quotes
    std::uint64_t before = 1;     // the byte before the block ends a field or record
    std::uint64_t closed = 0;     // ... closes quotes
    std::uint64_t returned = 0;   // ... is a carriage return outside of quotes
    Block seen{};                 // the bits of all bytes
    Block least = load_blank(data, size);  // of all bytes
    std::uint64_t doubled = 0, inner = 0;
    std::size_t lines = 0;
    bool returns = false, quotes = false;
    std::uint32_t phase = 1;
    std::uint64_t uneven = 0;
    for (std::size_t at = 0; at < size; at += 64) {
        read_ahead(data + at);
        const std::size_t left = size - at;
        Block block;
        std::uint64_t valid = ~0ull;
        if (left >= 64) [[likely]] {
            block = Block::load(data + at);
        } else {
            std::uint8_t padded[64] = {};
            std::memcpy(padded, data + at, left);
            block = Block::load(padded);
            valid = low_bits(left);
        }
        const std::uint64_t newline = block.eq('\n');
        std::uint64_t ends = (block.eq(spec.delimiter) & valid) | newline;
        std::uint64_t newlines = newline;
        std::uint64_t bad = 0;
        seen = seen | block;
        least = least.least(block);
        // From the first one of a chunk on, as with quotes.
        returns = returns || block.has('\r');
        std::uint64_t outer_cr = returns ? block.eq('\r') : 0;
        // From the first quote of a chunk on, not only in blocks with quotes: that branch is predictable.
        if constexpr (kQuoted) {
            const std::uint64_t q = block.eq(quote);
            quotes = quotes || q != 0;
            if (quotes) {
                const std::uint64_t in = prefix_xor(q) ^ inside;  // from an opening quote up to before its closing one
                const std::uint64_t opens = q & in, closes = q & ~in;
                inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(in) >> 63);
                inner |= newline & in;
                ends &= ~in;
                newlines &= ~in;
                outer_cr &= ~in;
                // A quote opens behind an end, and an end is behind one that closes; but for doubled quotes, where one opens behind
                // one that closes.
                const std::uint64_t opens_else = opens & ~(ends << 1 | before);
                const std::uint64_t closed_else = (closes << 1 | closed) & ~(ends | outer_cr);
                bad = opens_else ^ closed_else;
                doubled |= closed_else;
                closed = closes >> 63;
            }
            before = ends >> 63;
        }
        if (returns) {
            bad |= (outer_cr << 1 | returned) & ~newlines;
            returned = outer_cr >> 63;
        }
        bad &= valid;
        if (bad != 0) [[unlikely]] {
            const auto bit = static_cast<std::size_t>(__builtin_ctzll(bad));
            found.fallback_at = at + bit;
            ends &= low_bits(bit);
            newlines &= low_bits(bit);
        }
        lines += static_cast<std::size_t>(__builtin_popcountll(newlines));
        if constexpr (kEven) {
            const auto count = static_cast<std::uint32_t>(__builtin_popcountll(ends));
            uneven |= newlines ^ deposit(layout.first[phase], ends);
            ends = deposit(layout.kept[phase], ends);
            phase = layout.wrapped[phase + count];
        }
        out = write_positions(out, ends, static_cast<std::uint32_t>(at) + 1);
        if (bad != 0) [[unlikely]] break;
    }
    found.fields = static_cast<std::size_t>(out - starts);
    found.newlines = lines;
    found.even = uneven == 0;
    found.phase = phase;
    found.quotes = quotes;
    found.doubled = doubled != 0;
    found.returns = returns;
    found.inner_newlines = inner != 0;
    found.ascii = seen.high() == 0;
    found.nuls = least.has(0);
    found.inside = inside != 0;
    return found;
}

// The records of a chunk, by the numbers of their first fields.
struct RecordStarts {
    std::size_t count = 0;
    std::size_t lines = 0;  // blank ones included
    std::size_t next = 0;   // number of the field start behind the records
    bool needs_fallback = false;      // the record at `next` does
};

// Lists the records of a chunk in which every record has its fields.
inline RecordStarts list_even_records(const std::uint8_t* data, const Index& index, std::size_t width, const std::uint32_t* starts,
                          std::size_t stop, std::uint32_t* records) noexcept {
    RecordStarts found;
    std::size_t count = index.newlines;
    while (count > 0 && starts[(count - 1) * width] >= stop) --count;
    for (std::size_t i = 0; i < count; ++i) records[i] = static_cast<std::uint32_t>(i * width);
    for (std::size_t i = 0; index.nuls && i < count; ++i) found.needs_fallback |= data[starts[i * width]] == 0;
    found.count = found.lines = count;
    found.next = count * width;
    return found;
}

// Finds records line by line, where lines may be blank, up to the first that has more or fewer fields.
inline RecordStarts find_records(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, const Index& index,
                          const std::uint32_t* starts, std::size_t stop, std::uint32_t* records) noexcept {
    RecordStarts found;
    const auto fields = static_cast<std::size_t>(spec.fields);
    const auto ends_line = [&](std::size_t k) { return starts[k] - 1 >= size || data[starts[k] - 1] == '\n'; };
    const std::size_t lines = index.newlines;
    std::size_t k = 0;
    while (found.lines < lines && starts[k] < stop) {
        std::size_t last = k + 1;
        while (!ends_line(last)) ++last;
        const std::size_t length = starts[k + 1] - 1 - starts[k];
        const bool blank = last == k + 1 && (length == 0 || (length == 1 && data[starts[k]] == '\r'));
        if (!blank) {
            if (last - k != fields || data[starts[k]] == 0) {
                found.needs_fallback = true;
                break;
            }
            records[found.count++] = static_cast<std::uint32_t>(k);
        }
        ++found.lines;
        k = last;
    }
    found.next = k;
    return found;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
