#include "inflate/tables.h"

namespace mmflow {
namespace {

// A symbol of at most `kLiteralBits` bits: a literal, or a length with its extra bits.
struct Item {
    std::uint16_t code;  // reversed: its first bit is the lowest
    std::uint8_t value;
};

// Items by their length in bits.
struct Items {
    Item list[kLiteralBits + 1][512];
    unsigned counts[kLiteralBits + 1] = {};

    void add(unsigned length, unsigned code, unsigned value) noexcept {
        list[length][counts[length]++] = {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(value)};
    }
};

unsigned reversed(unsigned code, unsigned length) noexcept {
    unsigned found = 0;
    for (unsigned i = 0; i < length; ++i) found |= (code >> i & 1) << (length - 1 - i);
    return found;
}

constexpr std::uint32_t special(Special what, unsigned bits, unsigned number = 0) noexcept {
    return kSpecial | bits | static_cast<std::uint32_t>(what) << 8 | number << 16;
}

constexpr std::uint32_t entry(unsigned bits, unsigned literals, std::uint32_t flags, std::uint32_t values) noexcept {
    return bits | literals << 4 | flags | values << 8;
}

}  // namespace

int canonical_codes(const std::uint8_t* lengths, unsigned count, CanonicalCodes& codes) noexcept {
    for (std::uint16_t& n : codes.counts) n = 0;
    for (unsigned i = 0; i < count; ++i) ++codes.counts[lengths[i]];
    codes.counts[0] = 0;
    int left = 1;
    std::uint16_t offsets[kLongestCode + 2] = {};
    for (unsigned length = 1; length <= kLongestCode; ++length) {
        left = 2 * left - codes.counts[length];
        if (left < 0) return left;
        offsets[length + 1] = static_cast<std::uint16_t>(offsets[length] + codes.counts[length]);
    }
    for (unsigned i = 0; i < count; ++i) {
        if (lengths[i] != 0) codes.symbols[offsets[lengths[i]]++] = static_cast<std::uint16_t>(i);
    }
    return left;
}

// The table of n bits is that of n - 1 bits twice, with what is n bits long written over it: single symbols, and as many
// literals as fit, with a length or another literal behind them.
void fill_literals(const CanonicalCodes& codes, std::uint32_t* table) noexcept {
    Items literals, lengths;
    std::uint32_t specials[kLiteralBits + 1][32];
    std::uint16_t special_codes[kLiteralBits + 1][32];
    unsigned special_counts[kLiteralBits + 1] = {};
    std::uint16_t long_codes[288];
    unsigned longer = 0, code = 0;
    const std::uint16_t* symbol = codes.symbols;
    for (unsigned length = 1; length <= kLongestCode; ++length, code <<= 1) {
        for (unsigned i = 0; i < codes.counts[length]; ++i, ++code, ++symbol) {
            const unsigned turned = reversed(code, length);
            if (length > kLiteralBits) {
                long_codes[longer++] = static_cast<std::uint16_t>(turned & ((1 << kLiteralBits) - 1));
            } else if (*symbol < 256) {
                literals.add(length, turned, *symbol);
            } else {
                const unsigned number = *symbol - 257u;
                const unsigned extra = number < 29 ? kLengthExtra[number] : 0;
                if (number < 29 && length + extra <= kLiteralBits) {
                    for (unsigned more = 0; more < 1u << extra; ++more) {
                        lengths.add(length + extra, turned | more << length, kLengthBase[number] - 3u + more);
                    }
                    continue;
                }
                const Special what = *symbol == 256 ? Special::kEndOfBlock : number < 29 ? Special::kLength : Special::kInvalid;
                const unsigned n = special_counts[length]++;
                special_codes[length][n] = static_cast<std::uint16_t>(turned);
                specials[length][n] = special(what, length, number);
            }
        }
    }
    table[0] = special(Special::kInvalid, 0);
    for (unsigned total = 1; total <= kLiteralBits; ++total) {
        std::memcpy(table + (1u << (total - 1)), table, sizeof(*table) << (total - 1));
        for (unsigned i = 0; i < special_counts[total]; ++i) table[special_codes[total][i]] = specials[total][i];
        const auto write = [&](unsigned before, unsigned bits, unsigned count, std::uint32_t values) noexcept {
            const unsigned length = total - bits;
            for (unsigned i = 0; i < literals.counts[length]; ++i) {
                const Item& item = literals.list[length][i];
                table[before | unsigned{item.code} << bits] = entry(total, count + 1, 0, values | std::uint32_t{item.value} << (8 * count));
            }
            for (unsigned i = 0; i < lengths.counts[length]; ++i) {
                const Item& item = lengths.list[length][i];
                table[before | unsigned{item.code} << bits] = entry(total, count, kHasLength, values | std::uint32_t{item.value} << 16);
            }
        };
        write(0, 0, 0, 0);
        for (unsigned first = 1; first < total; ++first) {
            for (unsigned i = 0; i < literals.counts[first]; ++i) {
                const Item& a = literals.list[first][i];
                write(a.code, first, 1, a.value);
                for (unsigned second = 1; first + second < total; ++second) {
                    const unsigned rest = total - first - second;
                    if (literals.counts[rest] + lengths.counts[rest] == 0) continue;
                    for (unsigned j = 0; j < literals.counts[second]; ++j) {
                        const Item& b = literals.list[second][j];
                        write(a.code | unsigned{b.code} << first, first + second, 2, a.value | std::uint32_t{b.value} << 8);
                    }
                }
            }
        }
    }
    for (unsigned i = 0; i < longer; ++i) table[long_codes[i]] = special(Special::kLongCode, 0);
}

void fill_distances(const CanonicalCodes& codes, std::uint32_t* table) noexcept {
    table[0] = 0;
    unsigned code = 0;
    const std::uint16_t* symbol = codes.symbols;
    for (unsigned length = 1; length <= kDistanceBits; ++length, code <<= 1) {
        std::memcpy(table + (1u << (length - 1)), table, sizeof(*table) << (length - 1));
        for (unsigned i = 0; i < codes.counts[length]; ++i, ++code, ++symbol) {
            if (*symbol >= 30) continue;
            table[reversed(code, length)] = length | std::uint32_t{kDistanceExtra[*symbol]} << 4 | std::uint32_t{kDistanceBase[*symbol]} << 16;
        }
    }
}

}  // namespace mmflow
