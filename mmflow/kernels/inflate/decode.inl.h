#include "inflate/decode.h"

namespace mmflow {
namespace {

DecodeEnd decode_codes(BitReader& reader, const InflateTables& tables, std::uint8_t*& out_, const std::uint8_t* limit,
                       const std::uint8_t* oldest) noexcept {
    constexpr std::uint64_t kLiteralMask = (1 << kLiteralBits) - 1, kDistanceMask = (1 << kDistanceBits) - 1;
    BitReader bits = reader;
    std::uint8_t* out = out_;
    const std::uint8_t* const near_end = bits.end - kDecodeInput;
    DecodeEnd result = DecodeEnd::kInputOrRoom;
    const auto literals = [&]() noexcept {
        const std::uint32_t e = tables.literals[bits.bits & kLiteralMask];
        const std::uint32_t values = e >> 8;
        std::memcpy(out, &values, 4);
        out += e >> 4 & 3;
        bits.drop(e & 15);
        return e;
    };
    while (bits.at <= near_end && out < limit) {
        // 56 bits are enough for two entries of literals (11 bits each) and a distance (28).
        bits.refill_unchecked();
        std::uint32_t e = literals();
        if ((e & (kHasLength | kSpecial)) == 0) {
            e = literals();
            if ((e & (kHasLength | kSpecial)) == 0) continue;
        }
        unsigned length = (e >> 24) + 3;
        if (e & kSpecial) [[unlikely]] {
            bits.refill_unchecked();
            unsigned number = e >> 16 & 255;
            auto what = static_cast<Special>(e >> 8 & 255);
            if (what == Special::kLongCode) {
                const FoundSymbol found = find_symbol(tables.literal_codes, bits.bits, kLongestCode);
                bits.drop(found.length);
                if (found.symbol < 256) {
                    *out++ = static_cast<std::uint8_t>(found.symbol);
                    continue;
                }
                number = found.symbol - 257;
                what = found.symbol == 256 ? Special::kEndOfBlock : number < 29 ? Special::kLength : Special::kInvalid;
            }
            if (what == Special::kEndOfBlock) {
                result = DecodeEnd::kEndOfBlock;
                break;
            }
            if (what == Special::kInvalid) {
                result = DecodeEnd::kCode;
                break;
            }
            length = kLengthBase[number] + bits.take(kLengthExtra[number]);
        }
        std::uint32_t d = tables.distances[bits.bits & kDistanceMask];
        if (d == 0) [[unlikely]] {
            const FoundSymbol found = find_symbol(tables.distance_codes, bits.bits, kLongestCode);
            if (found.symbol >= 30) {
                result = DecodeEnd::kDistance;
                break;
            }
            d = found.length | std::uint32_t{kDistanceExtra[found.symbol]} << 4 | std::uint32_t{kDistanceBase[found.symbol]} << 16;
        }
        bits.drop(d & 15);
        const unsigned distance = (d >> 16) + bits.take(d >> 4 & 15);
        if (static_cast<std::size_t>(out - oldest) < distance) [[unlikely]] {
            result = DecodeEnd::kTooFar;
            break;
        }
        copy_match(out, distance, length);
        out += length;
    }
    reader = bits;
    out_ = out;
    return result;
}

}  // namespace
}  // namespace mmflow
