// Functions of the C and the C++ library that not every system has: memrchr, and std::from_chars of float and double
// (libc++ before 20, and so macOS).
#pragma once
#include <charconv>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <version>

#ifndef __cpp_lib_to_chars
#include <locale.h>
#include <stdlib.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#include <cerrno>
#endif

namespace mmflow::MMFLOW_ARCH {
namespace {

// Finds the last `byte` in `size` bytes; null if there is none.
inline const void* find_last(const void* data, unsigned char byte, std::size_t size) noexcept {
#ifdef __GLIBC__
    return memrchr(data, byte, size);
#else
    const auto* bytes = static_cast<const unsigned char*>(data);
    while (size > 0) {
        if (bytes[--size] == byte) return bytes + size;
    }
    return nullptr;
#endif
}

// Converts a number, correctly rounded. Returns false if not all of the text is one, or it is out of range.
template <class T>
bool convert_number(const char* text, std::size_t n, T& out) noexcept {
#ifdef __cpp_lib_to_chars
    const auto result = std::from_chars(text, text + n, out);
    return result.ec == std::errc() && result.ptr == text + n;
#else
    char copy[128];
    if (n >= sizeof copy) return false;  // the reference decoder takes it
    std::memcpy(copy, text, n);
    copy[n] = 0;
    static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
    char* end = nullptr;
    errno = 0;
    if constexpr (sizeof(T) == sizeof(float)) {
        out = strtof_l(copy, &end, plain);
    } else {
        out = strtod_l(copy, &end, plain);
    }
    return errno == 0 && end == copy + n;
#endif
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
