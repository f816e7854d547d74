// The kernels of encodings.h, compiled once for each instruction set.
//
// A form knows how to translate one character (`next`) and, of a block of 64 bytes, all that is ASCII at once (`block`).
#pragma once
#include "encodings/encodings.h"
#include "simd/blocks.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::uint8_t kNoCharacter = 0xc0;
constexpr std::uint64_t kNoText = 1ull << 56 | kNoCharacter;

// One character: bytes of the input, 0 where the end cuts it; bytes of the output.
struct Step {
    std::size_t raw;
    std::size_t text;
};

// Writes a code point, and meaningless bytes behind it, eight in all; returns its length.
MMFLOW_INLINE std::size_t write_code_point(std::uint8_t* out, std::uint32_t c) noexcept {
    if (c < 0x80) {
        out[0] = static_cast<std::uint8_t>(c);
        return 1;
    }
    if (c < 0x800) {
        out[0] = static_cast<std::uint8_t>(0xc0 | c >> 6);
        out[1] = static_cast<std::uint8_t>(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = static_cast<std::uint8_t>(0xe0 | c >> 12);
        out[1] = static_cast<std::uint8_t>(0x80 | (c >> 6 & 63));
        out[2] = static_cast<std::uint8_t>(0x80 | (c & 63));
        return 3;
    }
    out[0] = static_cast<std::uint8_t>(0xf0 | c >> 18);
    out[1] = static_cast<std::uint8_t>(0x80 | (c >> 12 & 63));
    out[2] = static_cast<std::uint8_t>(0x80 | (c >> 6 & 63));
    out[3] = static_cast<std::uint8_t>(0x80 | (c & 63));
    return 4;
}

MMFLOW_INLINE std::size_t write_entry(std::uint8_t* out, std::uint64_t entry) noexcept {
    std::memcpy(out, &entry, 8);  // little endian; its length is overwritten by the next
    return static_cast<std::size_t>(entry >> 56);
}

struct TableForm {
    TextTables tables;

    MMFLOW_INLINE Step next(const std::uint8_t* p, std::size_t left, bool final, std::uint8_t* out) const noexcept {
        const std::uint64_t entry = tables.singles[*p];
        if (entry != 0) [[likely]] return {1, write_entry(out, entry)};
        return longer(p, left, final, out);
    }

    Step longer(const std::uint8_t* p, std::size_t left, bool final, std::uint8_t* out) const noexcept {
        const Step none{1, write_entry(out, kNoText)};
        const Step cut{final ? 1u : 0u, 1};
        if (left < 2) return cut;
        const std::uint64_t pair = tables.pairs[p[0] << 8 | p[1]];
        if (pair != 0) return {2, write_entry(out, pair)};
        if (tables.triples != nullptr && p[0] == 0x8f && p[1] >= 0xa1) {
            if (left < 3) return cut;
            const std::uint64_t triple = tables.triples[p[1] << 8 | p[2]];
            return triple != 0 ? Step{3, write_entry(out, triple)} : none;
        }
        if (tables.fours != nullptr && p[1] >= 0x30 && p[1] <= 0x39 && p[0] >= 0x81 && p[0] <= 0xfe) {
            if (left < 3) return cut;
            if (p[2] < 0x81 || p[2] > 0xfe) return none;
            if (left < 4) return cut;
            if (p[3] < 0x30 || p[3] > 0x39) return none;
            const std::uint32_t number = ((static_cast<std::uint32_t>(p[0] - 0x81) * 10 + (p[1] - 0x30)) * 126 +
                                          (p[2] - 0x81)) * 10 + (p[3] - 0x30);
            if (number < 39420) {
                const std::uint32_t c = tables.fours[number];
                return c != 0 ? Step{4, write_code_point(out, c)} : none;
            }
            if (number >= 189000 && number - 189000 < 0x100000) return {4, write_code_point(out, number - 189000 + 0x10000)};
        }
        return none;
    }

    // Translates characters that begin in the 64 bytes at p, behind which 64 more may be read; returns the bytes.
    MMFLOW_INLINE std::size_t block(const std::uint8_t* p, std::size_t left, std::uint8_t*& out) const noexcept {
        std::uint64_t high = tables.ascii ? Block::load(p).high() : ~0ull;
        std::memcpy(out, p, 64);
        if (high == 0) {
            out += 64;
            return 64;
        }
        std::size_t at = 0;
        if (__builtin_popcountll(high) > 24) {
            while (at < 64) {
                const Step step = next(p + at, left - at, false, out);
                at += step.raw;
                out += step.text;
            }
            return at;
        }
        // Few: the ASCII between them is copied as a whole block, of which what follows is overwritten.
        while (high != 0) {
            const auto bit = static_cast<std::size_t>(__builtin_ctzll(high));
            out += bit - at;
            const Step step = next(p + bit, left - bit, false, out);
            at = bit + step.raw;
            out += step.text;
            std::memcpy(out, p + at, 64);
            if (at >= 64) return at;
            high &= ~0ull << at;
        }
        out += 64 - at;
        return 64;
    }
};

template <bool kBig>
struct Utf16Form {
    MMFLOW_INLINE static std::uint32_t unit(const std::uint8_t* p) noexcept {
        return kBig ? static_cast<std::uint32_t>(p[0] << 8 | p[1]) : static_cast<std::uint32_t>(p[1] << 8 | p[0]);
    }

    MMFLOW_INLINE Step next(const std::uint8_t* p, std::size_t left, bool final, std::uint8_t* out) const noexcept {
        *out = kNoCharacter;
        if (left < 2) return {final ? left : 0, 1};
        const std::uint32_t first = unit(p);
        if ((first & 0xf800) != 0xd800) [[likely]] return {2, write_code_point(out, first)};
        if (first >= 0xdc00) return {2, 1};
        if (left < 4) return {final ? 2u : 0u, 1};
        const std::uint32_t second = unit(p + 2);
        if ((second & 0xfc00) != 0xdc00) return {2, 1};
        return {4, write_code_point(out, 0x10000 + ((first & 0x3ff) << 10 | (second & 0x3ff)))};
    }

    MMFLOW_INLINE std::size_t block(const std::uint8_t* p, std::size_t left, std::uint8_t*& out) const noexcept {
        // As the compiler vectorizes it.
        std::uint16_t units[32];
        std::memcpy(units, p, 64);
        std::uint16_t all = 0;
        for (int i = 0; i < 32; ++i) all = static_cast<std::uint16_t>(all | units[i]);
        if ((all & (kBig ? 0x80ff : 0xff80)) == 0) {
            for (int i = 0; i < 32; ++i) out[i] = static_cast<std::uint8_t>(kBig ? units[i] >> 8 : units[i]);
            out += 32;
            return 64;
        }
        std::size_t at = 0;
        while (at < 64) {
            const Step step = next(p + at, left - at, false, out);
            at += step.raw;
            out += step.text;
        }
        return at;
    }
};

template <bool kBig>
struct Utf32Form {
    MMFLOW_INLINE Step next(const std::uint8_t* p, std::size_t left, bool final, std::uint8_t* out) const noexcept {
        *out = kNoCharacter;
        if (left < 4) return {final ? left : 0, 1};
        std::uint32_t c;
        std::memcpy(&c, p, 4);
        if constexpr (kBig) c = __builtin_bswap32(c);
        if (c > 0x10ffff || (c & 0xfffff800) == 0xd800) return {4, 1};
        return {4, write_code_point(out, c)};
    }

    MMFLOW_INLINE std::size_t block(const std::uint8_t* p, std::size_t left, std::uint8_t*& out) const noexcept {
        for (std::size_t at = 0; at < 64; at += 4) out += next(p + at, left - at, false, out).text;
        return 64;
    }
};

// Calls visit with the form of a spec.
template <class Visit>
inline auto with_form(const TextSpec& spec, Visit&& visit) noexcept {
    switch (spec.form) {
        case TextForm::kUtf16Le: return visit(Utf16Form<false>{});
        case TextForm::kUtf16Be: return visit(Utf16Form<true>{});
        case TextForm::kUtf32Le: return visit(Utf32Form<false>{});
        case TextForm::kUtf32Be: return visit(Utf32Form<true>{});
        default: return visit(TableForm{spec.tables});
    }
}

inline TextResult text_translate(const TextSpec& spec, const std::uint8_t* data, std::size_t size, bool final, std::uint8_t* out,
                          TextPlace* places) noexcept {
    return with_form(spec, [&](const auto form) noexcept {
        TextResult result;
        std::uint8_t* to = out;
        std::size_t at = 0;
        while (at < size) {
            places[result.places++] = {at, static_cast<std::uint64_t>(to - out)};
            const std::size_t end = size - at < kTextStride ? size : at + kTextStride;
            while (at + 64 <= end && size - at >= 192) at += form.block(data + at, size - at, to);
            while (at < end) {
                const Step step = form.next(data + at, size - at, final, to);
                if (step.raw == 0) break;
                at += step.raw;
                to += step.text;
            }
            if (at < end) break;
        }
        result.consumed = at;
        result.written = static_cast<std::size_t>(to - out);
        return result;
    });
}

inline std::size_t text_bound(const TextSpec& spec, const std::uint8_t* data, std::size_t size) noexcept {
    constexpr std::size_t slack = 256;
    if (spec.form == TextForm::kTable) {
        if (!spec.tables.ascii) return 3 * size + slack;
        std::size_t high = 0, at = 0;
        for (; at + 64 <= size; at += 64) high += static_cast<std::size_t>(__builtin_popcountll(Block::load(data + at).high()));
        for (; at < size; ++at) high += data[at] >> 7;
        if (high == 0) return 0;
        // Behind each first byte, one that is ASCII may belong to it.
        const std::size_t more = spec.tables.pairs == nullptr ? 2 * high : 4 * high;
        return (more < 2 * size ? size + more : 3 * size) + slack;
    }
    if (spec.form == TextForm::kUtf32Le || spec.form == TextForm::kUtf32Be) return size + slack;
    return size + size / 2 + slack;
}

inline void text_locate(const TextSpec& spec, const std::uint8_t* data, std::size_t size, const TextPlace* places,
                 std::size_t place_count, std::int64_t* offsets, std::size_t count) noexcept {
    with_form(spec, [&](const auto form) noexcept {
        std::uint8_t ignored[16];
        std::size_t at = 0, text = 0, place = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const auto wanted = static_cast<std::size_t>(offsets[i]);
            std::size_t above = place_count;
            while (above > place + 1) {
                const std::size_t middle = (place + above) / 2;
                (places[middle].text <= wanted ? place : above) = middle;
            }
            if (place_count != 0 && places[place].text > text) {
                at = places[place].raw;
                text = places[place].text;
            }
            while (text < wanted && at < size) {
                const Step step = form.next(data + at, size - at, true, ignored);
                at += step.raw;
                text += step.text;
            }
            offsets[i] = static_cast<std::int64_t>(at);
        }
        return 0;
    });
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
