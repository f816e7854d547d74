#include "lengths.h"

namespace mmflow {

std::size_t follow_lengths(const std::uint8_t* data, std::size_t size, std::size_t width, bool big_endian,
                           std::int64_t* ends, std::size_t capacity) noexcept {
    std::size_t count = 0, at = 0;
    while (count < capacity && size - at >= width) {
        std::uint64_t length = 0;
        for (std::size_t i = 0; i < width; ++i) length = length << 8 | data[at + (big_endian ? i : width - 1 - i)];
        if (length > size - at - width) break;
        at += width + static_cast<std::size_t>(length);
        ends[count++] = static_cast<std::int64_t>(at);
    }
    return count;
}

}  // namespace mmflow
