// Checksums of gzip (CRC-32, RFC 1952).
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

// Returns the checksum of some bytes behind others whose checksum is `before` (0: there are none).
std::uint32_t crc32(std::uint32_t before, const std::uint8_t* data, std::size_t size) noexcept;

}  // namespace mmflow
