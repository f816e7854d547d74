// Folds of values to one: min, max. `Fold` makes one value of two.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

namespace mmflow {

// State of a group.
template <class T>
struct Kept {
    std::uint64_t words[(sizeof(T) + 7) / 8] = {};
    std::uint64_t seen = 0;
};

template <class Fold, class T>
inline void fold(Kept<T>& state, T given) noexcept {
    T kept;
    std::memcpy(&kept, state.words, sizeof(T));
    const T value = Fold::normal(given);
    kept = state.seen ? Fold::of(kept, value) : value;
    std::memcpy(state.words, &kept, sizeof(T));
    state.seen = 1;
}

// min and max. Floats have one NaN, above all numbers, and one zero.
template <bool kLeast>
struct Extreme {
    template <class T>
    static T normal(T value) noexcept {
        if constexpr (std::numeric_limits<T>::is_iec559) {
            value += T{0};
            if (value != value) value = std::numeric_limits<T>::quiet_NaN();
        }
        return value;
    }
    template <class T>
    static T of(T kept, T value) noexcept {
        bool better = kLeast ? value < kept : value > kept;
        if constexpr (std::numeric_limits<T>::is_iec559) better |= kLeast ? kept != kept : value != value;
        return better ? value : kept;
    }
};

}  // namespace mmflow
