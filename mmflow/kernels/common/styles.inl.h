// Parsing of values that are not spelled as usual, compiled once for each instruction set.
//
//   number    "1.234,5" -> "1234.5", which values.inl.h parses
//   moment    the steps of a format, one after the other -> days, seconds, fraction, offset from UTC
//   wall time -> UTC by a table of offsets
//
// As in values.inl.h, false means that the fallback decides. The rules are those of mmflow/formats/csv/respelling.py and
// strptime.py.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/column.h"
#include "common/values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kNumberBytes = 48;
// The first second of the year 1, the last of 9999.
constexpr std::int64_t kFirstSecond = -62135596800ll, kLastSecond = 253402300799ll;

inline bool is_digit(std::uint8_t c) noexcept { return c >= '0' && c <= '9'; }

// Copies a number with a decimal point and without separators between groups of digits.
inline bool respell_number(const Style& style, const std::uint8_t* p, std::size_t n, std::uint8_t (&out)[kNumberBytes],
                           std::size_t& size) noexcept {
    if (n > kNumberBytes - 8) return false;
    std::size_t i = 0, k = 0;
    if (n > 0 && p[0] == '-') out[k++] = p[i++];
    std::size_t digits = 0, first = 0, groups = 0;
    bool threes = true, twos = true;  // of the groups between the first and the last
    for (; i < n; ) {
        if (is_digit(p[i])) {
            out[k++] = p[i++];
            ++digits;
        } else if (style.thousands_size && n - i >= style.thousands_size &&
                   std::memcmp(p + i, style.thousands, style.thousands_size) == 0) {
            if (groups == 0) {
                first = digits;
            } else {
                threes &= digits == 3;
                twos &= digits == 2;
            }
            ++groups;
            digits = 0;
            i += style.thousands_size;
        } else {
            break;
        }
    }
    if (groups) {
        const bool grouped = first >= 1 && digits == 3 && ((threes && first <= 3) || (twos && first <= 2));
        if (!grouped) return false;
    }
    bool pointed = false;
    for (; i < n; ++i) {
        const std::uint8_t c = p[i];
        if (c == style.decimal && !pointed) {
            pointed = true;
            out[k++] = '.';
        } else if (is_digit(c) || c == 'e' || c == 'E' || c == '-' || c == '+') {
            out[k++] = c;
        } else {
            return false;
        }
    }
    size = k;
    return k > 0;
}

// Swaps points and commas in eight bytes.
MMFLOW_INLINE std::uint64_t swap_points(std::uint64_t word) noexcept {
    // They differ in one bit. The zero bytes of x are found exactly.
    const std::uint64_t x = (word & ~0x0202020202020202ull) ^ 0x2c2c2c2c2c2c2c2cull;
    const std::uint64_t zero = ~(((x & 0x7f7f7f7f7f7f7f7full) + 0x7f7f7f7f7f7f7f7full) | x) & 0x8080808080808080ull;
    return word ^ (zero >> 6);
}

// Moves the parts of a date of fixed width to where YYYY-MM-DD has them; false where it has another width or marks.
MMFLOW_INLINE bool arrange_date(const DateLayout& layout, const std::uint8_t* p, std::size_t n, std::uint64_t& front,
                                std::uint64_t& back) noexcept {
    if (n != layout.width) return false;
    for (int i = 0; i < 2; ++i) {
        if (layout.mark[i] && p[layout.mark_at[i]] != layout.mark[i]) return false;
    }
    const auto pair = [&](std::size_t at) { return static_cast<std::uint64_t>(p[at]) | static_cast<std::uint64_t>(p[at + 1]) << 8; };
    const std::uint64_t year = pair(layout.year) | pair(layout.year + 2u) << 16;
    front = year | (static_cast<std::uint64_t>('-') << 32) | pair(layout.month) << 40 | (static_cast<std::uint64_t>('-') << 56);
    back = pair(layout.day);
    return year != 0x30303030u;
}

struct Moment {
    std::int64_t days = 0;
    std::int64_t seconds = 0;
    std::uint64_t fraction = 0;  // without zeros at its end
    std::size_t places = 0;      // of the fraction
    bool zoned = false;
    std::int64_t east = 0;
};

// Days since 1970 of a date in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
inline bool count_days(int year, int month, int day, std::int64_t& out) noexcept {
    constexpr std::uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > lengths[month - 1] + (leap && month == 2)) return false;
    const int y = year - (month <= 2);
    const int era = y / 400, of_era = y - era * 400;
    const int of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    out = era * 146097ll + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return true;
}

// Text of a moment that is read step by step.
class MomentReader {
   public:
    MomentReader(const std::uint8_t* p, std::size_t n) noexcept : p_(p), n_(n) {}

    bool read(const TimeForm& form, Moment& out) noexcept {
        for (std::size_t s = 0; s < form.count; ++s) {
            if (!step(form.steps[2 * s], form.steps[2 * s + 1])) return false;
        }
        return at_ == n_ && combine(out);
    }

   private:
    bool number(int most, bool whole, int& out) noexcept {
        int value = 0, count = 0;
        while (count < most && at_ < n_ && is_digit(p_[at_])) {
            value = value * 10 + (p_[at_++] - '0');
            ++count;
        }
        out = value;
        return count > 0 && (!whole || count == most);
    }

    // Whether the text goes on with a name, whatever its case.
    bool word(const char* name, std::size_t length) noexcept {
        if (n_ - at_ < length) return false;
        for (std::size_t i = 0; i < length; ++i) {
            const std::uint8_t c = p_[at_ + i];
            if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != name[i]) return false;
        }
        at_ += length;
        return true;
    }

    bool month_name(bool whole) noexcept {
        static constexpr const char* names[] = {"january", "february", "march", "april", "may", "june", "july",
                                                "august", "september", "october", "november", "december"};
        for (int i = 0; i < 12; ++i) {
            if (word(names[i], whole ? std::strlen(names[i]) : 3)) {
                month_ = i + 1;
                return true;
            }
        }
        return false;
    }

    // A weekday says nothing that the date doesn't.
    bool weekday(bool whole) noexcept {
        static constexpr const char* names[] = {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"};
        for (const char* name : names) {
            if (word(name, whole ? std::strlen(name) : 3)) return true;
        }
        return false;
    }

    bool blanks() noexcept {
        const std::size_t begin = at_;
        while (at_ < n_ && (p_[at_] == ' ' || (p_[at_] >= '\t' && p_[at_] <= '\r'))) ++at_;
        return at_ > begin;
    }

    bool fraction() noexcept {
        std::size_t kept = 0;
        std::uint64_t value = 0;
        const std::size_t begin = at_;
        while (at_ < n_ && at_ - begin < 9 && is_digit(p_[at_])) {
            value = value * 10 + static_cast<std::uint64_t>(p_[at_] - '0');
            ++at_;
            if (p_[at_ - 1] != '0') {
                kept = at_ - begin;
                fraction_ = value;
            }
        }
        places_ = kept;
        return at_ > begin;
    }

    bool zone() noexcept {
        zoned_ = true;
        if (at_ < n_ && (p_[at_] == 'Z' || p_[at_] == 'z')) {
            ++at_;
            return true;
        }
        if (n_ - at_ < 3 || (p_[at_] != '+' && p_[at_] != '-')) return false;
        const bool west = p_[at_] == '-';
        int hours = 0, minutes = 0;
        if (!parse_two_digits(p_ + at_ + 1, hours)) return false;
        at_ += 3;
        const std::size_t colon = at_ < n_ && p_[at_] == ':';
        if (n_ - at_ >= 2 + colon && parse_two_digits(p_ + at_ + colon, minutes)) {
            at_ += 2 + colon;
        } else {
            minutes = 0;
        }
        if (hours > 23 || minutes > 59) return false;
        east_ = (west ? -1 : 1) * (hours * 3600ll + minutes * 60);
        return true;
    }

    bool epoch() noexcept {
        const bool negative = at_ < n_ && p_[at_] == '-';
        at_ += negative;
        const std::size_t begin = at_;
        std::int64_t value = 0;
        while (at_ < n_ && at_ - begin < 18 && is_digit(p_[at_])) value = value * 10 + (p_[at_++] - '0');
        epoch_ = negative ? -value : value;
        has_epoch_ = true;
        return at_ > begin;
    }

    bool half() noexcept {
        pm_ = word("pm", 2);
        return pm_ || word("am", 2);
    }

    bool step(std::uint8_t operation, std::uint8_t argument) noexcept {
        const bool whole = argument == '2';
        switch (operation) {
            case '\'': return at_ < n_ && p_[at_++] == argument;
            case ' ': return blanks();
            case 'Y': has_year_ = true; return number(4, true, year_);
            case 'y':
                has_year_ = true;
                if (!number(2, true, year_)) return false;
                year_ += year_ < 69 ? 2000 : 1900;
                return true;
            case 'm': return number(2, whole, month_);
            case 'd': return number(2, whole, day_);
            case 'j': by_day_ = true; return number(3, whole, day_);
            case 'a': return weekday(false);
            case 'A': return weekday(true);
            case 'b': return month_name(false);
            case 'B': return month_name(true);
            case 'H': return number(2, whole, hour_);
            case 'I': by_half_ = true; return number(2, whole, hour_) && hour_ >= 1 && hour_ <= 12;
            case 'p': return half();
            case 'M': return number(2, whole, minute_);
            case 'S': return number(2, whole, second_);
            case 'f': return fraction();
            case 's': return epoch();
            case 'z': return zone();
            case 'Z': zoned_ = true; return word("utc", 3) || word("gmt", 3) || word("z", 1);
            default: return false;
        }
    }

    bool combine(Moment& out) const noexcept {
        out = {};
        out.fraction = fraction_;
        out.places = places_;
        if (has_epoch_) {
            out.days = epoch_ / 86400;
            out.seconds = epoch_ % 86400;
            if (out.seconds < 0) {
                out.seconds += 86400;
                --out.days;
            }
            out.zoned = true;
            return true;
        }
        const int hour = by_half_ ? hour_ % 12 + (pm_ ? 12 : 0) : hour_;
        if (hour > 23 || minute_ > 59 || second_ > 59) return false;
        out.seconds = hour * 3600 + minute_ * 60 + second_;
        out.zoned = zoned_;
        out.east = east_;
        if (!has_year_) return true;
        if (!by_day_) return count_days(year_, month_, day_, out.days);
        std::int64_t leap = 0;
        if (day_ < 1 || day_ > 365 + count_days(year_, 2, 29, leap) || !count_days(year_, 1, 1, out.days)) return false;
        out.days += day_ - 1;
        return true;
    }

    const std::uint8_t* p_;
    std::size_t n_;
    std::size_t at_ = 0;
    int year_ = 0, month_ = 0, day_ = 0, hour_ = 0, minute_ = 0, second_ = 0;
    bool has_year_ = false, by_day_ = false, by_half_ = false, pm_ = false, has_epoch_ = false, zoned_ = false;
    std::int64_t epoch_ = 0, east_ = 0;
    std::uint64_t fraction_ = 0;
    std::size_t places_ = 0;
};

// Reads a moment by the first format that fits.
inline bool read_moment(const Style& style, const std::uint8_t* p, std::size_t n, Moment& out) noexcept {
    for (std::size_t i = 0; i < style.form_count; ++i) {
        if (MomentReader(p, n).read(style.forms[i], out)) return true;
    }
    return false;
}

// Finds the offset from UTC of a wall time.
inline bool find_offset(const WallClock& clock, std::int64_t wall, std::int64_t& east) noexcept {
    if (clock.count == 0 || wall < clock.starts[0]) return false;
    std::size_t low = 0, high = clock.count;  // starts[low] <= wall < starts[high]
    while (high - low > 1) {
        const std::size_t middle = (low + high) / 2;
        if (clock.starts[middle] <= wall) low = middle; else high = middle;
    }
    east = clock.offsets[low];
    return east != WallClock::kNone;
}

// Converts seconds since 1970 and a fraction to units of 10^-places seconds, within the years 1 to 9999.
inline bool scale_seconds(std::int64_t seconds, std::uint64_t fraction, std::size_t digits, int places,
                          std::int64_t& out) noexcept {
    const auto most = static_cast<std::size_t>(places);
    if (seconds < kFirstSecond || seconds > kLastSecond || digits > most) return false;
    const auto unit = static_cast<std::int64_t>(kPower10[most]);
    const auto part = static_cast<std::int64_t>(fraction * kPower10[most - digits]);
    return !__builtin_mul_overflow(seconds, unit, &out) && !__builtin_add_overflow(out, part, &out);
}

inline std::int64_t floor_divide(std::int64_t a, std::int64_t b) noexcept { return a / b - (a % b < 0); }

// Parses a number of 10^-epoch seconds since 1970, with decimals, in units of 10^-places seconds.
inline bool parse_epoch(const std::uint8_t* p, std::size_t n, std::size_t room, int epoch, int places,
                        std::int64_t& out) noexcept {
    const bool negative = n > 0 && p[0] == '-';
    std::uint64_t mantissa = 0;
    std::size_t behind = 0;
    if (!parse_pointed(p + negative, n - negative, room - negative, mantissa, behind)) return false;
    const std::int64_t missing = places - epoch - static_cast<std::int64_t>(behind);
    if (missing < 0 || missing > 18) return false;
    const auto value = static_cast<std::int64_t>(mantissa);
    if (__builtin_mul_overflow(negative ? -value : value, static_cast<std::int64_t>(kPower10[missing]), &out)) return false;
    const std::int64_t seconds = floor_divide(out, static_cast<std::int64_t>(kPower10[places]));
    return seconds >= kFirstSecond && seconds <= kLastSecond;
}

// Parses wall time by ISO 8601, or a time with an offset.
inline bool parse_wall_time(const Style& style, const Type& type, const std::uint8_t* p, std::size_t n,
                            std::int64_t& out) noexcept {
    // Seconds, or the whole time, may be missing.
    constexpr std::size_t full = 19, of_date = 10, of_minutes = 16;
    std::uint8_t text[full + 5] = "0000-00-00 00:00:00";
    if (n == of_date || n == of_minutes) {
        std::memcpy(text, p, n);
        p = text;
        n = full;
    }
    std::int64_t wall = 0, east = 0;
    if (!parse_timestamp(p, n, type.digits, false, wall)) return parse_timestamp(p, n, type.digits, true, out);
    const auto unit = static_cast<std::int64_t>(kPower10[type.digits]);
    const std::int64_t seconds = floor_divide(wall, unit);
    if (!find_offset(style.clock, seconds, east)) return false;
    out = wall - east * unit;  // the table ends far within the range
    return true;
}

// Parses dates, times and timestamps.
template <Kind kKind>
inline bool parse_styled_time(const Type& type, const std::uint8_t* p, std::size_t n, std::size_t room,
                              std::int64_t& out) noexcept {
    const Style& style = *type.style;
    if constexpr (kKind == Kind::kTimestamp) {
        if (style.epoch >= 0) return parse_epoch(p, n, room, style.epoch, type.digits, out);
        if (style.form_count == 0) return parse_wall_time(style, type, p, n, out);
    }
    Moment moment;
    if (!read_moment(style, p, n, moment)) return false;
    if constexpr (kKind == Kind::kDate32) {
        out = moment.days;
        return true;
    } else if constexpr (kKind == Kind::kTimestamp) {
        const std::int64_t wall = moment.days * 86400 + moment.seconds;
        std::int64_t east = moment.east;
        if (!moment.zoned && style.clock.count) {
            if (!find_offset(style.clock, wall, east)) return false;
        } else if (moment.zoned != type.zoned) {
            return false;
        }
        return scale_seconds(wall - east, moment.fraction, moment.places, type.digits, out);
    } else {
        return scale_seconds(moment.seconds, moment.fraction, moment.places, type.digits, out);
    }
}

inline bool is_one_of(const Text* texts, std::size_t count, const std::uint8_t* p, std::size_t n) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        if (texts[i].size == n && std::memcmp(texts[i].data, p, n) == 0) return true;
    }
    return false;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
