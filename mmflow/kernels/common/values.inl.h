// Parsing of one value from its text, compiled once for each instruction set.
//
// Each function returns false for text that needs the fallback, the reference decoder. `p` and `n` are the text; `room`
// is the number of bytes from `p` on that may be read (at least n).
#pragma once
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/inline.h"
#include "common/libc.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::uint64_t kZeros = 0x3030303030303030ull;
constexpr std::uint64_t kPower10[] = {
    1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull,
    10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull, 1000000000000000ull,
    10000000000000000ull, 100000000000000000ull, 1000000000000000000ull};
constexpr double kPower10Double[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                                     1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Whether all are true, without a branch for each.
template <class... Bools>
MMFLOW_INLINE bool all(Bools... each) noexcept {
    return (static_cast<int>(each) & ...) != 0;
}

// Loads eight bytes, the first lowest, of which only `room` may be touched.
MMFLOW_INLINE std::uint64_t load8(const std::uint8_t* p, std::size_t room) noexcept {
    std::uint64_t word = 0;
    if (room >= 8) [[likely]] {
        std::memcpy(&word, p, 8);
    } else {
        for (std::size_t i = 0; i < room; ++i) word |= static_cast<std::uint64_t>(p[i]) << (8 * i);
    }
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    return word;
}

// Whether all eight bytes are digits.
MMFLOW_INLINE bool all_digits(std::uint64_t word) noexcept {
    return ((word & 0xf0f0f0f0f0f0f0f0ull) | (((word + 0x0606060606060606ull) & 0xf0f0f0f0f0f0f0f0ull) >> 4)) ==
           0x3333333333333333ull;
}

// Combines eight digits to a number (Lemire, 2022, "Quickly parsing eight digits").
inline std::uint64_t combine_eight_digits(std::uint64_t word) noexcept {
    word -= kZeros;
    word = (word * 10) + (word >> 8);
    constexpr std::uint64_t mask = 0x000000ff000000ffull;
    constexpr std::uint64_t mul1 = 0x000f424000000064ull;
    constexpr std::uint64_t mul2 = 0x0000271000000001ull;
    return (((word & mask) * mul1) + (((word >> 16) & mask) * mul2)) >> 32;
}

// Parses the first n (1 to 8) of eight bytes as a number.
MMFLOW_INLINE bool parse_few_digits(std::uint64_t word, std::size_t n, std::uint64_t& out) noexcept {
    const int shift = static_cast<int>(8 * (8 - n));
    if (shift) word = (word << shift) | (kZeros >> (64 - shift));
    out = combine_eight_digits(word);
    return all_digits(word);
}

// Parses up to 18 digits.
inline bool parse_digits(const std::uint8_t* p, std::size_t n, std::size_t room, std::uint64_t& out) noexcept {
    if (n == 0 || n > 18) return false;
    if (n <= 8) return parse_few_digits(load8(p, room), n, out);
    std::uint64_t high = 0, low = 0;
    const std::size_t first = n - 8;
    if (first <= 8) {
        if (!parse_few_digits(load8(p, room), first, high)) return false;
    } else {
        std::uint64_t top = 0;
        if (!parse_few_digits(load8(p, room), first - 8, top)) return false;
        if (!parse_few_digits(load8(p + first - 8, room - (first - 8)), 8, high)) return false;
        high += top * kPower10[8];
    }
    if (!parse_few_digits(load8(p + first, room - first), 8, low)) return false;
    out = high * kPower10[8] + low;
    return true;
}

// Parses digits[.digits] as a whole number and the number of decimal places.
MMFLOW_INLINE bool parse_pointed(const std::uint8_t* p, std::size_t n, std::size_t room, std::uint64_t& mantissa,
                    std::size_t& places) noexcept {
    if (n == 0) return false;
    const std::uint64_t word = load8(p, room);
    const std::uint64_t x = word ^ 0x2e2e2e2e2e2e2e2eull;
    // The lowest zero byte is found exactly; those above it may be false.
    const std::uint64_t dots = (x - 0x0101010101010101ull) & ~x & 0x8080808080808080ull;
    std::size_t whole = dots ? static_cast<std::size_t>(__builtin_ctzll(dots)) / 8 : 8;
    if (n <= 8) [[likely]] {
        if (whole >= n) {
            places = 0;
            return parse_few_digits(word, n, mantissa);
        }
        places = n - whole - 1;
        if (whole == 0 || places == 0) return false;
        // The digits before the point and those behind it, moved together.
        const std::uint64_t front = (1ull << (8 * whole)) - 1;
        return parse_few_digits((word & front) | (word >> 8 & ~front), n - 1, mantissa);
    }
    if (whole == 8) {
        while (whole < n && p[whole] != '.') ++whole;
        if (whole == n) {
            places = 0;
            return parse_digits(p, n, room, mantissa);
        }
    }
    places = n - whole - 1;
    if (whole == 0 || places == 0 || whole + places > 18) return false;
    std::uint64_t front = 0, back = 0;
    if (whole <= 8 && places <= 8) [[likely]] {
        const bool ok = all(parse_few_digits(word, whole, front),
                              parse_few_digits(load8(p + whole + 1, room - whole - 1), places, back));
        mantissa = front * kPower10[places] + back;
        return ok;
    }
    if (!parse_digits(p, whole, room, front) || !parse_digits(p + whole + 1, places, room - whole - 1, back)) return false;
    mantissa = front * kPower10[places] + back;
    return true;
}

inline bool parse_two_digits(const std::uint8_t* p, int& out) noexcept {
    const unsigned a = p[0] - '0', b = p[1] - '0';
    out = static_cast<int>(a * 10 + b);
    return a <= 9 && b <= 9;
}

// Parses a fraction of a second in units of 10^-places; more digits need the fallback.
inline bool parse_fraction(const std::uint8_t* p, std::size_t n, int places, std::int64_t& out) noexcept {
    if (n == 0 || n > static_cast<std::size_t>(places)) return false;
    std::uint64_t value = 0;
    if (!parse_digits(p, n, n, value)) return false;
    out = static_cast<std::int64_t>(value * kPower10[static_cast<std::size_t>(places) - n]);
    return true;
}

inline bool is_number_text(const std::uint8_t* p, std::size_t n) noexcept {
    bool any = false;
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint8_t c = p[i];
        const bool digit = c >= '0' && c <= '9';
        any |= digit;
        if (!digit && c != '.' && c != 'e' && c != 'E' && c != '-' && c != '+') return false;
    }
    return any && p[0] != '+';
}

template <class T>
[[gnu::noinline]] bool parse_rounded(const std::uint8_t* p, std::size_t n, T& out) noexcept {
    return n > 0 && is_number_text(p, n) && convert_number(reinterpret_cast<const char*>(p), n, out);
}

inline bool parse_bool(const std::uint8_t* p, std::size_t n, bool& out) noexcept {
    const auto is = [&](const char* text, std::size_t length) { return n == length && std::memcmp(p, text, n) == 0; };
    if (is("1", 1) || is("true", 4) || is("True", 4) || is("TRUE", 4)) {
        out = true;
        return true;
    }
    out = false;
    return is("0", 1) || is("false", 5) || is("False", 5) || is("FALSE", 5);
}

// Whether a number begins with a zero before another digit: 007, -01.5.
MMFLOW_INLINE bool has_leading_zero(const std::uint8_t* p, std::size_t n) noexcept {
    const std::size_t first = n > 0 && p[0] == '-';
    return n > first + 1 && p[first] == '0' && p[first + 1] >= '0' && p[first + 1] <= '9';
}

// Whether this is a whole number of more than `most` digits.
inline bool has_more_digits(const std::uint8_t* p, std::size_t n, std::size_t most) noexcept {
    const std::size_t first = n > 0 && p[0] == '-';
    if (n - first <= most) return false;
    for (std::size_t i = first; i < n; ++i) {
        if (p[i] < '0' || p[i] > '9') return false;
    }
    return true;
}

// Parses whole numbers of 19 and 20 digits, with a sign where T has one; longer text needs the fallback.
template <class T>
[[gnu::noinline]] bool parse_long_digits(const std::uint8_t* p, std::size_t n, T& out) noexcept {
    if (n > 20) return false;
    const char* first = reinterpret_cast<const char*>(p);
    const auto result = std::from_chars(first, first + n, out);
    return result.ec == std::errc() && result.ptr == first + n;
}

// Parses an optional sign and digits, within [low, high].
MMFLOW_INLINE bool parse_int(const std::uint8_t* p, std::size_t n, std::size_t room, std::int64_t low, std::int64_t high,
               std::int64_t& out) noexcept {
    const bool negative = n > 0 && p[0] == '-';
    if (n - negative > 18) [[unlikely]] {
        if (!parse_long_digits(p, n, out)) return false;
    } else {
        std::uint64_t value = 0;
        if (!parse_digits(p + negative, n - negative, room - negative, value)) return false;
        const auto number = static_cast<std::int64_t>(value);
        out = negative ? -number : number;
    }
    return out >= low && out <= high;
}

inline bool parse_uint(const std::uint8_t* p, std::size_t n, std::size_t room, std::uint64_t high,
                std::uint64_t& out) noexcept {
    return (n > 18 ? parse_long_digits(p, n, out) : parse_digits(p, n, room, out)) && out <= high;
}

// Parses a double, correctly rounded: exact by one division where digits and exponent are few (Clinger, 1990, "How to read floating
// point numbers accurately"), else by the library.
MMFLOW_INLINE bool parse_double(const std::uint8_t* p, std::size_t n, std::size_t room, double& out) noexcept {
    const bool negative = n > 0 && p[0] == '-';
    std::uint64_t mantissa = 0;
    std::size_t places = 0;
    if (parse_pointed(p + negative, n - negative, room - negative, mantissa, places) && mantissa < (1ull << 53)) [[likely]] {
        const double value = static_cast<double>(mantissa) / kPower10Double[places];
        out = negative ? -value : value;
        return true;
    }
    return parse_rounded(p, n, out);
}

inline bool parse_float(const std::uint8_t* p, std::size_t n, float& out) noexcept { return parse_rounded(p, n, out); }

// Parses a decimal as a whole number of its last places; more than 18 digits need the fallback.
inline bool parse_decimal(const std::uint8_t* p, std::size_t n, std::size_t room, int precision, int scale,
                   std::int64_t& out) noexcept {
    const bool negative = n > 0 && p[0] == '-';
    std::uint64_t mantissa = 0;
    std::size_t places = 0;
    if (!parse_pointed(p + negative, n - negative, room - negative, mantissa, places)) return false;
    if (scale < 0 || places > static_cast<std::size_t>(scale)) return false;
    const std::size_t missing = static_cast<std::size_t>(scale) - places;
    // The text's own digits count: 18 of them at most, with those that the scale adds.
    if (n + missing > 18 || mantissa * kPower10[missing] >= kPower10[precision < 18 ? precision : 18]) return false;
    const auto value = static_cast<std::int64_t>(mantissa * kPower10[missing]);
    out = negative ? -value : value;
    return true;
}

// Converts YYYY-MM- and DD, the first bytes lowest, to days since 1970 (as 64 bits of two's complement), in the proleptic
// Gregorian calendar, whose year 0 is a leap year. Without branches or tables, so that its loops vectorize. Days
// before a month are Reingold and Dershowitz's (Calendrical Calculations, section 2.2).
MMFLOW_INLINE bool days_since_1970(std::uint64_t front, std::uint64_t back, std::uint64_t& out) noexcept {
    // Zero where a dash must be, a digit's value elsewhere, so that one test checks all bytes.
    front ^= 0x2d30302d30303030ull;
    back ^= 0x3030u;
    const std::uint64_t shaped = (((front + 0x7f76767f76767676ull) | front) & 0x8080808080808080ull) |
                                 (((back + 0x7676u) | back) & 0x8080u);
    const std::uint64_t pairs = (front << 3) + (front << 1) + (front >> 8);  // of digits, in the first byte of each
    const std::uint64_t century = pairs & 0xff, year = pairs >> 16 & 0xff, month = pairs >> 40 & 0xff;
    const std::uint64_t day = ((back << 3) + (back << 1) + (back >> 8)) & 0xff;
    const std::uint64_t is_short = (century & 3) != 0;  // the century begins with no leap year
    const std::uint64_t first = year == 0;
    const std::uint64_t leap = ((year & 3) == 0) & ~(first & is_short);
    const std::uint64_t february = month == 2;
    const std::uint64_t length = 30 + ((month + (month >> 3)) & 1) - (february << 1) + (february & leap);
    const std::uint64_t later = month > 2;
    const std::uint64_t before = ((month * 367 - 362) * 43691 >> 19) - (later << 1) + (later & leap);
    const std::uint64_t leaps = century * 24 + ((century + 3) >> 2) + ((year + 3) >> 2) - (is_short & ~first);
    out = (century * 100 + year) * 365 + leaps + before + day - 1 - 719528;
    return (shaped == 0) & (month - 1 < 12) & (day - 1 < length);
}

MMFLOW_INLINE bool parse_date(const std::uint8_t* p, std::size_t n, std::int32_t& out) noexcept {
    if (n != 10) return false;
    std::uint64_t days = 0;
    const bool ok = days_since_1970(load8(p, 8), p[8] | static_cast<std::uint64_t>(p[9]) << 8, days);
    out = static_cast<std::int32_t>(days);
    return ok;
}

// Parses hh:mm:ss[.f] in units of 10^-places seconds.
inline bool parse_time(const std::uint8_t* p, std::size_t n, int places, std::int64_t& out) noexcept {
    int hour = 0, minute = 0, second = 0;
    if (n < 8 || p[2] != ':' || p[5] != ':') return false;
    if (!all(parse_two_digits(p, hour), parse_two_digits(p + 3, minute), parse_two_digits(p + 6, second))) return false;
    if (hour > 23 || minute > 59 || second > 59) return false;
    std::int64_t part = 0;
    if (n > 8 && (p[8] != '.' || !parse_fraction(p + 9, n - 9, places, part))) return false;
    out = (hour * 3600ll + minute * 60 + second) * static_cast<std::int64_t>(kPower10[places]) + part;
    return true;
}

// Strips Z, ±hh, ±hhmm or ±hh:mm from the end of a time; `east` is its offset in seconds.
inline bool strip_zone(const std::uint8_t* p, std::size_t& n, std::int64_t& east) noexcept {
    east = 0;
    if (n > 0 && p[n - 1] == 'Z') {
        --n;
        return true;
    }
    const auto sign = [&](std::size_t back) { return n > back && (p[n - back] == '+' || p[n - back] == '-'); };
    const std::size_t length = sign(6) && p[n - 3] == ':' ? 6 : sign(5) ? 5 : sign(3) ? 3 : 0;
    if (length == 0) return false;
    n -= length;
    int hours = 0, minutes = 0;
    if (!parse_two_digits(p + n + 1, hours) || (length > 3 && !parse_two_digits(p + n + length - 2, minutes))) return false;
    if (hours > 23 || minutes > 59) return false;
    east = (p[n] == '-' ? -1 : 1) * (hours * 3600ll + minutes * 60);
    return true;
}

// Parses YYYY-MM-DD[ T]hh:mm:ss[.f][zone] in units of 10^-places seconds since 1970, with a zone if and only if `zoned`.
inline bool parse_timestamp(const std::uint8_t* p, std::size_t n, int places, bool zoned, std::int64_t& out) noexcept {
    std::int64_t east = 0;
    if (zoned && !strip_zone(p, n, east)) return false;
    std::int32_t days = 0;
    std::int64_t time = 0;
    if (n < 19 || (p[10] != ' ' && p[10] != 'T')) return false;
    if (!parse_date(p, 10, days) || !parse_time(p + 11, n - 11, places, time)) return false;
    std::int64_t start = 0;
    const auto second = static_cast<std::int64_t>(kPower10[places]);
    if (__builtin_mul_overflow(static_cast<std::int64_t>(days), 86400 * second, &start)) return false;
    return !__builtin_add_overflow(start, time - east * second, &out);
}

// Whether bytes are UTF-8 by RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
inline bool is_utf8(const std::uint8_t* p, std::size_t n) noexcept {
    std::size_t i = 0;
    while (i < n) {
        if (n - i >= 8) {
            std::uint64_t word;
            std::memcpy(&word, p + i, 8);
            if ((word & 0x8080808080808080ull) == 0) {
                i += 8;
                continue;
            }
        }
        const std::uint8_t a = p[i];
        if (a < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = a >= 0xf0 ? 4 : a >= 0xe0 ? 3 : 2;
        if (a < 0xc2 || a > 0xf4 || n - i < length) return false;
        const std::uint8_t b = p[i + 1];
        const std::uint8_t low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
        const std::uint8_t high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
        if (b < low || b > high) return false;
        for (std::size_t k = 2; k < length; ++k) {
            if ((p[i + k] & 0xc0) != 0x80) return false;
        }
        i += length;
    }
    return true;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
