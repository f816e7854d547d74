#include "dictionary.h"

#include <bit>
#include <cstring>

namespace mmflow {
namespace {

constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15ull, kOtherMultiplier = 0xbf58476d1ce4e5b9ull;
// Slots probed before giving up: text made to collide would be slow otherwise.
constexpr std::size_t kMaxProbes = 64;

template <class T>
inline T load(const std::uint8_t* p) noexcept {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return value;
}

// Hashes 8 bytes or more; the last word overlaps the one before.
inline std::uint64_t hash_long(const std::uint8_t* p, std::size_t n) noexcept {
    std::uint64_t state = n;
    const auto mix = [&](std::uint64_t word) noexcept {
        state = (state ^ word) * kMultiplier;
        state ^= state >> 32;
    };
    for (std::size_t at = 0; at + 8 < n; at += 8) mix(load<std::uint64_t>(p + at));
    mix(load<std::uint64_t>(p + n - 8));
    return state;
}

}  // namespace

TextDictionary::~TextDictionary() {
    slots_.release();
    keys_.release();
    offsets_.release();
    text_.release();
}

bool TextDictionary::open() noexcept {
    if (slots_.data != nullptr) return true;
    // At most half full.
    const std::size_t size = std::bit_ceil(most_values_ * 2 + 2);
    if (!offsets_.reserve(64) || !slots_.reserve(size * 4)) return false;
    std::memset(slots_.data, 0, size * 4);
    std::memset(offsets_.data, 0, 4);
    mask_ = size - 1;
    shift_ = 64 - std::countr_zero(size);
    return true;
}

std::int32_t TextDictionary::add(Key key, const std::uint8_t* p, std::size_t n) noexcept {
    if (values_ >= most_values_ || n > most_bytes_ - text_size_) return -1;
    if (!keys_.reserve((values_ + 1) * sizeof(Key)) || !offsets_.reserve((values_ + 2) * 4) ||
        !text_.reserve(text_size_ + n + 1)) {
        return -1;
    }
    std::memcpy(keys_.data + values_ * sizeof(Key), &key, sizeof(Key));
    std::memcpy(text_.data + text_size_, p, n);
    text_size_ += n;
    ++values_;
    const auto end = static_cast<std::int32_t>(text_size_);
    std::memcpy(offsets_.data + values_ * 4, &end, 4);
    return static_cast<std::int32_t>(values_ - 1);
}

inline std::int32_t TextDictionary::find(Key key, const std::uint8_t* p, std::size_t n) noexcept {
    std::size_t slot = ((key.low ^ key.high * kOtherMultiplier) * kMultiplier) >> shift_;
    for (std::size_t steps = 0; steps < kMaxProbes; ++steps, slot = (slot + 1) & mask_) {
        const auto taken = load<std::int32_t>(slots_.data + slot * 4);
        if (taken == 0) {
            const std::int32_t code = add(key, p, n);
            const std::int32_t mark = code + 1;
            if (code >= 0) std::memcpy(slots_.data + slot * 4, &mark, 4);
            return code;
        }
        const std::int32_t code = taken - 1;
        const auto is = load<Key>(keys_.data + static_cast<std::size_t>(code) * sizeof(Key));
        if (is.low != key.low || is.high != key.high) continue;
        if (n <= 12) return code;
        const auto begin = static_cast<std::size_t>(load<std::int32_t>(offsets_.data + static_cast<std::size_t>(code) * 4));
        if (std::memcmp(text_.data + begin, p, n) == 0) return code;
    }
    return -1;
}

std::size_t TextDictionary::encode(const std::uint8_t* views, const std::uint8_t* const* buffers, Validity validity,
                                   std::size_t count, std::int32_t* codes) noexcept {
    if (!open()) return 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t bit = validity.offset + i;
        if (validity.bits != nullptr && (validity.bits[bit / 8] >> (bit % 8) & 1) == 0) {
            codes[i] = 0;
            continue;
        }
        const std::uint8_t* view = views + i * 16;
        Key key{load<std::uint64_t>(view), load<std::uint64_t>(view + 8)};
        const auto n = static_cast<std::uint32_t>(key.low);
        const std::uint8_t* p = view + 4;
        if (n > 12) {
            p = buffers[static_cast<std::uint32_t>(key.high)] + (key.high >> 32);
            key.high = hash_long(p, n);
        }
        const std::int32_t code = find(key, p, n);
        if (code < 0) [[unlikely]] return i;
        codes[i] = code;
    }
    return count;
}

}  // namespace mmflow
