// Columns of Arrow arrays as the aggregator reads and makes them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "aggregate/whole.h"
#include "common/arrow_c.h"

namespace mmflow {

// Layout of values. Dates, times, timestamps and durations are integers.
enum class Layout : std::uint8_t {
    kBool, kInt8, kInt16, kInt32, kInt64, kUInt8, kUInt16, kUInt32, kUInt64, kFloat32, kFloat64,
    kDecimal,  // 128 bits
    kFixed,    // `width` bytes
    kText, kLargeText, kTextView,
};

struct ArrayType {
    Layout layout = Layout::kBool;
    std::size_t width = 0;  // bytes of a fixed value; 0: bits or text
    int precision = 0;      // of decimals
    int scale = 0;
    std::string format;     // of the Arrow C Data Interface

    bool text() const noexcept { return layout >= Layout::kText; }
    bool real() const noexcept { return layout == Layout::kFloat32 || layout == Layout::kFloat64; }
    bool integer() const noexcept { return layout >= Layout::kInt8 && layout <= Layout::kUInt64; }
    bool is_signed() const noexcept { return layout <= Layout::kInt64; }
};

// Throws std::invalid_argument for types that are not in `Layout`.
ArrayType array_type(const char* format);

// Rows of one array.
struct ArrayView {
    const ArrayType* type = nullptr;
    const std::uint8_t* validity = nullptr;  // bits; null: no row is null
    const std::uint8_t* values = nullptr;    // or offsets, or views
    const std::uint8_t* const* data = nullptr;  // of text: its one buffer, or those of views
    std::size_t offset = 0;                  // of row 0, for all buffers

    bool valid(std::size_t row) const noexcept {
        return validity == nullptr || (validity[(offset + row) / 8] >> ((offset + row) % 8) & 1) != 0;
    }
    bool bit(std::size_t row) const noexcept { return (values[(offset + row) / 8] >> ((offset + row) % 8) & 1) != 0; }
    template <class T>
    T value(std::size_t row) const noexcept {
        T made;
        std::memcpy(&made, values + (offset + row) * sizeof(T), sizeof(T));
        return made;
    }
    std::string_view bytes(std::size_t row) const noexcept;
};

// Sees `array`, a child of `parent`, as `type`. Throws std::invalid_argument where its buffers are not those of the type.
ArrayView view_of(const ArrowArray& parent, const ArrowArray& array, const ArrayType& type);

// Array of up to `rows` rows that is being made. `append_…` once for each.
class ArrayMaker {
   public:
    ArrayMaker(const ArrayType& type, std::size_t rows);
    ArrayMaker(ArrayMaker&&) = default;

    void append_null();
    void append_bool(bool value);
    void append_text(std::string_view value);
    template <class T>
    void append(T value) {
        append_bytes(&value, sizeof(T));
    }
    void append_bytes(const void* value, std::size_t size) {
        std::memcpy(next_, value, size);
        next_ += size;
        ++length_;
    }

    // Fills `array`, which owns the buffers then.
    void finish(ArrowArray& array);

   private:
    ArrayType type_;
    std::size_t length_ = 0, nulls_ = 0;
    std::vector<std::uint8_t> validity_, values_, text_;
    std::uint8_t* next_;  // in values_
};

// Returns a struct array of the columns, allocated by malloc.
ArrowArray* struct_array(std::vector<ArrayMaker>& columns, std::size_t rows);

}  // namespace mmflow
