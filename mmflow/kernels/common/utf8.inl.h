// Check of UTF-8, 64 bytes at a time; compiled once for each instruction set.
#pragma once
#include "simd/blocks.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

enum class Coding { kAscii, kUtf8, kOther };

// Finds the encoding by RFC 3629, as `is_utf8` in values.inl.h. By masks: continuation bytes must stand exactly where the
// lead bytes need them.
inline Coding find_coding(const std::uint8_t* p, std::size_t size) noexcept {
    std::uint64_t seen = 0, wrong = 0;
    // Carried over from the block before: continuation bytes that must follow, and lead bytes with further rules.
    std::uint64_t pending = 0, e0 = 0, ed = 0, f0 = 0, f4 = 0;
    for (std::size_t at = 0; at < size; at += 64) {
        const Block block = load_blank(p + at, size - at);
        const std::uint64_t high = block.high();
        if ((high | pending) == 0) continue;
        seen |= high;
        const std::uint64_t two = block.at_least(0xc0), three = block.at_least(0xe0), four = block.at_least(0xf0);
        const std::uint64_t follow = two << 1 | three << 2 | four << 3 | pending;
        pending = two >> 63 | three >> 62 | four >> 61;
        // Not C0 and C1, which would be overlong, nor bytes beyond U+10FFFF.
        wrong |= ((high & ~two) ^ follow) | (two & ~block.at_least(0xc2)) | block.at_least(0xf5);
        if (three | e0 | ed | f0 | f4) {
            const std::uint64_t is_e0 = block.eq(0xe0), is_ed = block.eq(0xed), is_f0 = block.eq(0xf0), is_f4 = block.eq(0xf4);
            const std::uint64_t from_90 = block.at_least(0x90), from_a0 = block.at_least(0xa0);
            wrong |= (is_e0 << 1 | e0) & ~from_a0;  // overlong
            wrong |= (is_ed << 1 | ed) & from_a0;   // surrogates
            wrong |= (is_f0 << 1 | f0) & ~from_90;  // overlong
            wrong |= (is_f4 << 1 | f4) & from_90;   // beyond U+10FFFF
            e0 = is_e0 >> 63, ed = is_ed >> 63, f0 = is_f0 >> 63, f4 = is_f4 >> 63;
        }
    }
    if (wrong | pending) return Coding::kOther;
    return seen ? Coding::kUtf8 : Coding::kAscii;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
