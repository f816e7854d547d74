#include "gather.h"

#include "simd/arch_scalar.h"
#include "simd/blocks.inl.h"
#include "common/values.inl.h"

namespace mmflow {
namespace {

// Records that are gathered from at a time, field by field: they stay in cache.
constexpr std::size_t kBlock = 512;

template <std::size_t kWidth, bool kSwap>
void copy(const std::uint8_t* from, std::size_t count, std::size_t stride, std::uint8_t* out) noexcept {
    for (std::size_t i = 0; i < count; ++i, from += stride, out += kWidth) {
        if constexpr (kSwap) {
            for (std::size_t b = 0; b < kWidth; ++b) out[b] = from[kWidth - 1 - b];
        } else {
            std::memcpy(out, from, kWidth);
        }
    }
}

template <bool kSwap>
void copy_any(const std::uint8_t* from, std::size_t count, std::size_t stride, std::size_t width,
              std::uint8_t* out) noexcept {
    switch (width) {
        case 1: return copy<1, kSwap>(from, count, stride, out);
        case 2: return copy<2, kSwap>(from, count, stride, out);
        case 4: return copy<4, kSwap>(from, count, stride, out);
        case 8: return copy<8, kSwap>(from, count, stride, out);
        case 16: return copy<16, kSwap>(from, count, stride, out);
        default:
            for (std::size_t i = 0; i < count; ++i, from += stride, out += width) {
                for (std::size_t b = 0; b < width; ++b) out[b] = from[kSwap ? width - 1 - b : b];
            }
    }
}

}  // namespace

RecordsResult gather_records(const RecordField* fields, std::size_t field_count, const std::uint8_t* data,
                             std::size_t count, std::size_t size, Column* columns) noexcept {
    RecordsResult result;
    for (std::size_t f = 0; f < field_count; ++f) {
        const RecordField& field = fields[f];
        const std::size_t bytes = field.form == RecordField::Form::kText   ? count * 16
                                  : field.form == RecordField::Form::kBool ? (count + 63) / 64 * 8
                                                                           : count * field.width;
        if (!columns[f].values.reserve(bytes)) return {Status::kNoMemory};
        if (field.form == RecordField::Form::kBool && bytes) std::memset(columns[f].values.data, 0, bytes);
    }
    for (std::size_t row = 0; row < count; row += kBlock) {
        const std::size_t rows = count - row < kBlock ? count - row : kBlock;
        for (std::size_t f = 0; f < field_count; ++f) {
            const RecordField& field = fields[f];
            const std::uint8_t* from = data + row * size + field.offset;
            std::uint8_t* out = columns[f].values.data;
            switch (field.form) {
                case RecordField::Form::kBytes:
                    copy_any<false>(from, rows, size, field.width, out + row * field.width);
                    break;
                case RecordField::Form::kSwapped:
                    copy_any<true>(from, rows, size, field.width, out + row * field.width);
                    break;
                case RecordField::Form::kBool:
                    for (std::size_t i = 0; i < rows; ++i) columns[f].set_bit(row + i, from[i * size] != 0);
                    break;
                case RecordField::Form::kText:
                    for (std::size_t i = 0; i < rows; ++i) {
                        const std::uint8_t* p = from + i * size;
                        std::size_t n = field.width;
                        while (n > 0 && (p[n - 1] == 0 || p[n - 1] == ' ')) --n;
                        if (!scalar::is_utf8(p, n)) return {Status::kNeedsFallback};
                        const auto room = static_cast<std::size_t>(data + count * size - p);
                        scalar::write_view(out + (row + i) * 16, p, n, room, 0, static_cast<std::uint32_t>(p - data));
                    }
                    break;
            }
        }
    }
    result.consumed = count * size;
    result.records = result.rows = count;
    return result;
}

}  // namespace mmflow
