// One value from its text. Each returns false for text that it is not sure of: the reference decoder judges that.
//
// `p` and `n` are the text; `room` says how many bytes from `p` on may be read (at least n).
#pragma once
#include <cstdint>

namespace mmflow {

bool parse_bool(const std::uint8_t* p, std::size_t n, bool& out) noexcept;

// Optional sign and digits, within [low, high].
bool parse_int(const std::uint8_t* p, std::size_t n, std::size_t room, std::int64_t low, std::int64_t high,
               std::int64_t& out) noexcept;
bool parse_uint(const std::uint8_t* p, std::size_t n, std::size_t room, std::uint64_t high,
                std::uint64_t& out) noexcept;

// Correctly rounded: exact by one division where digits and exponent are few (Clinger, 1990, "How to read floating
// point numbers accurately"), else std::from_chars.
bool parse_double(const std::uint8_t* p, std::size_t n, std::size_t room, double& out) noexcept;
bool parse_float(const std::uint8_t* p, std::size_t n, float& out) noexcept;

// A decimal as a whole number of its last places; at most 18 digits, others are not sure.
bool parse_decimal(const std::uint8_t* p, std::size_t n, std::size_t room, int precision, int scale,
                   std::int64_t& out) noexcept;

// YYYY-MM-DD as days since 1970.
bool parse_date(const std::uint8_t* p, std::size_t n, std::int32_t& out) noexcept;

// hh:mm:ss[.f] in units of 10^-digits seconds.
bool parse_time(const std::uint8_t* p, std::size_t n, int digits, std::int64_t& out) noexcept;

// YYYY-MM-DD[ T]hh:mm:ss[.f][Z] in units of 10^-digits seconds since 1970; the Z is there if and only if `zoned`.
bool parse_timestamp(const std::uint8_t* p, std::size_t n, int digits, bool zoned, std::int64_t& out) noexcept;

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(const std::uint8_t* p, std::size_t n) noexcept;

}  // namespace mmflow
