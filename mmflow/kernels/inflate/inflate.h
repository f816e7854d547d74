// Inflating of gzip files (RFC 1951, 1952): members, their checksums and lengths, in calls of bounded input and output.
//
//     input   ....[partly read byte][ unread ....        next call begins at the partly read byte
//     output  [32 KiB of history][ room ............][ slack ]
//
// The whole state between two calls is where the input goes on (a byte and a bit), the history, and the tables of the block
// that is being read. At the begin of a block there are no tables: byte, bit and history are what a checkpoint needs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "inflate/decode.h"
#include "inflate/tables.h"

namespace mmflow {

// Bytes behind `room` that may be written, too: the last match or literals may reach behind it.
inline constexpr std::size_t kInflateSlack = 512;
// Bytes to which a match may reach back.
inline constexpr std::size_t kInflateHistory = 32 << 10;

enum class InflateStatus {
    kOk,      // between two steps; never of a call
    kInput,   // all input was read, up to what is part of a symbol
    kOutput,  // the room is full
    kEnd,     // the input ended where a member does
    kBlock,   // a block begins where the caller wants to stop
    // Damage, as zlib names it (inflate.cpp: describe).
    kTruncated,
    kHeader,
    kMethod,
    kFlags,
    kHeaderCheck,
    kBlockType,
    kStoredLengths,
    kTooManySymbols,
    kCodeLengths,
    kRepeat,
    kNoEndOfBlock,
    kLiteralLengths,
    kDistances,
    kCode,
    kDistanceCode,
    kTooFar,
    kDataCheck,
    kLengthCheck,
};

// Returns what is wrong, in zlib's words.
const char* describe(InflateStatus status) noexcept;

struct InflateResult {
    InflateStatus status;
    std::size_t consumed;  // bytes of the input that are read whole
    std::size_t produced;
};

inline constexpr std::uint64_t kInflateNever = ~std::uint64_t{0};

// State at the begin of a block, beside the place of its first byte.
struct InflateCheckpoint {
    unsigned bit;           // bits of that byte that belong to the block before
    std::uint32_t crc;      // of the member's bytes so far
    std::uint64_t length;   // their number
    std::uint64_t members;  // that were begun
    const std::uint8_t* history;
    std::size_t reach;      // bytes of it, at most `kInflateHistory`
};

class Inflater {
   public:
    explicit Inflater(DecodeCodes decode) noexcept : decode_(decode) {}

    // Reads on from `in`, of which `final` says whether the file ends behind it. `out` has `kInflateHistory` bytes before it,
    // which are written here, and `kInflateSlack` behind its `room`.
    InflateResult inflate(const std::uint8_t* in, std::size_t size, bool final, std::uint8_t* out, std::size_t room) noexcept;

    // Lets `inflate` end at the first block that begins behind `size` more bytes, or at none.
    void stop_after(std::uint64_t size) noexcept { until_ = size; }
    // Whether it ended there: the checkpoint of that block is what follows.
    bool stopped() const noexcept { return at_ == At::kBlock && until_ == 0; }
    InflateCheckpoint checkpoint() const noexcept { return {bit_, crc_, length_, members_, history_ + kInflateHistory - reach_, reach_}; }
    // Begins at a checkpoint: the next input is that from its byte on.
    void resume(const InflateCheckpoint& from) noexcept;

    std::uint64_t members() const noexcept { return members_; }  // that were begun
    std::uint64_t in_member() const noexcept { return length_; }  // bytes of the present one that were returned

   private:
    enum class At { kMagic, kExtraLength, kExtra, kName, kComment, kHeaderCrc, kBlock, kStored, kCoded, kTrailer };

    InflateStatus header(BitReader& bits) noexcept;
    InflateStatus block(BitReader& bits) noexcept;
    InflateStatus dynamic(BitReader& bits) noexcept;
    InflateStatus stored(BitReader& bits, std::uint8_t*& out, std::uint8_t* end) noexcept;
    InflateStatus coded(BitReader& bits, std::uint8_t*& out, std::uint8_t* end, const std::uint8_t* oldest) noexcept;
    InflateStatus trailer(BitReader& bits) noexcept;

    DecodeCodes decode_;
    At at_ = At::kMagic;
    bool last_ = false;       // the present block is the member's last one
    bool fixed_ = false;      // the tables are those of fixed codes
    unsigned bit_ = 0;        // bits of the next byte of input that are read
    unsigned flags_ = 0;      // of the present header
    unsigned left_ = 0;       // bytes of an extra field, or of a stored block, that are to come
    std::uint32_t crc_ = 0;   // of the present member's bytes; within a header, of the header
    std::uint64_t members_ = 0;
    std::uint64_t length_ = 0;
    std::uint64_t until_ = kInflateNever;  // bytes that are to come before a block where it stops
    std::size_t reach_ = 0;   // bytes of the history that belong to the present member
    InflateTables tables_{};
    std::uint8_t history_[kInflateHistory]{};
};

}  // namespace mmflow
