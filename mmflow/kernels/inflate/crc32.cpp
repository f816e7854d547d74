#include "inflate/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mmflow {
namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320;  // bits reversed

// kTables[n][b]: the checksum of byte b with n zeros behind it.
constexpr std::array<std::array<std::uint32_t, 256>, 8> kTables = [] {
    std::array<std::array<std::uint32_t, 256>, 8> tables{};
    for (std::uint32_t b = 0; b < 256; ++b) {
        std::uint32_t crc = b;
        for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
        tables[0][b] = crc;
    }
    for (std::size_t n = 1; n < 8; ++n) {
        for (std::size_t b = 0; b < 256; ++b) tables[n][b] = tables[n - 1][b] >> 8 ^ tables[0][tables[n - 1][b] & 255];
    }
    return tables;
}();

// Eight bytes at a time, without the inversions at both ends.
std::uint32_t by_tables(std::uint32_t crc, const std::uint8_t* data, std::size_t size) noexcept {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; size >= 8; data += 8, size -= 8) {
        std::uint64_t word;
        std::memcpy(&word, data, 8);
        word ^= crc;
        crc = 0;
        for (unsigned i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 255];
    }
#endif
    for (; size > 0; --size) crc = crc >> 8 ^ kTables[0][(crc ^ *data++) & 255];
    return crc;
}

#if defined(__x86_64__)
// Folds 64 bytes at a time by carry-less products (Gopal et al., "Fast CRC Computation for Generic Polynomials Using
// PCLMULQDQ", Intel 2009). The constants are x^n mod P, bits reversed, for n of each distance in bits, plus and less 32.
__attribute__((target("pclmul,sse4.1"))) std::uint32_t by_products(std::uint32_t crc, const std::uint8_t* data, std::size_t size) noexcept {
    const auto load = [](const std::uint8_t* p) __attribute__((target("pclmul,sse4.1"))) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    };
    const auto fold = [](__m128i x, __m128i k, __m128i next) __attribute__((target("pclmul,sse4.1"))) {
        return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next);
    };
    const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    __m128i x0 = _mm_xor_si128(load(data), _mm_cvtsi32_si128(static_cast<int>(crc)));
    __m128i x1 = load(data + 16), x2 = load(data + 32), x3 = load(data + 48);
    for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
        x0 = fold(x0, by_512, load(data));
        x1 = fold(x1, by_512, load(data + 16));
        x2 = fold(x2, by_512, load(data + 32));
        x3 = fold(x3, by_512, load(data + 48));
    }
    x0 = fold(x0, by_128, x1);
    x0 = fold(x0, by_128, x2);
    x0 = fold(x0, by_128, x3);
    for (; size >= 16; data += 16, size -= 16) x0 = fold(x0, by_128, load(data));
    // What is left is a remainder of 16 bytes, whose checksum the tables finish.
    std::uint8_t rest[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), x0);
    return by_tables(by_tables(0, rest, 16), data, size);
}

bool has_products() noexcept {
    static const bool has = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    return has;
}
#endif

}  // namespace

std::uint32_t crc32(std::uint32_t before, const std::uint8_t* data, std::size_t size) noexcept {
#if defined(__x86_64__)
    if (size >= 64 && has_products()) return ~by_products(~before, data, size);
#endif
    return ~by_tables(~before, data, size);
}

}  // namespace mmflow
