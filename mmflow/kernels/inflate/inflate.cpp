#include "inflate/inflate.h"

#include <algorithm>
#include <cstring>

#include "inflate/crc32.h"
#include "inflate/decode.h"

namespace mmflow {
namespace {

// Bytes between two checksums: what was written is still in the cache.
constexpr std::size_t kChecked = 128 << 10;
constexpr unsigned kHeaderCrcFlag = 2, kExtraFlag = 4, kNameFlag = 8, kCommentFlag = 16;
constexpr std::uint8_t kOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

}  // namespace

const char* describe(InflateStatus status) noexcept {
    switch (status) {
        case InflateStatus::kOk:
        case InflateStatus::kInput: return "more input";
        case InflateStatus::kOutput: return "more room";
        case InflateStatus::kEnd: return "end";
        case InflateStatus::kBlock: return "begin of a block";
        case InflateStatus::kTruncated: return "truncated compressed stream";
        case InflateStatus::kHeader: return "incorrect header check";
        case InflateStatus::kMethod: return "unknown compression method";
        case InflateStatus::kFlags: return "unknown header flags set";
        case InflateStatus::kHeaderCheck: return "header crc mismatch";
        case InflateStatus::kBlockType: return "invalid block type";
        case InflateStatus::kStoredLengths: return "invalid stored block lengths";
        case InflateStatus::kTooManySymbols: return "too many length or distance symbols";
        case InflateStatus::kCodeLengths: return "invalid code lengths set";
        case InflateStatus::kRepeat: return "invalid bit length repeat";
        case InflateStatus::kNoEndOfBlock: return "invalid code -- missing end-of-block";
        case InflateStatus::kLiteralLengths: return "invalid literal/lengths set";
        case InflateStatus::kDistances: return "invalid distances set";
        case InflateStatus::kCode: return "invalid literal/length code";
        case InflateStatus::kDistanceCode: return "invalid distance code";
        case InflateStatus::kTooFar: return "invalid distance too far back";
        case InflateStatus::kDataCheck: return "incorrect data check";
        case InflateStatus::kLengthCheck: return "incorrect length check";
    }
    return "";
}

InflateResult Inflater::inflate(const std::uint8_t* in, std::size_t size, bool final, std::uint8_t* out, std::size_t room) noexcept {
    std::memcpy(out - kInflateHistory, history_, kInflateHistory);
    BitReader bits{in, in + size};
    if (bit_ != 0 && size != 0) {
        bits.bits = std::uint64_t{*bits.at++} >> bit_;
        bits.count = 8 - bit_;
    }
    std::uint8_t* const begin = out;
    std::uint8_t* const end = out + room;
    const std::uint8_t* oldest = out - reach_;
    InflateStatus status = InflateStatus::kOk;
    do {
        switch (at_) {
            case At::kMagic:
                if (bits.count == 0 && bits.at == bits.end) {
                    status = final ? InflateStatus::kEnd : InflateStatus::kInput;
                    break;
                }
                [[fallthrough]];
            case At::kExtraLength:
            case At::kExtra:
            case At::kName:
            case At::kComment:
            case At::kHeaderCrc:
                status = header(bits);
                if (at_ == At::kBlock) oldest = out;
                break;
            case At::kBlock:
                status = static_cast<std::uint64_t>(out - begin) >= until_ ? InflateStatus::kBlock : block(bits);
                break;
            case At::kTrailer:
                status = trailer(bits);
                break;
            case At::kStored:
            case At::kCoded: {
                std::uint8_t* const from = out;
                std::uint8_t* const until = std::min(end, out + kChecked);
                if (out == end) {
                    status = InflateStatus::kOutput;
                    break;
                }
                status = at_ == At::kStored ? stored(bits, out, until) : coded(bits, out, until, oldest);
                crc_ = crc32(crc_, from, static_cast<std::size_t>(out - from));
                length_ += static_cast<std::uint64_t>(out - from);
                break;
            }
        }
    } while (status == InflateStatus::kOutput ? out < end : status == InflateStatus::kOk);
    if (status == InflateStatus::kInput && final) status = InflateStatus::kTruncated;
    const std::size_t produced = static_cast<std::size_t>(out - begin);
    if (until_ != kInflateNever) until_ -= std::min<std::uint64_t>(until_, produced);
    reach_ = std::min(kInflateHistory, static_cast<std::size_t>(out - oldest));
    std::memcpy(history_, out - kInflateHistory, kInflateHistory);
    bits.give_back();
    bit_ = bits.count == 0 ? 0 : 8 - bits.count;
    return {status, static_cast<std::size_t>(bits.at - in) - (bit_ != 0), produced};
}

void Inflater::resume(const InflateCheckpoint& from) noexcept {
    at_ = At::kBlock;
    last_ = fixed_ = false;
    bit_ = from.bit;
    crc_ = from.crc;
    length_ = from.length;
    members_ = from.members;
    reach_ = std::min(from.reach, kInflateHistory);
    until_ = kInflateNever;
    if (reach_ != 0) std::memcpy(history_ + kInflateHistory - reach_, from.history + (from.reach - reach_), reach_);
}

InflateStatus Inflater::header(BitReader& bits) noexcept {
    // A member begins at a whole byte.
    const auto checked = [&](std::size_t n) noexcept {
        crc_ = crc32(crc_, bits.at, n);
        bits.at += n;
    };
    const std::size_t left = static_cast<std::size_t>(bits.end - bits.at);
    switch (at_) {
        case At::kMagic:
            if (left >= 2 && (bits.at[0] != 0x1f || bits.at[1] != 0x8b)) {
                return (bits.at[0] * 256 + bits.at[1]) % 31 == 0 ? InflateStatus::kMethod : InflateStatus::kHeader;
            }
            if (left >= 3 && bits.at[2] != 8) return InflateStatus::kMethod;
            if (left >= 4 && (bits.at[3] & 0xe0) != 0) return InflateStatus::kFlags;
            if (left < 10) return InflateStatus::kInput;
            flags_ = bits.at[3];
            crc_ = 0;
            length_ = 0;
            ++members_;
            checked(10);
            at_ = At::kExtraLength;
            [[fallthrough]];
        case At::kExtraLength:
            left_ = 0;
            if (flags_ & kExtraFlag) {
                if (bits.end - bits.at < 2) return InflateStatus::kInput;
                left_ = bits.at[0] + 256u * bits.at[1];
                checked(2);
            }
            at_ = At::kExtra;
            [[fallthrough]];
        case At::kExtra: {
            const std::size_t n = std::min<std::size_t>(left_, static_cast<std::size_t>(bits.end - bits.at));
            checked(n);
            left_ -= static_cast<unsigned>(n);
            if (left_ != 0) return InflateStatus::kInput;
            at_ = At::kName;
            [[fallthrough]];
        }
        case At::kName:
        case At::kComment:
            while (at_ != At::kHeaderCrc) {
                if (flags_ & (at_ == At::kName ? kNameFlag : kCommentFlag)) {
                    const std::size_t n = static_cast<std::size_t>(bits.end - bits.at);
                    const void* zero = n == 0 ? nullptr : std::memchr(bits.at, 0, n);
                    checked(zero == nullptr ? n : static_cast<std::size_t>(static_cast<const std::uint8_t*>(zero) - bits.at) + 1);
                    if (zero == nullptr) return InflateStatus::kInput;
                }
                at_ = at_ == At::kName ? At::kComment : At::kHeaderCrc;
            }
            [[fallthrough]];
        case At::kHeaderCrc:
            if (flags_ & kHeaderCrcFlag) {
                if (bits.end - bits.at < 2) return InflateStatus::kInput;
                if ((crc_ & 0xffff) != bits.at[0] + 256u * bits.at[1]) return InflateStatus::kHeaderCheck;
                bits.at += 2;
            }
            crc_ = 0;
            at_ = At::kBlock;
            return InflateStatus::kOk;
        default:
            return InflateStatus::kOk;
    }
}

InflateStatus Inflater::block(BitReader& reader) noexcept {
    BitReader bits = reader;
    bits.refill();
    if (bits.count < 3) return InflateStatus::kInput;
    const bool last = bits.take(1) != 0;
    InflateStatus status = InflateStatus::kOk;
    At next = At::kCoded;
    switch (bits.take(2)) {
        case 0: {
            bits.drop(bits.count % 8);
            bits.refill();
            if (bits.count < 32) return InflateStatus::kInput;
            left_ = bits.take(16);
            if (left_ != (bits.take(16) ^ 0xffff)) return InflateStatus::kStoredLengths;
            next = At::kStored;
            break;
        }
        case 1:
            if (!fixed_) {
                std::uint8_t lengths[288 + 32];
                std::fill_n(lengths, 144, std::uint8_t{8});
                std::fill_n(lengths + 144, 112, std::uint8_t{9});
                std::fill_n(lengths + 256, 24, std::uint8_t{7});
                std::fill_n(lengths + 280, 8, std::uint8_t{8});
                std::fill_n(lengths + 288, 32, std::uint8_t{5});
                canonical_codes(lengths, 288, tables_.literal_codes);
                canonical_codes(lengths + 288, 32, tables_.distance_codes);
                fill_literals(tables_.literal_codes, tables_.literals);
                fill_distances(tables_.distance_codes, tables_.distances);
                fixed_ = true;
            }
            break;
        case 2:
            status = dynamic(bits);
            if (status != InflateStatus::kOk) return status;
            fixed_ = false;
            break;
        default:
            return InflateStatus::kBlockType;
    }
    last_ = last;
    at_ = next;
    reader = bits;
    return status;
}

InflateStatus Inflater::dynamic(BitReader& bits) noexcept {
    bits.refill();
    if (bits.count < 14) return InflateStatus::kInput;
    const unsigned literals = 257 + bits.take(5), distances = 1 + bits.take(5), orders = 4 + bits.take(4);
    if (literals > 286 || distances > 30) return InflateStatus::kTooManySymbols;
    std::uint8_t order[19] = {};
    for (unsigned i = 0; i < orders; ++i) {
        bits.refill();
        if (bits.count < 3) return InflateStatus::kInput;
        order[kOrder[i]] = static_cast<std::uint8_t>(bits.take(3));
    }
    CanonicalCodes codes;
    if (canonical_codes(order, 19, codes) != 0) return InflateStatus::kCodeLengths;
    std::uint8_t lengths[286 + 30];
    for (unsigned i = 0; i < literals + distances;) {
        bits.refill();
        const FoundSymbol found = find_symbol(codes, bits.bits, std::min(bits.count, 7u));
        constexpr unsigned kExtra[3] = {2, 3, 7}, kLeast[3] = {3, 3, 11};
        const unsigned extra = found.symbol >= 16 && found.symbol < 19 ? kExtra[found.symbol - 16] : 0;
        if (found.symbol == kNoSymbol || bits.count < found.length + extra) return InflateStatus::kInput;
        bits.drop(found.length);
        if (found.symbol < 16) {
            lengths[i++] = static_cast<std::uint8_t>(found.symbol);
            continue;
        }
        const unsigned times = kLeast[found.symbol - 16] + bits.take(extra);
        if ((found.symbol == 16 && i == 0) || i + times > literals + distances) return InflateStatus::kRepeat;
        const std::uint8_t value = found.symbol == 16 ? lengths[i - 1] : 0;
        std::fill_n(lengths + i, times, value);
        i += times;
    }
    if (lengths[256] == 0) return InflateStatus::kNoEndOfBlock;
    // As zlib, a single code of one bit may be incomplete, and distances may have none.
    const int left = canonical_codes(lengths, literals, tables_.literal_codes);
    if (left < 0 || (left > 0 && tables_.literal_codes.counts[1] << 14 != left)) return InflateStatus::kLiteralLengths;
    const int other = canonical_codes(lengths + literals, distances, tables_.distance_codes);
    const bool none = other == 1 << kLongestCode;
    if (other < 0 || (other > 0 && !none && tables_.distance_codes.counts[1] << 14 != other)) return InflateStatus::kDistances;
    fill_literals(tables_.literal_codes, tables_.literals);
    fill_distances(tables_.distance_codes, tables_.distances);
    return InflateStatus::kOk;
}

InflateStatus Inflater::stored(BitReader& bits, std::uint8_t*& out, std::uint8_t* end) noexcept {
    bits.give_back();
    const std::size_t n = std::min({std::size_t{left_}, static_cast<std::size_t>(bits.end - bits.at), static_cast<std::size_t>(end - out)});
    if (n != 0) std::memcpy(out, bits.at, n);
    bits.at += n;
    out += n;
    left_ -= static_cast<unsigned>(n);
    if (left_ != 0) return out == end ? InflateStatus::kOutput : InflateStatus::kInput;
    at_ = last_ ? At::kTrailer : At::kBlock;
    return InflateStatus::kOk;
}

InflateStatus Inflater::coded(BitReader& bits, std::uint8_t*& out, std::uint8_t* end, const std::uint8_t* oldest) noexcept {
    for (;;) {
        switch (decode_(bits, tables_, out, end, oldest)) {
            case DecodeEnd::kEndOfBlock:
                at_ = last_ ? At::kTrailer : At::kBlock;
                return InflateStatus::kOk;
            case DecodeEnd::kCode: return InflateStatus::kCode;
            case DecodeEnd::kDistance: return InflateStatus::kDistanceCode;
            case DecodeEnd::kTooFar: return InflateStatus::kTooFar;
            case DecodeEnd::kInputOrRoom: break;
        }
        if (out >= end) return InflateStatus::kOutput;
        // Of little input, one symbol at a time, which is read whole or not at all.
        BitReader next = bits;
        next.refill();
        const FoundSymbol found = find_symbol(tables_.literal_codes, next.bits, next.count);
        if (found.symbol == kNoSymbol) return next.count >= kLongestCode ? InflateStatus::kCode : InflateStatus::kInput;
        next.drop(found.length);
        if (found.symbol < 256) {
            *out++ = static_cast<std::uint8_t>(found.symbol);
        } else if (found.symbol == 256) {
            bits = next;
            at_ = last_ ? At::kTrailer : At::kBlock;
            return InflateStatus::kOk;
        } else {
            const unsigned number = found.symbol - 257;
            if (number >= 29) return InflateStatus::kCode;
            if (next.count < kLengthExtra[number]) return InflateStatus::kInput;
            const unsigned length = kLengthBase[number] + next.take(kLengthExtra[number]);
            next.refill();
            const FoundSymbol far = find_symbol(tables_.distance_codes, next.bits, next.count);
            if (far.symbol == kNoSymbol && next.count < kLongestCode) return InflateStatus::kInput;
            if (far.symbol >= 30) return InflateStatus::kDistanceCode;
            next.drop(far.length);
            if (next.count < kDistanceExtra[far.symbol]) return InflateStatus::kInput;
            const unsigned distance = kDistanceBase[far.symbol] + next.take(kDistanceExtra[far.symbol]);
            if (static_cast<std::size_t>(out - oldest) < distance) return InflateStatus::kTooFar;
            copy_match(out, distance, length);
            out += length;
        }
        bits = next;
    }
}

InflateStatus Inflater::trailer(BitReader& bits) noexcept {
    bits.drop(bits.count % 8);
    bits.give_back();
    if (bits.end - bits.at < 8) return InflateStatus::kInput;
    const auto number = [&](unsigned from) noexcept {
        std::uint32_t found = 0;
        for (unsigned i = 0; i < 4; ++i) found |= std::uint32_t{bits.at[from + i]} << (8 * i);
        return found;
    };
    if (number(0) != crc_) return InflateStatus::kDataCheck;
    if (number(4) != static_cast<std::uint32_t>(length_)) return InflateStatus::kLengthCheck;
    bits.at += 8;
    at_ = At::kMagic;
    return InflateStatus::kOk;
}

}  // namespace mmflow
