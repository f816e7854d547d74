// Lines of odd CSV that need no change, compiled once for each instruction set.
#pragma once
#include "simd/blocks.inl.h"
#include "csv/normal.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

inline CleanRun find_clean(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t at,
                           std::size_t stop) noexcept {
    CleanRun run{at, 0};
    const std::uint8_t delimiter = spec.delimiter.data[0];
    const auto quote = static_cast<std::uint8_t>(spec.quote >= 0 ? spec.quote : spec.out_quote);
    std::size_t count = 0;        // delimiters of the line so far
    std::uint64_t after_cr = 0;   // the block begins behind a carriage return
    std::uint64_t after_end = 1;  // ... behind the end of a field
    std::uint64_t after_blank = 0;
    for (std::size_t base = at; base < size; base += 64) {
        const std::size_t left = size - base;
        Block block;
        std::uint64_t valid = ~0ull;
        if (left >= 64) [[likely]] {
            block = Block::load(data + base);
        } else {
            std::uint8_t padded[64] = {};
            std::memcpy(padded, data + base, left);
            block = Block::load(padded);
            valid = low_bits(left);
        }
        const std::uint64_t cr = block.eq('\r');
        std::uint64_t newlines = block.eq('\n');
        std::uint64_t delimiters = block.eq(delimiter) & valid;
        std::uint64_t odd = block.eq(quote) | block.eq(kNullText);
        if (spec.escape >= 0) odd |= block.eq(static_cast<std::uint8_t>(spec.escape));
        if (spec.returns) {
            newlines |= cr;
        } else {
            odd |= (cr << 1 | after_cr) & ~newlines;
            after_cr = cr >> 63;
        }
        if (spec.trim) {
            const std::uint64_t ends = delimiters | newlines | cr;
            const std::uint64_t blank = (block.eq(' ') | block.eq('\t') | block.eq(0)) & ~delimiters & valid;
            odd |= (blank & (ends << 1 | after_end)) | (ends & (blank << 1 | after_blank));
            after_end = ends >> 63;
            after_blank = blank >> 63;
        }
        odd &= valid;
        std::uint64_t done = 0;  // bits of lines that have ended
        while (newlines != 0) {
            const auto bit = static_cast<std::size_t>(__builtin_ctzll(newlines));
            const std::uint64_t line = low_bits(bit + 1) & ~done;
            const std::size_t begin = run.end, end = base + bit;
            if (begin >= stop || (odd & line) != 0) return run;
            count += static_cast<std::size_t>(__builtin_popcountll(delimiters & line));
            // Empty lines are no records for the CSV kernel either.
            const bool empty = end == begin || (end == begin + 1 && data[begin] == '\r');
            if (!empty) {
                const std::size_t n = spec.comment.size;
                if (count + 1 != spec.fields || data[begin] == 0 ||
                    (n != 0 && end - begin >= n && std::memcmp(data + begin, spec.comment.data, n) == 0)) {
                    return run;
                }
                ++run.records;
            }
            run.end = end + 1;
            count = 0;
            done = low_bits(bit + 1);
            newlines &= newlines - 1;
        }
        if ((odd & ~done) != 0) return run;
        count += static_cast<std::size_t>(__builtin_popcountll(delimiters & ~done));
    }
    return run;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
