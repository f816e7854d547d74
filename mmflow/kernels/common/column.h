// A column that grows as values are decoded: the buffers of an Arrow array.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/memory.h"
#include "common/styles.h"

namespace mmflow {

enum class Kind : int {
    kBool,
    kInt8, kInt16, kInt32, kInt64,
    kUInt8, kUInt16, kUInt32, kUInt64,
    kFloat32, kFloat64,
    kDecimal128,
    kDate32,       // days since 1970
    kTime32, kTime64,
    kTimestamp,    // units since 1970, zone by `zoned`
    kString,       // 16-byte views into the decoded bytes (Arrow's string_view)
    kStruct,       // children, one for each field
    kList,         // int32 offsets into its one child
};

// Bytes of another owner.
struct Text {
    const std::uint8_t* data;
    std::size_t size;
};

// Type of a column. `digits`: precision of decimals, decimal places of a time's unit (0, 3, 6, 9); of text of NDJSON
// whether it is the value itself (0), the value as text of JSON (1), or an object of the unknown fields (2). `exact`: text that
// differs from how the value would be written (007, 1 as true, a whole number that a double rounds) needs the fallback.
// `closed`: objects of this struct hold no other fields. `style`: how values are spelled; null: as usual.
struct Type {
    Kind kind;
    int digits = 0;
    int scale = 0;
    bool zoned = false;
    bool exact = false;
    bool closed = false;
    const Type* children = nullptr;    // of nested types
    const Text* names = nullptr;  // of a struct's children
    std::size_t child_count = 0;
    const Style* style = nullptr;

    constexpr bool nested() const noexcept { return kind == Kind::kStruct || kind == Kind::kList; }

    constexpr bool json() const noexcept { return kind == Kind::kString && digits != 0; }

    // Bytes of a value; 0 for bool, whose values are bits.
    constexpr std::size_t width() const noexcept {
        switch (kind) {
            case Kind::kBool: case Kind::kStruct: return 0;
            case Kind::kList: return 4;
            case Kind::kInt8: case Kind::kUInt8: return 1;
            case Kind::kInt16: case Kind::kUInt16: return 2;
            case Kind::kInt32: case Kind::kUInt32: case Kind::kFloat32: case Kind::kDate32: case Kind::kTime32: return 4;
            case Kind::kDecimal128: case Kind::kString: return 16;
            default: return 8;
        }
    }
};

// Buffer that only grows.
struct Bytes {
    std::uint8_t* data = nullptr;
    std::size_t capacity = 0;

    // Returns false where there is no memory. The content stays.
    [[nodiscard]] bool reserve(std::size_t needed) noexcept {
        if (needed <= capacity) return true;
        std::size_t grown = 0;
        std::uint8_t* moved = allocate_block(capacity * 2 > needed ? capacity * 2 : needed, grown);
        if (moved == nullptr) return false;
        if (capacity) std::memcpy(moved, data, capacity);
        release();
        data = moved;
        capacity = grown;
        return true;
    }

    void release() noexcept {
        if (data != nullptr) free_block(data, capacity);
        data = nullptr;
        capacity = 0;
    }
};

struct Column {
    Type type{};
    Bytes values;
    Bytes validity;  // bits; empty until the first null
    Bytes side;      // text that differs from the decoded bytes: doubled quotes, escapes
    std::size_t side_size = 0;
    Column* children = nullptr;  // of nested types
    std::size_t length = 0;      // rows so far, of nested columns and their children

    // Makes an empty column with its children; false where there is no memory.
    [[nodiscard]] bool open(const Type& of) noexcept {
        type = of;
        if (of.child_count == 0) return true;
        children = static_cast<Column*>(std::calloc(of.child_count, sizeof(Column)));
        if (children == nullptr) return false;
        for (std::size_t i = 0; i < of.child_count; ++i) {
            if (!children[i].open(of.children[i])) return false;
        }
        return true;
    }

    [[nodiscard]] bool reserve(std::size_t rows) noexcept {
        const std::size_t width = type.width();
        // Bits are set one by one: new bytes must be zero. Values leave as they are written.
        const std::size_t before = values.capacity;
        if (!values.reserve(width ? rows * width : (rows + 63) / 64 * 8)) return false;
        if (width == 0 && values.capacity > before) std::memset(values.data + before, 0, values.capacity - before);
        if (validity.data == nullptr) return true;
        const std::size_t valid = validity.capacity;
        if (!validity.reserve((rows + 63) / 64 * 8)) return false;
        if (validity.capacity > valid) std::memset(validity.data + valid, 0xff, validity.capacity - valid);
        return true;
    }

    // Bytes of the first `rows` rows, with those of children and of text beside the decoded bytes.
    std::size_t bytes(std::size_t rows) const noexcept {
        const std::size_t width = type.width();
        std::size_t total = (width ? rows * width : rows / 8) + side_size;
        for (std::size_t i = 0; children != nullptr && i < type.child_count; ++i) total += children[i].bytes(children[i].length);
        return total;
    }

    // Makes row `row` null, and its value zero. `rows`: as reserved.
    [[nodiscard]] bool set_null(std::size_t row, std::size_t rows) noexcept {
        if (validity.data == nullptr) {
            if (!validity.reserve((rows + 63) / 64 * 8)) return false;
            std::memset(validity.data, 0xff, validity.capacity);
        }
        validity.data[row / 8] &= static_cast<std::uint8_t>(~(1u << (row % 8)));
        const std::size_t width = type.width();
        if (width) {
            std::memset(values.data + row * width, 0, width);
        } else {
            set_bit(row, false);
        }
        return true;
    }

    // Makes row `row` valid, whatever an earlier attempt left there.
    void set_valid(std::size_t row) noexcept {
        if (validity.data != nullptr) validity.data[row / 8] |= static_cast<std::uint8_t>(1u << (row % 8));
    }

    void set_bit(std::size_t row, bool value) noexcept {
        const auto bit = static_cast<std::uint8_t>(1u << (row % 8));
        std::uint8_t& byte = values.data[row / 8];
        byte = static_cast<std::uint8_t>(value ? byte | bit : byte & ~bit);
    }

    void release() noexcept {
        values.release();
        validity.release();
        side.release();
        side_size = 0;
        if (children != nullptr) {
            for (std::size_t i = 0; i < type.child_count; ++i) children[i].release();
        }
        std::free(children);
        children = nullptr;
    }
};

}  // namespace mmflow
