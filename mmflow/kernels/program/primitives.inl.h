// The primitives of primitives.h. MMFLOW_PROGRAM_ARCH is the namespace of the instruction set.
#pragma once
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "program/primitives.h"
#include "program/text.h"

namespace mmflow::program::MMFLOW_PROGRAM_ARCH {
namespace {

__extension__ using I128 = __int128;
__extension__ using U128 = unsigned __int128;

template <class T> struct UnsignedOf { using type = std::make_unsigned_t<T>; };
template <> struct UnsignedOf<I128> { using type = U128; };
template <class T> constexpr bool kReal = std::is_floating_point_v<T>;

// Calls `work` with a value of the type of a form.
template <class Work>
auto with_type(Form form, Work&& work) noexcept {
    switch (form) {
        case Form::kBool: case Form::kU8: return work(std::uint8_t{});
        case Form::kI8: return work(std::int8_t{});
        case Form::kI16: return work(std::int16_t{});
        case Form::kI32: return work(std::int32_t{});
        case Form::kI64: return work(std::int64_t{});
        case Form::kU16: return work(std::uint16_t{});
        case Form::kU32: return work(std::uint32_t{});
        case Form::kU64: return work(std::uint64_t{});
        case Form::kF32: return work(float{});
        case Form::kF64: return work(double{});
        case Form::kI128: return work(I128{});
        default: return work(Text{});
    }
}

// ---- comparisons ------------------------------------------------------------------------------

template <class T>
inline bool equal(T a, T b) noexcept {
    if constexpr (std::is_same_v<T, Text>) {
        return same_text(a, b);
    } else if constexpr (kReal<T>) {
        return (a == b) | ((a != a) & (b != b));
    } else {
        return a == b;
    }
}

template <class T>
inline bool less(T a, T b) noexcept {
    if constexpr (std::is_same_v<T, Text>) {
        return text_before(a, b);
    } else if constexpr (kReal<T>) {
        return (a < b) | ((b != b) & (a == a));
    } else {
        return a < b;
    }
}

struct Equal {
    template <class T> std::uint8_t operator()(T a, T b) const noexcept { return equal(a, b); }
};
struct NotEqual {
    template <class T> std::uint8_t operator()(T a, T b) const noexcept { return !equal(a, b); }
};
struct Less {
    template <class T> std::uint8_t operator()(T a, T b) const noexcept { return less(a, b); }
};
struct LessEqual {
    template <class T> std::uint8_t operator()(T a, T b) const noexcept { return !less(b, a); }
};

// ---- arithmetic -------------------------------------------------------------------------------

struct Add {
    template <class T> T operator()(T a, T b) const noexcept {
        if constexpr (kReal<T>) return a + b;
        else return wrapped<T>(a, b, [](auto x, auto y) { return x + y; });
    }
    template <class T, class F> static T wrapped(T a, T b, F f) noexcept {
        using U = typename UnsignedOf<T>::type;
        // Small types are promoted to int, which a product of two uint16 would overflow.
        using W = std::conditional_t<(sizeof(T) < 4), std::uint32_t, U>;
        return static_cast<T>(static_cast<U>(f(static_cast<W>(a), static_cast<W>(b))));
    }
};
struct Subtract {
    template <class T> T operator()(T a, T b) const noexcept {
        if constexpr (kReal<T>) return a - b;
        else return Add::wrapped<T>(a, b, [](auto x, auto y) { return x - y; });
    }
};
struct Multiply {
    template <class T> T operator()(T a, T b) const noexcept {
        if constexpr (kReal<T>) return a * b;
        else return Add::wrapped<T>(a, b, [](auto x, auto y) { return x * y; });
    }
};
struct RealDivide {
    template <class T> T operator()(T a, T b) const noexcept { return a / b; }
};
struct RealModulo {
    template <class T> T operator()(T a, T b) const noexcept { return std::fmod(a, b); }
};
struct Nanvl {
    template <class T> T operator()(T a, T b) const noexcept { return a != a ? b : a; }
};

struct AddChecked {
    template <class T> bool operator()(T a, T b, T& out) const noexcept { return !__builtin_add_overflow(a, b, &out); }
};
struct SubtractChecked {
    template <class T> bool operator()(T a, T b, T& out) const noexcept { return !__builtin_sub_overflow(a, b, &out); }
};
struct MultiplyChecked {
    template <class T> bool operator()(T a, T b, T& out) const noexcept {
        if constexpr (std::is_same_v<T, I128>) {
            // Mostly both have 64 bits: one multiplication.
            if (a == static_cast<std::int64_t>(a) && b == static_cast<std::int64_t>(b)) [[likely]] {
                out = a * b;
                return true;
            }
        }
        return !__builtin_mul_overflow(a, b, &out);
    }
};

// Least value by -1: the quotient does not fit. DataFusion fails there, and on zero.
template <class T>
inline bool divides(T a, T b) noexcept {
    if (b == 0) return false;
    if constexpr (std::is_signed_v<T> || std::is_same_v<T, I128>) {
        using U = typename UnsignedOf<T>::type;
        const T least = static_cast<T>(U{1} << (sizeof(T) * 8 - 1));
        if (b == T(-1) && a == least) return false;
    }
    return true;
}
struct Divide {
    template <class T> bool operator()(T a, T b, T& out) const noexcept {
        const bool ok = divides(a, b);
        out = static_cast<T>(ok ? a / b : T(0));
        return ok;
    }
};
struct Modulo {
    template <class T> bool operator()(T a, T b, T& out) const noexcept {
        const bool ok = divides(a, b);
        out = static_cast<T>(ok ? a % b : T(0));
        return ok;
    }
};

// ---- loops over two vectors -------------------------------------------------------------------

template <class F, class T, class R, bool kA, bool kB>
void apply(const void* a, const void* b, void* out, std::uint8_t*, std::size_t n) noexcept {
    const auto* __restrict x = static_cast<const T*>(a);
    const auto* __restrict y = static_cast<const T*>(b);
    auto* __restrict r = static_cast<R*>(out);
    const F f;
    if constexpr (kA) {
        const T c = *x;
        for (std::size_t i = 0; i < n; ++i) r[i] = f(c, y[i]);
    } else if constexpr (kB) {
        const T c = *y;
        for (std::size_t i = 0; i < n; ++i) r[i] = f(x[i], c);
    } else {
        for (std::size_t i = 0; i < n; ++i) r[i] = f(x[i], y[i]);
    }
}

template <class F, class T, bool kA, bool kB>
void apply_checked(const void* a, const void* b, void* out, std::uint8_t* fits, std::size_t n) noexcept {
    const auto* x = static_cast<const T*>(a);
    const auto* y = static_cast<const T*>(b);
    auto* r = static_cast<T*>(out);
    const F f;
    for (std::size_t i = 0; i < n; ++i) fits[i] = f(x[kA ? 0 : i], y[kB ? 0 : i], r[i]);
}

template <class F, class T, class R>
Binary shape(bool a, bool b) noexcept {
    return a ? apply<F, T, R, true, false> : b ? apply<F, T, R, false, true> : apply<F, T, R, false, false>;
}

template <class F, class T>
Binary checked_shape(bool a, bool b) noexcept {
    return a   ? apply_checked<F, T, true, false>
           : b ? apply_checked<F, T, false, true>
               : apply_checked<F, T, false, false>;
}

template <class T>
Binary arithmetic(Op op, bool a, bool b) noexcept {
    switch (op) {
        case Op::kAdd: return shape<Add, T, T>(a, b);
        case Op::kSubtract: return shape<Subtract, T, T>(a, b);
        case Op::kMultiply: return shape<Multiply, T, T>(a, b);
        default: break;
    }
    if constexpr (kReal<T>) {
        switch (op) {
            case Op::kDivide: return shape<RealDivide, T, T>(a, b);
            case Op::kModulo: return shape<RealModulo, T, T>(a, b);
            case Op::kNanvl: return shape<Nanvl, T, T>(a, b);
            default: return nullptr;
        }
    } else {
        switch (op) {
            case Op::kAddChecked: return checked_shape<AddChecked, T>(a, b);
            case Op::kSubtractChecked: return checked_shape<SubtractChecked, T>(a, b);
            case Op::kMultiplyChecked: return checked_shape<MultiplyChecked, T>(a, b);
            case Op::kDivide: return checked_shape<Divide, T>(a, b);
            case Op::kModulo: return checked_shape<Modulo, T>(a, b);
            default: return nullptr;
        }
    }
}

Binary find_binary(Op op, Form form, bool a, bool b) noexcept {
    return with_type(form, [&](auto zero) noexcept -> Binary {
        using T = decltype(zero);
        switch (op) {
            case Op::kEqual: return shape<Equal, T, std::uint8_t>(a, b);
            case Op::kNotEqual: return shape<NotEqual, T, std::uint8_t>(a, b);
            case Op::kLess: return shape<Less, T, std::uint8_t>(a, b);
            case Op::kLessEqual: return shape<LessEqual, T, std::uint8_t>(a, b);
            default: break;
        }
        if constexpr (!std::is_same_v<T, Text>) return arithmetic<T>(op, a, b);
        return nullptr;
    });
}

// ---- operations on one vector -----------------------------------------------------------------

constexpr I128 power_of_ten(int n) noexcept {
    I128 made = 1;
    for (int i = 0; i < n; ++i) made *= 10;
    return made;
}

struct Powers {
    I128 of[39];
    constexpr Powers() noexcept : of() {
        for (int i = 0; i < 39; ++i) of[i] = power_of_ten(i);
    }
};
constexpr Powers kPowers;

// 10^n, exact up to 22.
inline double real_power(std::int64_t n) noexcept { return static_cast<double>(kPowers.of[n]); }

inline bool within(I128 value, int limit) noexcept {
    return limit == 0 || (value < kPowers.of[limit] && value > -kPowers.of[limit]);
}

template <class T>
void negate(const void* a, void* out, std::uint8_t*, std::size_t n, std::int64_t, int) noexcept {
    const auto* x = static_cast<const T*>(a);
    auto* r = static_cast<T*>(out);
    for (std::size_t i = 0; i < n; ++i) {
        if constexpr (kReal<T>) {
            r[i] = -x[i];
        } else {
            r[i] = Subtract{}(T(0), x[i]);
        }
    }
}

template <class T>
void negate_checked(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t, int) noexcept {
    const auto* x = static_cast<const T*>(a);
    auto* r = static_cast<T*>(out);
    for (std::size_t i = 0; i < n; ++i) fits[i] = SubtractChecked{}(T(0), x[i], r[i]);
}

void scale_up(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t number, int limit) noexcept {
    const auto* x = static_cast<const I128*>(a);
    auto* r = static_cast<I128*>(out);
    const I128 factor = kPowers.of[number];
    for (std::size_t i = 0; i < n; ++i) fits[i] = MultiplyChecked{}(x[i], factor, r[i]) && within(r[i], limit);
}

template <bool kRound>
void scale_down(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t number, int limit) noexcept {
    const auto* x = static_cast<const I128*>(a);
    auto* r = static_cast<I128*>(out);
    const I128 divisor = kPowers.of[number], half = divisor / 2;
    for (std::size_t i = 0; i < n; ++i) {
        I128 made = x[i] / divisor;
        if constexpr (kRound) {
            const I128 rest = x[i] % divisor;
            if (number != 0 && rest >= half) ++made;
            if (number != 0 && rest <= -half) --made;
        }
        r[i] = made;
        fits[i] = within(made, limit);
    }
}

template <class T>
void from_real(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t number, int limit) noexcept {
    const auto* x = static_cast<const T*>(a);
    auto* r = static_cast<I128*>(out);
    const double factor = real_power(number);
    for (std::size_t i = 0; i < n; ++i) {
        const double scaled = std::round(static_cast<double>(x[i]) * factor);
        const bool ok = scaled > -1e38 && scaled < 1e38;  // a NaN is not
        r[i] = ok ? static_cast<I128>(scaled) : 0;
        fits[i] = ok && within(r[i], limit);
    }
}

void to_real(const void* a, void* out, std::uint8_t*, std::size_t n, std::int64_t number, int) noexcept {
    const auto* x = static_cast<const I128*>(a);
    auto* r = static_cast<double*>(out);
    const double divisor = real_power(number);
    for (std::size_t i = 0; i < n; ++i) r[i] = static_cast<double>(x[i]) / divisor;
}

template <class T> constexpr bool kSigned = std::is_signed_v<T> || std::is_same_v<T, I128>;

// Whether every value of A has one of B.
template <class A, class B>
constexpr bool widens() noexcept {
    if constexpr (kReal<B>) return true;
    if constexpr (kReal<A>) return false;
    if constexpr (kSigned<A> && !kSigned<B>) return false;
    if constexpr (!kSigned<A> && kSigned<B>) return sizeof(A) < sizeof(B);
    return sizeof(A) <= sizeof(B);
}

template <class A, class B>
void convert(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t, int) noexcept {
    const auto* __restrict x = static_cast<const A*>(a);
    auto* __restrict r = static_cast<B*>(out);
    if constexpr (widens<A, B>()) {
        for (std::size_t i = 0; i < n; ++i) r[i] = static_cast<B>(x[i]);
    } else if constexpr (kReal<A>) {
        // Bounds that both A and B have: 2^bits, and the least value.
        constexpr int kBits = static_cast<int>(sizeof(B) * 8) - (kSigned<B> ? 1 : 0);
        const A above = std::ldexp(A(1), kBits), low = kSigned<B> ? -above : A(0);
        for (std::size_t i = 0; i < n; ++i) {
            const A cut = std::trunc(x[i]);
            const bool ok = cut >= low && cut < above;
            fits[i] = ok;
            r[i] = ok ? static_cast<B>(cut) : B(0);
        }
    } else {
        for (std::size_t i = 0; i < n; ++i) {
            r[i] = static_cast<B>(x[i]);
            fits[i] = static_cast<A>(r[i]) == x[i] && (r[i] < B(0)) == (x[i] < A(0));
        }
    }
}

template <class A>
Unary find_convert(Form to, bool& fallible) noexcept {
    return with_type(to, [&](auto zero) noexcept -> Unary {
        using B = decltype(zero);
        if constexpr (std::is_same_v<B, Text> || (kReal<A> && std::is_same_v<B, I128>) ||
                      (kReal<B> && std::is_same_v<A, I128>)) {
            return nullptr;
        } else {
            fallible = !widens<A, B>();
            return convert<A, B>;
        }
    });
}

Unary find_unary(Op op, Form from, Form to, bool& fallible) noexcept {
    fallible = false;
    return with_type(from, [&](auto zero) noexcept -> Unary {
        using T = decltype(zero);
        if constexpr (std::is_same_v<T, Text>) {
            return nullptr;
        } else {
            switch (op) {
                case Op::kNegate: return negate<T>;
                case Op::kNegateChecked:
                    fallible = true;
                    if constexpr (kReal<T>) return nullptr;
                    else return negate_checked<T>;
                case Op::kCast: return find_convert<T>(to, fallible);
                case Op::kFromReal:
                    fallible = true;
                    if constexpr (kReal<T>) return from_real<T>;
                    else return nullptr;
                default: break;
            }
            if constexpr (std::is_same_v<T, I128>) {
                fallible = op != Op::kToReal;
                switch (op) {
                    case Op::kScaleUp: return scale_up;
                    case Op::kScaleDown: return scale_down<true>;
                    case Op::kTruncate: return scale_down<false>;
                    case Op::kToReal: return to_real;
                    default: return nullptr;
                }
            }
            return nullptr;
        }
    });
}

// ---- rows and bits ----------------------------------------------------------------------------

template <std::size_t kWidth>
void gather_fixed(const std::uint8_t* from, const std::uint32_t* rows, std::uint8_t* out, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) std::memcpy(out + i * kWidth, from + std::size_t{rows[i]} * kWidth, kWidth);
}

Gather find_gather(std::size_t width) noexcept {
    switch (width) {
        case 1: return gather_fixed<1>;
        case 2: return gather_fixed<2>;
        case 4: return gather_fixed<4>;
        case 8: return gather_fixed<8>;
        case 16: return gather_fixed<16>;
        case 32: return gather_fixed<32>;
        default: return nullptr;
    }
}

void unpack(const std::uint8_t* bits, std::size_t offset, std::size_t n, std::uint8_t* out) noexcept {
    std::size_t i = 0;
    for (; i < n && (offset + i) % 8; ++i) out[i] = bits[(offset + i) / 8] >> ((offset + i) % 8) & 1;
    const std::uint8_t* bytes = bits + (offset + i) / 8;
    for (; i + 8 <= n; i += 8, ++bytes) {
        // Byte k of the product has bit k of the byte at its own bit k.
        const std::uint64_t spread = (*bytes * 0x0101010101010101ull) & 0x8040201008040201ull;
        const std::uint64_t ones = (spread + 0x7f7f7f7f7f7f7f7full) | spread;
        const std::uint64_t made = ones >> 7 & 0x0101010101010101ull;
        std::memcpy(out + i, &made, 8);
    }
    for (; i < n; ++i) out[i] = bits[(offset + i) / 8] >> ((offset + i) % 8) & 1;
}

void unpack_rows(const std::uint8_t* bits, std::size_t offset, const std::uint32_t* rows, std::size_t n,
                 std::uint8_t* out) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t at = offset + rows[i];
        out[i] = bits[at / 8] >> (at % 8) & 1;
    }
}

void pack(const std::uint8_t* bytes, std::size_t n, std::uint8_t* bits) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        std::uint64_t eight;
        std::memcpy(&eight, bytes + i, 8);
        bits[i / 8] = static_cast<std::uint8_t>(eight * 0x0102040810204080ull >> 56);
    }
    if (i < n) {
        std::uint8_t last = 0;
        for (std::size_t k = 0; i + k < n; ++k) last = static_cast<std::uint8_t>(last | bytes[i + k] << k);
        bits[i / 8] = last;
    }
}

std::size_t count(const std::uint8_t* bytes, std::size_t n) noexcept {
    std::size_t total = 0;
    std::size_t i = 0;
    for (; i + 128 <= n; i += 128) {
        std::uint8_t sum = 0;
        for (std::size_t k = 0; k < 128; ++k) sum = static_cast<std::uint8_t>(sum + bytes[i + k]);
        total += sum;
    }
    for (; i < n; ++i) total += bytes[i];
    return total;
}

std::size_t positions(const std::uint8_t* bytes, std::size_t n, std::uint32_t* out) noexcept {
    std::size_t found = 0;
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        std::uint64_t bits = 0;
        pack(bytes + i, 64, reinterpret_cast<std::uint8_t*>(&bits));
        if (bits == ~0ull) {
            for (std::size_t k = 0; k < 64; ++k) out[found + k] = static_cast<std::uint32_t>(i + k);
            found += 64;
            continue;
        }
        for (; bits != 0; bits &= bits - 1) {
            out[found++] = static_cast<std::uint32_t>(i + static_cast<std::size_t>(std::countr_zero(bits)));
        }
    }
    for (; i < n; ++i) {
        out[found] = static_cast<std::uint32_t>(i);
        found += bytes[i];
    }
    return found;
}

struct Sixteen {
    std::uint64_t low, high;
};

template <class T>
void choose_fixed(const std::uint8_t* __restrict mask, const std::uint8_t* a, bool a_constant, const std::uint8_t* b,
                  bool b_constant, std::uint8_t* out, std::size_t n) noexcept {
    const auto* x = reinterpret_cast<const T*>(a);
    const auto* y = reinterpret_cast<const T*>(b);
    auto* __restrict r = reinterpret_cast<T*>(out);
    if (a_constant || b_constant) {
        const T c = a_constant ? *x : *y;
        const T d = b_constant ? *y : c;
        if (a_constant && b_constant) {
            for (std::size_t i = 0; i < n; ++i) r[i] = mask[i] ? c : d;
        } else if (a_constant) {
            for (std::size_t i = 0; i < n; ++i) r[i] = mask[i] ? c : y[i];
        } else {
            for (std::size_t i = 0; i < n; ++i) r[i] = mask[i] ? x[i] : c;
        }
        return;
    }
    for (std::size_t i = 0; i < n; ++i) r[i] = mask[i] ? x[i] : y[i];
}

void choose(const std::uint8_t* mask, const std::uint8_t* a, bool a_constant, const std::uint8_t* b, bool b_constant,
            std::size_t width, std::uint8_t* out, std::size_t n) noexcept {
    switch (width) {
        case 1: return choose_fixed<std::uint8_t>(mask, a, a_constant, b, b_constant, out, n);
        case 2: return choose_fixed<std::uint16_t>(mask, a, a_constant, b, b_constant, out, n);
        case 4: return choose_fixed<std::uint32_t>(mask, a, a_constant, b, b_constant, out, n);
        case 8: return choose_fixed<std::uint64_t>(mask, a, a_constant, b, b_constant, out, n);
        default: return choose_fixed<Sixteen>(mask, a, a_constant, b, b_constant, out, n);
    }
}

void views_equal(const std::uint8_t* views, const std::uint32_t* rows, std::size_t n, const std::uint8_t* view, Text text,
                 const void* const* buffers, std::uint8_t* out) noexcept {
    std::uint64_t low, high;
    std::memcpy(&low, view, 8);
    std::memcpy(&high, view + 8, 8);
    if (text.size <= 12) {
        if (rows == nullptr) {
            for (std::size_t i = 0; i < n; ++i) {
                std::uint64_t one[2];
                std::memcpy(one, views + i * 16, 16);
                out[i] = (one[0] == low) & (one[1] == high);
            }
            return;
        }
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t one[2];
            std::memcpy(one, views + std::size_t{rows[i]} * 16, 16);
            out[i] = (one[0] == low) & (one[1] == high);
        }
        return;
    }
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint8_t* at = views + (rows == nullptr ? i : std::size_t{rows[i]}) * 16;
        std::uint64_t first;
        std::memcpy(&first, at, 8);
        out[i] = 0;
        if (first != low) continue;
        std::int32_t place[2];
        std::memcpy(place, at + 8, 8);
        const auto* data = static_cast<const std::uint8_t*>(buffers[place[0]]) + place[1];
        out[i] = std::memcmp(data, text.data, text.size) == 0;
    }
}

}  // namespace

constexpr Primitives kTable{MMFLOW_PROGRAM_NAME, find_binary, find_unary, find_gather, unpack, unpack_rows, pack, count,
                            positions, choose, views_equal};

}  // namespace mmflow::program::MMFLOW_PROGRAM_ARCH
