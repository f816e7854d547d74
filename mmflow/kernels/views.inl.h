// The kernel of views.h, compiled once for each instruction set.
#pragma once
#include "common/utf8.inl.h"
#include "common/values.inl.h"
#include "views.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// Rows that are validated at a time: mostly their text is still in the first level cache when its views are written.
constexpr std::size_t kViewRows = 512;

// Masks of a view, by its length: its part of 12 bytes of text, and of the place. 13 stands for all that are longer.
struct ViewMask {
    std::uint64_t first = 0, last = 0, place = 0;
};

struct ViewMasks {
    ViewMask masks[14]{};

    constexpr ViewMasks() noexcept {
        for (int n = 0; n <= 12; ++n) {
            masks[n].first = n >= 8 ? ~0ull : (1ull << 8 * n) - 1;
            masks[n].last = n <= 8 ? 0 : (1ull << 8 * (n - 8)) - 1;
        }
        masks[13].first = 0xffffffff;
        masks[13].place = ~0ull;
    }
};

constexpr ViewMasks kViewMasks;

// Like `write_view`, where 12 bytes may be read, and without a branch on the length. It takes 1.5 times as long, but
// where short and long values mix, the branch is mispredicted, which takes longer than all the rest.
inline void write_mixed_view(std::uint8_t* out, const std::uint8_t* p, std::size_t n, std::uint32_t buffer,
                             std::uint32_t offset) noexcept {
    std::uint64_t first, last = 0;
    std::memcpy(&first, p, 8);
    std::memcpy(&last, p + 8, 4);
    const ViewMask& keep = kViewMasks.masks[n < 13 ? n : 13];
    first &= keep.first;
    const std::uint64_t low = n | first << 32;
    const std::uint64_t place = buffer | static_cast<std::uint64_t>(offset) << 32;
    const std::uint64_t high = first >> 32 | (last & keep.last) << 32 | (place & keep.place);
    std::memcpy(out, &low, 8);
    std::memcpy(out + 8, &high, 8);
}

// Loads an offset; a negative one becomes huge.
template <class Offset>
inline std::uint64_t load_offset(const std::uint8_t* offsets, std::size_t i) noexcept {
    Offset value;
    std::memcpy(&value, offsets + i * sizeof(Offset), sizeof(Offset));
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
}

// Checks that remain for values whose text is known as a whole.
enum class Check {
    kNothing,  // it is ASCII
    kStarts,   // it is UTF-8: no value may begin within a character
    kEach,     // it is neither, but perhaps only the bytes of nulls are not
};

// Writes the views of rows [begin, end), whose text is [first, last). `mixed`: whether short and long values were both
// frequent in the rows before; set to the same for these. Each offset is loaded once, since another program may write to
// a mapped file at any moment.
template <class Offset, bool kNulls, Check kCheck>
inline bool write_views(const TextColumn& text, int piece, std::size_t begin, std::size_t end, std::uint64_t first,
                        std::uint64_t last, bool& mixed, std::uint8_t* views) noexcept {
    const std::uint64_t mask = (std::uint64_t{1} << piece) - 1;
    const std::uint8_t* offsets = text.offsets;
    const std::uint8_t* data = text.data;
    const std::size_t size = text.size;
    std::uint64_t from = first;
    std::size_t longs = 0;
    for (std::size_t i = begin; i < end; ++i) {
        const std::uint64_t to = load_offset<Offset>(offsets, i + 1);
        // One comparison for both: where offsets go back, the difference is huge.
        const std::uint64_t n = to - from;
        if (n > last - from || n > mask) [[unlikely]] return false;
        if constexpr (kCheck == Check::kStarts) {
            if (n != 0 && (data[from] & 0xc0) == 0x80) [[unlikely]] return false;
        }
        if constexpr (kNulls) {
            if ((text.bits[i / 8] >> (i % 8) & 1) == 0) {
                std::memset(views + i * 16, 0, 16);
                from = to;
                continue;
            }
        }
        if constexpr (kCheck == Check::kEach) {
            if (!is_utf8(data + from, n)) [[unlikely]] return false;
        }
        const auto buffer = static_cast<std::uint32_t>(from >> piece), place = static_cast<std::uint32_t>(from & mask);
        longs += n > 12;
        if (mixed && size - from >= 12) {
            write_mixed_view(views + i * 16, data + from, n, buffer, place);
        } else {
            write_view(views + i * 16, data + from, n, size - from, buffer, place);
        }
        from = to;
    }
    mixed = longs * 4 > end - begin && longs * 4 < (end - begin) * 3;
    return true;
}

template <class Offset, bool kNulls>
inline Status write_all_views(const TextColumn& text, int piece, std::uint8_t* views) noexcept {
    std::uint64_t first = load_offset<Offset>(text.offsets, 0);
    bool mixed = false;
    for (std::size_t begin = 0; begin < text.count; begin += kViewRows) {
        const std::size_t end = text.count - begin < kViewRows ? text.count : begin + kViewRows;
        const std::uint64_t last = load_offset<Offset>(text.offsets, end);
        if (first > last || last > text.size) return Status::kNeedsFallback;
        const Coding coding = find_coding(text.data + first, last - first);
        bool ok = false;
        if (coding == Coding::kAscii) {
            ok = write_views<Offset, kNulls, Check::kNothing>(text, piece, begin, end, first, last, mixed, views);
        } else if (coding == Coding::kUtf8) {
            ok = write_views<Offset, kNulls, Check::kStarts>(text, piece, begin, end, first, last, mixed, views);
        }
        if constexpr (kNulls) {
            if (!ok) ok = write_views<Offset, kNulls, Check::kEach>(text, piece, begin, end, first, last, mixed, views);
        }
        if (!ok) return Status::kNeedsFallback;
        first = last;
    }
    return Status::kDone;
}

Status text_views(const TextColumn& text, int piece, std::uint8_t* views) noexcept {
    if (text.count == 0) return Status::kDone;  // there may be no offsets at all
    if (text.bits == nullptr) {
        return text.width == 4 ? write_all_views<std::int32_t, false>(text, piece, views)
                               : write_all_views<std::int64_t, false>(text, piece, views);
    }
    return text.width == 4 ? write_all_views<std::int32_t, true>(text, piece, views)
                           : write_all_views<std::int64_t, true>(text, piece, views);
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
