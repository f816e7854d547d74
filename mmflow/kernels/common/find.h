// Bytes in a text. Its reference is memmem, which looks at a short text byte by byte.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/column.h"

namespace mmflow {

// Returns the first place of `size` bytes, or null. 16 places at once are compared by the first and the last byte.
inline const std::uint8_t* find_bytes(Text text, const char* bytes, std::size_t size) noexcept {
    using Lanes = std::uint8_t __attribute__((vector_size(16)));
    constexpr std::size_t kLanes = sizeof(Lanes);
    static_assert(std::endian::native == std::endian::little);
    if (size > text.size) return nullptr;
    const std::size_t places = text.size - size + 1;
    if (size < 2 || places < kLanes)
        return static_cast<const std::uint8_t*>(memmem(text.data, text.size, bytes, size));
    const Lanes first = Lanes{} + static_cast<std::uint8_t>(bytes[0]);
    const Lanes last = Lanes{} + static_cast<std::uint8_t>(bytes[size - 1]);
    for (std::size_t at = 0;;) {
        Lanes begins, ends;
        std::memcpy(&begins, text.data + at, kLanes);
        std::memcpy(&ends, text.data + at + size - 1, kLanes);
        const auto equal = (begins == first) & (ends == last);
        std::uint64_t halves[2];
        std::memcpy(halves, &equal, kLanes);
        for (std::size_t half = 0; half < 2; ++half) {
            for (std::uint64_t found = halves[half]; found != 0;) {
                const auto lane = static_cast<unsigned>(std::countr_zero(found)) / 8;
                const std::uint8_t* const place = text.data + at + 8 * half + lane;
                if (std::memcmp(place + 1, bytes + 1, size - 2) == 0) return place;
                found &= ~(std::uint64_t{0xff} << 8 * lane);
            }
        }
        if (at + kLanes == places) return nullptr;
        // The last places overlap ones before them, where nothing was found.
        at = at + 2 * kLanes <= places ? at + kLanes : places - kLanes;
    }
}

}  // namespace mmflow
