// Bits of deflate, and tables that decode its codes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mmflow {

// Of 10 to 13 bits of literals, 11 inflated lineitem.csv the fastest (967 MB/s; 12: 906): the table takes 8 KiB of the cache.
inline constexpr unsigned kLiteralBits = 11, kDistanceBits = 10, kLongestCode = 15;

// An entry of literals and lengths: byte 0 has the bits that it takes (0 to 11), the number of its literals (bits 4 and 5)
// and flags; bytes 1 to 3 have up to three literals, or up to two and the length less 3 in byte 3.
inline constexpr std::uint32_t kHasLength = 0x40, kSpecial = 0x80;
// What a special entry is, in its byte 1. Of a length, byte 2 has its number; its bits are those of the code.
enum class Special : std::uint32_t { kEndOfBlock, kLength, kLongCode, kInvalid };

// An entry of distances: bits of the code (0 to 3), extra bits (4 to 7), and the distance of extra bits that are 0 (16 to 31).
// 0: a longer code, or none.

// Codes of one alphabet, in canonical order: what decodes any code bit by bit.
struct CanonicalCodes {
    std::uint16_t counts[kLongestCode + 1];
    std::uint16_t symbols[288];
};

struct InflateTables {
    std::uint32_t literals[1 << kLiteralBits];
    std::uint32_t distances[1 << kDistanceBits];
    CanonicalCodes literal_codes;
    CanonicalCodes distance_codes;
};

inline constexpr std::uint16_t kLengthBase[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                  31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
inline constexpr std::uint8_t kLengthExtra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
inline constexpr std::uint16_t kDistanceBase[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                                    193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
inline constexpr std::uint8_t kDistanceExtra[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                    6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

// Sorts the symbols of an alphabet by their codes. Returns the codes of the longest length that are left: negative where
// there are too many.
int canonical_codes(const std::uint8_t* lengths, unsigned count, CanonicalCodes& codes) noexcept;

// Fills the tables by the sorted codes.
void fill_literals(const CanonicalCodes& codes, std::uint32_t* table) noexcept;
void fill_distances(const CanonicalCodes& codes, std::uint32_t* table) noexcept;

// Functions that each instruction set's decoder has for itself: a linker would take one copy for all.
#define MMFLOW_INLINED [[gnu::always_inline]] inline

// Bits of a piece of input, from the lowest of each byte on.
struct BitReader {
    const std::uint8_t* at;
    const std::uint8_t* end;
    std::uint64_t bits = 0;
    unsigned count = 0;  // bits that are valid; above them are others of the input, or zeros

    // Takes whole bytes until at least 56 bits are there, or all of the input.
    MMFLOW_INLINED void refill() noexcept {
        if (end - at >= 8) {
            refill_unchecked();
            return;
        }
        bits &= (std::uint64_t{1} << count) - 1;
        while (count <= 55 && at < end) {
            bits |= std::uint64_t{*at++} << count;
            count += 8;
        }
    }

    // The same where 8 bytes can be read.
    MMFLOW_INLINED void refill_unchecked() noexcept {
        std::uint64_t word;
        std::memcpy(&word, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        bits |= word << count;
        at += (63 - count) >> 3;
        count |= 56;
    }

    MMFLOW_INLINED unsigned peek(unsigned n) const noexcept { return static_cast<unsigned>(bits & ((std::uint64_t{1} << n) - 1)); }

    MMFLOW_INLINED void drop(unsigned n) noexcept {
        bits >>= n;
        count -= n;
    }

    MMFLOW_INLINED unsigned take(unsigned n) noexcept {
        const unsigned found = peek(n);
        drop(n);
        return found;
    }

    // Gives whole bytes back, so that `at` is the byte of the next bit.
    MMFLOW_INLINED void give_back() noexcept {
        at -= (count + 7) / 8;
        const unsigned part = (8 - count % 8) % 8;
        bits = 0;
        count = 0;
        if (part != 0) {
            bits = std::uint64_t{*at++} >> part;
            count = 8 - part;
        }
    }
};

}  // namespace mmflow
