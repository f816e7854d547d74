// Operations on dense vectors, compiled once for each instruction set. None knows nulls: values under nulls are computed, too.
#pragma once
#include <cstddef>
#include <cstdint>

#include "program/program.h"

namespace mmflow::program {

// `a` and `b`: vectors or, as the primitive was looked up for, one value. `fits`: set to 0 where the result does not fit,
// 1 elsewhere, by operations that may fail.
using Binary = void (*)(const void* a, const void* b, void* out, std::uint8_t* fits, std::size_t n) noexcept;
// `number`, `limit`: those of the node.
using Unary = void (*)(const void* a, void* out, std::uint8_t* fits, std::size_t n, std::int64_t number, int limit) noexcept;
using Gather = void (*)(const std::uint8_t* from, const std::uint32_t* rows, std::uint8_t* out, std::size_t n) noexcept;

struct Primitives {
    const char* name;
    // Null where there is none. `form`: of the operands, which are vectors (A, B) or one value.
    Binary (*binary)(Op, Form form, bool a_constant, bool b_constant) noexcept;
    // `from`: form of the argument, `to`: of the result. `fallible`: set where it writes `fits`.
    Unary (*unary)(Op, Form from, Form to, bool& fallible) noexcept;
    Gather (*gather)(std::size_t width) noexcept;
    void (*unpack)(const std::uint8_t* bits, std::size_t offset, std::size_t n, std::uint8_t* out) noexcept;
    void (*unpack_rows)(const std::uint8_t* bits, std::size_t offset, const std::uint32_t* rows, std::size_t n,
                        std::uint8_t* out) noexcept;
    void (*pack)(const std::uint8_t* bytes, std::size_t n, std::uint8_t* bits) noexcept;
    std::size_t (*count)(const std::uint8_t* bytes, std::size_t n) noexcept;
    // Positions of ones.
    std::size_t (*positions)(const std::uint8_t* bytes, std::size_t n, std::uint32_t* out) noexcept;
    // Chooses between vectors of values of 1, 2, 4, 8 or 16 bytes; with a stride of 0, one value.
    void (*choose)(const std::uint8_t* mask, const std::uint8_t* a, bool a_constant, const std::uint8_t* b, bool b_constant,
                   std::size_t width, std::uint8_t* out, std::size_t n) noexcept;
    // Rows of 16-byte views that are equal to the text of `view`, whose bytes are `text`.
    void (*views_equal)(const std::uint8_t* views, const std::uint32_t* rows, std::size_t n, const std::uint8_t* view,
                        Text text, const void* const* buffers, std::uint8_t* out) noexcept;
};

// Returns those of an instruction set (simd/dispatch.h); the plain ones where it has none of its own.
const Primitives* find_primitives(const char* instruction_set) noexcept;

extern const Primitives* const kScalarPrimitives;
extern const Primitives* const kAvx2Primitives;
extern const Primitives* const kAvx512Primitives;

}  // namespace mmflow::program
