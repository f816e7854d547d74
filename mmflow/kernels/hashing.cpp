#include "hashing.h"

#include <bit>
#include <cstring>
#include <limits>

namespace mmflow {
namespace {

constexpr std::uint64_t kNull = 0x9e3779b97f4a7c15ull;

// splitmix64's finalizer (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators").
inline std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

template <class Hash>
inline void each(Validity validity, std::size_t count, std::uint64_t* state, Hash&& hash) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t bit = validity.offset + i;
        const bool valid = validity.bits == nullptr || (validity.bits[bit / 8] >> (bit % 8) & 1);
        state[i] = mix(state[i] * 31 ^ (valid ? hash(i) : kNull));
    }
}

template <class T>
inline T load(const std::uint8_t* p) noexcept {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return value;
}

// Eight bytes, the first lowest, or the n that are left.
inline std::uint64_t word(const std::uint8_t* p, std::size_t n) noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, p, n < 8 ? n : 8);
    if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
    return value;
}

inline std::uint64_t bytes(std::uint64_t state, const std::uint8_t* p, std::size_t n) noexcept {
    for (std::size_t at = 0; at < n; at += 8) state = mix(state ^ word(p + at, n - at));
    return state;
}

template <class T>
void whole(const std::uint8_t* values, Validity validity, std::size_t count, std::uint64_t* state) noexcept {
    // Sign-extended, so that equal integers of different widths hash alike.
    each(validity, count, state, [=](std::size_t i) noexcept {
        return mix(static_cast<std::uint64_t>(static_cast<std::int64_t>(load<T>(values + i * sizeof(T)))));
    });
}

template <class T>
void real(const std::uint8_t* values, Validity validity, std::size_t count, std::uint64_t* state) noexcept {
    each(validity, count, state, [=](std::size_t i) noexcept {
        double value = static_cast<double>(load<T>(values + i * sizeof(T))) + 0.0;  // -0.0 + 0.0 is 0.0
        if (value != value) value = std::numeric_limits<double>::quiet_NaN();
        return mix(std::bit_cast<std::uint64_t>(value));
    });
}

template <class T>
void text(const std::uint8_t* offsets, const std::uint8_t* data, Validity validity, std::size_t count,
          std::uint64_t* state) noexcept {
    each(validity, count, state, [=](std::size_t i) noexcept {
        const auto begin = static_cast<std::size_t>(load<T>(offsets + i * sizeof(T)));
        const auto end = static_cast<std::size_t>(load<T>(offsets + (i + 1) * sizeof(T)));
        return bytes(mix(end - begin), data + begin, end - begin);
    });
}

}  // namespace

void hash_whole(const std::uint8_t* values, std::size_t width, bool is_signed, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept {
    switch (width * 2 + is_signed) {
        case 2: return whole<std::uint8_t>(values, validity, count, state);
        case 3: return whole<std::int8_t>(values, validity, count, state);
        case 4: return whole<std::uint16_t>(values, validity, count, state);
        case 5: return whole<std::int16_t>(values, validity, count, state);
        case 8: return whole<std::uint32_t>(values, validity, count, state);
        case 9: return whole<std::int32_t>(values, validity, count, state);
        default: return whole<std::uint64_t>(values, validity, count, state);
    }
}

void hash_real(const std::uint8_t* values, std::size_t width, Validity validity, std::size_t count,
               std::uint64_t* state) noexcept {
    if (width == 4) return real<float>(values, validity, count, state);
    real<double>(values, validity, count, state);
}

void hash_fixed(const std::uint8_t* values, std::size_t width, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept {
    each(validity, count, state, [=](std::size_t i) noexcept { return bytes(width, values + i * width, width); });
}

void hash_text(const std::uint8_t* offsets, std::size_t width, const std::uint8_t* data, Validity validity,
               std::size_t count, std::uint64_t* state) noexcept {
    if (width == 4) return text<std::int32_t>(offsets, data, validity, count, state);
    text<std::int64_t>(offsets, data, validity, count, state);
}

void hash_views(const std::uint8_t* views, const std::uint8_t* const* buffers, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept {
    each(validity, count, state, [=](std::size_t i) noexcept {
        const std::uint8_t* view = views + i * 16;
        const auto n = load<std::uint32_t>(view);
        const std::uint8_t* p = n <= 12 ? view + 4 : buffers[load<std::uint32_t>(view + 8)] + load<std::uint32_t>(view + 12);
        return bytes(mix(n), p, n);
    });
}

void partition_rows(const std::uint64_t* state, std::size_t count, std::size_t partitions, std::int64_t* order,
                    std::int64_t* bounds) noexcept {
    // The high bits choose (multiply-shift), so any number of partitions is evenly hit.
    const auto chosen = [=](std::size_t i) noexcept { return (state[i] >> 32) * partitions >> 32; };
    std::memset(bounds, 0, (partitions + 1) * 8);
    for (std::size_t i = 0; i < count; ++i) ++bounds[chosen(i) + 1];
    for (std::size_t p = 0; p < partitions; ++p) bounds[p + 1] += bounds[p];
    // Each bound serves as the place for the partition's next row; then all are one too far.
    for (std::size_t i = 0; i < count; ++i) order[bounds[chosen(i)]++] = static_cast<std::int64_t>(i);
    std::memmove(bounds + 1, bounds, partitions * 8);
    bounds[0] = 0;
}

}  // namespace mmflow
