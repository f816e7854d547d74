// The structure of CSV, compiled once for each instruction set.
//
//   index     one pass over blocks of 64 bytes: where fields start (simdjson's stage 1; Langdale and Lemire, 2019,
//             "Parsing gigabytes of JSON per second")
//   records   every `fields`-th field start begins a record: checked, not searched
#pragma once
#include "blocks.inl.h"
#include "csv.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kNone = ~std::size_t{0};

struct Index {
    std::size_t fields = 0;       // field starts, the first one included; each ends where the next starts, less one
    std::size_t newlines = 0;     // that end records
    std::size_t irregular = kNone;  // offset of the first byte that the quotes before it can't explain
    bool quotes = false;
    bool returns = false;
    bool inner_newlines = false;  // within quotes
    bool ascii = true;
    bool inside = false;          // the chunk ends within quotes
};

template <bool kQuoted>
inline Index index_chunk(const CsvSpec& spec, const std::uint8_t* data, std::size_t size,
                         std::uint32_t* starts) noexcept {
    Index found;
    std::uint32_t* out = starts;
    *out++ = 0;
    const auto quote = static_cast<std::uint8_t>(spec.quote);
    std::uint64_t inside = 0;     // all ones: the block begins within quotes
    std::uint64_t before = 1;     // the byte before the block ends a field or record
    std::uint64_t closed = 0;     // ... closes quotes
    std::uint64_t returned = 0;   // ... is a carriage return outside of quotes
    std::uint64_t high = 0, any_quotes = 0, any_returns = 0, inner = 0;
    for (std::size_t at = 0; at < size; at += 64) {
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
        const std::uint64_t cr = block.eq('\r');
        std::uint64_t ends = (block.eq(spec.delimiter) & valid) | newline;
        std::uint64_t newlines = newline;
        std::uint64_t bad = 0;
        high |= block.high();
        if constexpr (kQuoted) {
            const std::uint64_t q = block.eq(quote);
            if ((q | inside | closed) != 0) {
                any_quotes |= q;
                const std::uint64_t in = prefix_xor(q) ^ inside;  // from an opening quote up to before its closing one
                const std::uint64_t opens = q & in, closes = q & ~in;
                inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(in) >> 63);
                inner |= newline & in;
                ends &= ~in;
                newlines &= ~in;
                const std::uint64_t outer_cr = cr & ~in;
                const std::uint64_t after_close = closes << 1 | closed;
                const std::uint64_t after_end = ends << 1 | before;
                const std::uint64_t after_cr = outer_cr << 1 | returned;
                bad = (opens & ~(after_end | after_close)) | (after_close & ~(ends | outer_cr | q)) |
                      (after_cr & ~newlines);
                closed = closes >> 63;
                returned = outer_cr >> 63;
                any_returns |= outer_cr;
            } else {
                bad = (cr << 1 | returned) & ~newlines;
                returned = cr >> 63;
                any_returns |= cr;
            }
            before = ends >> 63;
        } else {
            bad = (cr << 1 | returned) & ~newlines;
            returned = cr >> 63;
            any_returns |= cr;
        }
        bad &= valid;
        if (bad != 0) [[unlikely]] {
            const auto bit = static_cast<std::size_t>(__builtin_ctzll(bad));
            found.irregular = at + bit;
            ends &= low_bits(bit);
            newlines &= low_bits(bit);
        }
        found.newlines += static_cast<std::size_t>(__builtin_popcountll(newlines));
        out = write_positions(out, ends, static_cast<std::uint32_t>(at) + 1);
        if (bad != 0) [[unlikely]] break;
    }
    found.fields = static_cast<std::size_t>(out - starts);
    found.quotes = any_quotes != 0;
    found.returns = any_returns != 0;
    found.inner_newlines = inner != 0;
    found.ascii = high == 0;
    found.inside = inside != 0;
    return found;
}

// The records of a chunk: numbers of their first fields.
struct Found {
    std::size_t count = 0;
    std::size_t lines = 0;  // looked at, blank ones included
    std::size_t next = 0;   // number of the field start behind them
    bool odd = false;      // the record at `next` is not plain
};

inline Found find_records(const CsvSpec& spec, const std::uint8_t* data, std::size_t size, const Index& index,
                          const std::uint32_t* starts, std::size_t stop, std::uint32_t* records) noexcept {
    Found found;
    const auto fields = static_cast<std::size_t>(spec.fields);
    const auto ends_line = [&](std::size_t k) { return starts[k] - 1 >= size || data[starts[k] - 1] == '\n'; };
    const std::size_t lines = index.newlines;
    std::size_t line = 0, k = 0;
    // As long as every line has its fields; with a single one, it might be blank.
    if (fields > 1) {
        while (line < lines && k + fields < index.fields && ends_line(k + fields) && data[starts[k]] != 0) {
            records[line++] = static_cast<std::uint32_t>(k);
            k += fields;
        }
        // As many newlines as lines that end with one: none is within a line.
        if (line == lines && (line == 0 || starts[records[line - 1]] < stop)) {
            found.count = found.lines = line;
            found.next = k;
            return found;
        }
    }
    // Line by line.
    k = 0;
    while (found.lines < lines && starts[k] < stop) {
        std::size_t last = k + 1;
        while (!ends_line(last)) ++last;
        const std::size_t length = starts[k + 1] - 1 - starts[k];
        const bool blank = last == k + 1 && (length == 0 || (length == 1 && data[starts[k]] == '\r'));
        if (!blank) {
            if (last - k != fields || data[starts[k]] == 0) {
                found.odd = true;
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
