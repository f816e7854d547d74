// The structure of NDJSON, compiled once for each instruction set: one pass over blocks of 64 bytes lists the position of
// everything that is not inside of text: brackets, braces, colons, commas, line ends, the quote that opens a
// text, the first byte of any other value (Langdale and Lemire, 2019, "Parsing gigabytes of JSON per second", stage 1).
#pragma once
#include "simd/blocks.inl.h"
#include "ndjson/ndjson.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// By their low four bits (Block::in_table); other characters never match.
constexpr std::uint8_t kMarks[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0};
constexpr std::uint8_t kBlanks[16] = {' ', 0, 0, 0, 0, 0, 0, 0, 0, '\t', 0, 0, 0, '\r', 0, 0};

struct JsonIndex {
    std::size_t entries = 0;    // positions written
    std::size_t newlines = 0;   // line ends among them
    std::size_t fallback_at = ~std::size_t{0};  // a control character inside of text
    bool ascii = true;
    bool escapes = false;       // there are backslashes
};

// Returns the characters that a backslash before them escapes. `carry`: the block before ended with an escaping backslash.
inline std::uint64_t escaped_by(std::uint64_t backslash, std::uint64_t& carry) noexcept {
    if (backslash == 0) [[likely]] {
        const std::uint64_t escaped = carry;
        carry = 0;
        return escaped;
    }
    // In a run of backslashes every other one escapes; the subtraction finds where runs end (simdjson 3, escape
    // scanner).
    constexpr std::uint64_t odd_bits = 0xaaaaaaaaaaaaaaaaull;
    const std::uint64_t potential = backslash & ~carry;
    const std::uint64_t codes = (((potential << 1) | odd_bits) - potential) ^ odd_bits;
    const std::uint64_t escaped = codes ^ (backslash | carry);
    carry = (codes & backslash) >> 63;
    return escaped;
}

inline JsonIndex index_json(const std::uint8_t* text, std::size_t length, std::uint32_t* entries) noexcept {
    JsonIndex found;
    std::uint32_t* out = entries;
    std::uint64_t inside = 0;  // all ones: the block begins inside of text
    std::uint64_t escape = 0;  // the byte before escapes the first one
    std::uint64_t scalar = 0;  // the byte before belongs to a number, true, false or null
    std::uint64_t high = 0, backslashes = 0;
    for (std::size_t at = 0; at < length; at += 64) {
        read_ahead(text + at);
        const std::size_t left = length - at;
        const Block block = load_blank(text + at, left);
        const std::uint64_t backslash = block.eq('\\');
        const std::uint64_t quote = block.eq('"') & ~escaped_by(backslash, escape);
        const std::uint64_t in = prefix_xor(quote) ^ inside;  // from an opening quote up to before its closing one
        inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(in) >> 63);
        const std::uint64_t outside = ~(in | quote);
        const std::uint64_t newline = block.eq('\n');
        // With bit 5 set, [ is { and ] is }; other bytes that then look like these are invalid JSON there.
        const std::uint64_t marks = block.with(0x20).in_table(kMarks) & outside;
        const std::uint64_t blank = block.in_table(kBlanks);
        const std::uint64_t value = outside & ~(marks | blank | newline);
        std::uint64_t starts = (quote & in) | marks | (newline & outside) | (value & ~(value << 1 | scalar));
        scalar = value >> 63;
        high |= block.high();
        backslashes |= backslash;
        const std::uint64_t control = block.below(0x20) & in;
        std::uint64_t ends = newline;
        if (control) [[unlikely]] {
            const auto bit = static_cast<std::size_t>(__builtin_ctzll(control));
            found.fallback_at = at + bit;
            starts &= low_bits(bit);
            ends &= low_bits(bit);
        }
        found.newlines += static_cast<std::size_t>(__builtin_popcountll(ends));
        out = write_many_positions(out, starts, static_cast<std::uint32_t>(at));
        if (control) [[unlikely]] break;
    }
    found.entries = static_cast<std::size_t>(out - entries);
    found.ascii = high == 0;
    found.escapes = backslashes != 0;
    return found;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
