// Hashes of rows for shuffles: the same on every machine and in every run. mmflow/worker/hashing.py defines them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mmflow {

// Bits from `offset` on, set for rows that are not null; without bits, no row is null.
struct Validity {
    const std::uint8_t* bits;
    std::size_t offset;
};

// Each mixes the hash of a column's `count` values into `state`, uint64[count].

// Whole numbers of `width` 1, 2, 4 or 8 bytes.
void hash_whole(const std::uint8_t* values, std::size_t width, bool is_signed, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept;

// float32 or float64 by `width`: -0.0 hashes like 0.0, every NaN alike.
void hash_real(const std::uint8_t* values, std::size_t width, Validity validity, std::size_t count,
               std::uint64_t* state) noexcept;

// Values of `width` bytes, by their bytes.
void hash_fixed(const std::uint8_t* values, std::size_t width, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept;

// Text or binary by offsets, int32 or int64 by `width`.
void hash_text(const std::uint8_t* offsets, std::size_t width, const std::uint8_t* data, Validity validity,
               std::size_t count, std::uint64_t* state) noexcept;

// Text or binary views, 16 bytes each, over `buffers`.
void hash_views(const std::uint8_t* views, const std::uint8_t* const* buffers, Validity validity, std::size_t count,
                std::uint64_t* state) noexcept;

// Orders row numbers by partition, stably: those of partition i are order[bounds[i]..bounds[i + 1]).
// `bounds` has partitions + 1.
void partition_rows(const std::uint64_t* state, std::size_t count, std::size_t partitions, std::int64_t* order,
                    std::int64_t* bounds) noexcept;

}  // namespace mmflow
