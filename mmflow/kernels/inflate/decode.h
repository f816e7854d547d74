// Decoding of a deflate block's codes while there is plenty of input, compiled once for each instruction set.
#pragma once
#include <cstdint>

#include "inflate/tables.h"

namespace mmflow {

// Bytes of input that the loop needs in one round.
inline constexpr std::ptrdiff_t kDecodeInput = 16;

enum class DecodeEnd {
    kInputOrRoom,  // little input is left, or `out` has reached `limit`
    kEndOfBlock,
    kCode,      // a code that stands for nothing
    kDistance,  // the same, of distances
    kTooFar,    // a match begins before `oldest`
};

// Writes to `out` until it reaches `limit`, which it may exceed by less than `kInflateSlack`.
using DecodeCodes = DecodeEnd (*)(BitReader& bits, const InflateTables& tables, std::uint8_t*& out, const std::uint8_t* limit,
                                  const std::uint8_t* oldest) noexcept;

// Returns that of an instruction set (simd/dispatch.h); the plain one where it has none of its own.
DecodeCodes find_decode_codes(const char* instruction_set) noexcept;

extern const DecodeCodes kScalarDecodeCodes;
extern const DecodeCodes kAvx2DecodeCodes;  // null where it was not compiled in

// Returns the symbol whose code begins with the lowest bits, and its length; 288 where there is none in `count` bits.
struct FoundSymbol {
    unsigned symbol;
    unsigned length;
};
inline constexpr unsigned kNoSymbol = 288;

MMFLOW_INLINED FoundSymbol find_symbol(const CanonicalCodes& codes, std::uint64_t bits, unsigned count) noexcept {
    int code = 0, first = 0, index = 0;
    for (unsigned length = 1; length <= kLongestCode && length <= count; ++length) {
        code |= static_cast<int>(bits & 1);
        bits >>= 1;
        const int here = codes.counts[length];
        if (code - here < first) return {codes.symbols[index + (code - first)], length};
        index += here;
        first = (first + here) << 1;
        code <<= 1;
    }
    return {kNoSymbol, 0};
}

// Copies `length` bytes from `distance` bytes before; may write up to 32 bytes more.
MMFLOW_INLINED void copy_match(std::uint8_t* to, unsigned distance, unsigned length) noexcept {
    const std::uint8_t* from = to - distance;
    std::uint8_t* const end = to + length;
    if (distance >= 16) [[likely]] {
        std::memcpy(to, from, 16);
        std::memcpy(to + 16, from + 16, 16);
        if (length > 32) [[unlikely]] {
            to += 32;
            from += 32;
            do {
                std::memcpy(to, from, 16);
                to += 16;
                from += 16;
            } while (to < end);
        }
    } else if (distance == 1) {
        std::memset(to, *from, length);
    } else if (distance >= 8) {
        do {
            std::memcpy(to, from, 8);
            to += 8;
            from += 8;
        } while (to < end);
    } else {
        while (to < end) *to++ = *from++;
    }
}

}  // namespace mmflow
