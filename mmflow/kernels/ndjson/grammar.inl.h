// The grammar of JSON (RFC 8259) over the index of ndjson/index.inl.h, compiled once for each instruction set.
//
// Between two entries there is only the rest of the first one, and white space: a text or a number ends with the last
// byte before the next entry that is no white space. Every line that is walked ends with the entry of its line end,
// which no rule accepts as anything else, so a walk never leaves its line.
#pragma once
#include "ndjson/index.inl.h"
#include "common/values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr int kDeepest = 60;         // brackets within brackets; deeper ones need the fallback
constexpr std::size_t kLongest = 300;  // characters of a number, likewise

MMFLOW_INLINE bool json_blank(std::uint8_t c) noexcept { return c == ' ' || c == '\t' || c == '\r'; }

inline bool json_digit(std::uint8_t c) noexcept { return c >= '0' && c <= '9'; }

inline bool is_json_number(const std::uint8_t* p, std::size_t n, std::size_t room) noexcept {
    if (n <= 8 && room >= 8 && (p[0] != '0' || n == 1 || p[1] == '.')) {
        // Digits with at most one point among them, as most numbers are.
        const std::uint64_t word = load8(p, room) | ~low_bits(8 * n);
        const std::uint64_t low = word & 0x7f7f7f7f7f7f7f7full;
        // 0x80 in each byte of text that is no digit; bytes behind the text count as digits.
        const std::uint64_t above = low + 0x4646464646464646ull, below = low + 0x5050505050505050ull;
        const std::uint64_t others = (above | ~below | word) & 0x8080808080808080ull & low_bits(8 * n);
        if (others == 0) return true;
        const auto place = static_cast<std::size_t>(__builtin_ctzll(others)) / 8;
        if ((others & (others - 1)) == 0 && p[place] == '.') return place > 0 && place + 1 < n;
    }
    if (n > kLongest) return false;
    std::size_t i = p[0] == '-';
    if (i == n || !json_digit(p[i])) return false;
    if (p[i] == '0') {
        ++i;
    } else {
        while (i < n && json_digit(p[i])) ++i;
    }
    if (i < n && p[i] == '.') {
        const std::size_t first = ++i;
        while (i < n && json_digit(p[i])) ++i;
        if (i == first) return false;
    }
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        ++i;
        if (i < n && (p[i] == '+' || p[i] == '-')) ++i;
        const std::size_t first = i;
        while (i < n && json_digit(p[i])) ++i;
        if (i == first || i - first > 4) return false;
    }
    return i == n;
}

inline bool json_scalar_begins(std::uint8_t c) noexcept {
    return c == '-' || json_digit(c) || c == 't' || c == 'f' || c == 'n';
}

// Whether this is a number, true, false or null.
MMFLOW_INLINE bool is_json_scalar(const std::uint8_t* p, std::size_t n, std::size_t room) noexcept {
    if (*p == '-' || json_digit(*p)) return is_json_number(p, n, room);
    return (n == 4 && (std::memcmp(p, "true", 4) == 0 || std::memcmp(p, "null", 4) == 0)) ||
           (n == 5 && std::memcmp(p, "false", 5) == 0);
}

// Returns the value of four hexadecimal digits, or -1.
inline int hex4(const std::uint8_t* p) noexcept {
    int value = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint8_t c = p[i], lower = c | 0x20;
        int digit = 0;
        if (json_digit(c)) {
            digit = c - '0';
        } else if (lower >= 'a' && lower <= 'f') {
            digit = lower - 'a' + 10;
        } else {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

// Whether every backslash of a text is followed by a valid escape.
inline bool escapes_valid(const std::uint8_t* p, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        const void* found = std::memchr(p + i, '\\', n - i);
        if (found == nullptr) return true;
        i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - p) + 1;
        if (i >= n) return false;
        if (p[i] == 'u') {
            if (n - i < 5 || hex4(p + i + 1) < 0) return false;
            i += 4;
        } else if (std::strchr("\"\\/bfnrt", p[i]) == nullptr || p[i] == 0) {
            return false;
        }
    }
    return true;
}

// Writes n bytes with their escapes resolved, at most n bytes; false for unpaired surrogates.
inline bool unescape(const std::uint8_t* p, std::size_t n, std::uint8_t* out, std::size_t& written) noexcept {
    std::uint8_t* to = out;
    for (std::size_t i = 0; i < n; ++i) {
        if (p[i] != '\\') {
            *to++ = p[i];
            continue;
        }
        const std::uint8_t c = p[++i];
        if (c != 'u') {
            *to++ = c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
            continue;
        }
        auto code = static_cast<std::uint32_t>(hex4(p + i + 1));
        i += 4;
        if (code >= 0xd800 && code < 0xe000) {
            if (code >= 0xdc00 || n - i < 7 || p[i + 1] != '\\' || p[i + 2] != 'u') return false;
            const auto low = static_cast<std::uint32_t>(hex4(p + i + 3));
            if (low < 0xdc00 || low >= 0xe000) return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            i += 6;
        }
        if (code < 0x80) {
            *to++ = static_cast<std::uint8_t>(code);
        } else if (code < 0x800) {
            *to++ = static_cast<std::uint8_t>(0xc0 | code >> 6);
            *to++ = static_cast<std::uint8_t>(0x80 | (code & 0x3f));
        } else {
            if (code < 0x10000) {
                *to++ = static_cast<std::uint8_t>(0xe0 | code >> 12);
            } else {
                *to++ = static_cast<std::uint8_t>(0xf0 | code >> 18);
                *to++ = static_cast<std::uint8_t>(0x80 | (code >> 12 & 0x3f));
            }
            *to++ = static_cast<std::uint8_t>(0x80 | (code >> 6 & 0x3f));
            *to++ = static_cast<std::uint8_t>(0x80 | (code & 0x3f));
        }
    }
    written = static_cast<std::size_t>(to - out);
    return true;
}

// A chunk and its index.
struct JsonChunk {
    const std::uint8_t* text;
    std::size_t size;
    const std::uint32_t* entries;
    bool escapes;

    std::uint8_t at(std::size_t e) const noexcept { return text[entries[e]]; }

    // Returns the end of the value at an entry.
    MMFLOW_INLINE std::size_t end(std::size_t e) const noexcept {
        std::size_t end = entries[e + 1];
        while (json_blank(text[end - 1])) --end;
        return end;
    }

    // Returns the text at an entry, without its quotes.
    MMFLOW_INLINE Text quoted(std::size_t e) const noexcept {
        return {text + entries[e] + 1, end(e) - entries[e] - 2};
    }

    bool key(std::size_t e, Text& name) const noexcept {
        if (at(e) != '"' || at(e + 1) != ':') return false;
        name = quoted(e);
        return !escapes || std::memchr(name.data, '\\', name.size) == nullptr;
    }

    // Whether a text, number, true, false or null begins at an entry.
    MMFLOW_INLINE bool plain(std::size_t e) const noexcept {
        const std::uint8_t* p = text + entries[e];
        if (*p == '"') {
            if (!escapes) [[likely]] return true;
            const Text inner = quoted(e);
            return escapes_valid(inner.data, inner.size);
        }
        // There is a next entry only if this is not the line's last.
        if (json_scalar_begins(*p)) return is_json_scalar(p, end(e) - entries[e], size - entries[e]);
        return false;
    }

    // Returns the entry behind the valid value at an entry, which was walked before.
    std::size_t skip_value(std::size_t e) const noexcept {
        int depth = 0;
        do {
            const std::uint8_t c = at(e++);
            depth += (c == '{') + (c == '[') - (c == '}') - (c == ']');
        } while (depth > 0);
        return e;
    }

    // Returns the bytes of the entries from e up to `end`, without the white space between them.
    std::size_t tokens_size(std::size_t e, std::size_t end) const noexcept {
        std::size_t total = 0;
        for (; e < end; ++e) total += this->end(e) - entries[e];
        return total;
    }

    std::uint8_t* write_tokens(std::size_t e, std::size_t end, std::uint8_t* to) const noexcept {
        for (; e < end; ++e) {
            const std::size_t n = this->end(e) - entries[e];
            std::memcpy(to, text + entries[e], n);
            to += n;
        }
        return to;
    }

    // Moves from a comma to the value behind it; in an object, past its key, which must be there.
    bool skip_comma(std::size_t& e, bool object) const noexcept {
        ++e;
        if (!object) return true;
        Text name;
        if (!key(e, name)) return false;
        e += 2;
        return true;
    }

    // Checks the object or list at an entry; returns the entry behind it, or 0.
    std::size_t walk(std::size_t e) const noexcept {
        std::uint64_t objects = 0;  // one bit for each open bracket: set for an object's
        int depth = 0;
        for (;;) {
            // A value begins here.
            std::uint8_t c = at(e);
            if (c == '{' || c == '[') {
                if (++depth > kDeepest) return 0;
                objects = objects << 1 | (c == '{');
                ++e;
                if (at(e) != (c == '{' ? '}' : ']')) {
                    if (c == '[') continue;
                    Text name;
                    if (!key(e, name)) return 0;
                    e += 2;
                    continue;
                }
            } else {
                if (!plain(e)) return 0;
                ++e;
                if (at(e) == ',') {
                    if (!skip_comma(e, objects & 1)) return 0;
                    continue;
                }
            }
            // Brackets close, until a comma.
            for (;;) {
                c = at(e);
                if (c != (objects & 1 ? '}' : ']')) return 0;
                objects >>= 1;
                ++e;
                if (--depth == 0) return e;
                if (at(e) == ',') {
                    if (!skip_comma(e, objects & 1)) return 0;
                    break;
                }
            }
        }
    }
};

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
