#include "exchange/partitions.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace mmflow {
namespace {

// Views count the bytes of a buffer in int32; smaller ones are moved less often as they grow.
constexpr std::size_t kTextBytes = 1 << 30;
constexpr std::size_t kLeast = 256;

template <std::size_t width>
void gather(const std::uint8_t* values, const std::int64_t* order, std::size_t count, std::uint8_t* out) noexcept {
    for (std::size_t i = 0; i < count; ++i)
        std::memcpy(out + i * width, values + static_cast<std::size_t>(order[i]) * width, width);
}

void gather_wide(const std::uint8_t* values, std::size_t width, const std::int64_t* order, std::size_t count,
                 std::uint8_t* out) noexcept {
    switch (width) {
        case 1: return gather<1>(values, order, count, out);
        case 2: return gather<2>(values, order, count, out);
        case 4: return gather<4>(values, order, count, out);
        case 8: return gather<8>(values, order, count, out);
        case 16: return gather<16>(values, order, count, out);
        default:
            for (std::size_t i = 0; i < count; ++i)
                std::memcpy(out + i * width, values + static_cast<std::size_t>(order[i]) * width, width);
    }
}

bool bit_at(const std::uint8_t* bits, std::size_t i) noexcept { return (bits[i / 8] >> (i % 8) & 1) != 0; }

// Appends bits of rows behind the `rows` bits that are there, and returns how many are zero.
std::size_t gather_bits(const std::uint8_t* bits, std::size_t offset, const std::int64_t* order, std::size_t count,
                        std::size_t rows, GrowingBytes& out) {
    const std::size_t needed = (rows + count + 7) / 8;
    if (needed > out.size()) {
        std::uint8_t* fresh = out.reserve(needed - out.size());
        std::memset(fresh, 0, needed - out.size());
        out.advance(needed - out.size());
    }
    std::uint8_t* to = out.data();
    std::size_t zeros = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const bool set = bit_at(bits, offset + static_cast<std::size_t>(order[i]));
        to[(rows + i) / 8] |= static_cast<std::uint8_t>(set << ((rows + i) % 8));
        zeros += !set;
    }
    return zeros;
}

void append_ones(std::size_t rows, std::size_t count, GrowingBytes& out) {
    for (std::size_t row = rows; row < rows + count; ++row) {
        if (row / 8 >= out.size()) {
            *out.reserve(1) = 0;
            out.advance(1);
        }
        out.data()[row / 8] |= static_cast<std::uint8_t>(1u << (row % 8));
    }
}

struct View {
    std::uint32_t size, prefix, buffer, place;
};

void gather_views(const ArrayView& from, const std::int64_t* order, std::size_t count, std::uint8_t* out,
                  std::vector<GrowingBytes>& texts) {
    const std::uint8_t* views = from.values + from.offset * sizeof(View);
    for (std::size_t i = 0; i < count; ++i) {
        const auto row = static_cast<std::size_t>(order[i]);
        View view;
        if (from.valid(row)) {
            std::memcpy(&view, views + row * sizeof(View), sizeof(View));
        } else {
            view = {};  // what lies under a null may point anywhere
        }
        if (view.size > 12) {
            if (texts.empty() || texts.back().size() + view.size > kTextBytes) texts.emplace_back();
            GrowingBytes& text = texts.back();
            std::memcpy(text.reserve(view.size), from.data[view.buffer] + view.place, view.size);
            view.buffer = static_cast<std::uint32_t>(texts.size() - 1);
            view.place = static_cast<std::uint32_t>(text.size());
            text.advance(view.size);
        }
        std::memcpy(out + i * sizeof(View), &view, sizeof(View));
    }
}

// Memory that an array owns.
struct Held {
    GrowingBytes values, validity;
    std::vector<GrowingBytes> texts;
    std::vector<const void*> buffers;
    std::vector<std::int64_t> sizes;
    std::vector<ArrowArray> children;
    std::vector<ArrowArray*> pointers;

    ~Held() {
        for (ArrowArray& child : children) {
            if (child.release != nullptr) child.release(&child);  // else it was moved away
        }
    }
};

void release_held(ArrowArray* array) {
    delete static_cast<Held*>(array->private_data);
    array->release = nullptr;
}

}  // namespace

std::uint8_t* GrowingBytes::reserve(std::size_t more) {
    if (size_ + more > capacity_) {
        const std::size_t wanted = std::max({kLeast, capacity_ * 2, size_ + more});
        auto* grown = static_cast<std::uint8_t*>(std::realloc(data_.get(), wanted));
        if (grown == nullptr) throw std::bad_alloc();
        static_cast<void>(data_.release());
        data_.reset(grown);
        capacity_ = wanted;
    }
    return data_.get() + size_;
}

void GrowingBytes::shrink() noexcept {
    if (capacity_ == size_ || size_ == 0) return;
    auto* cut = static_cast<std::uint8_t*>(std::realloc(data_.get(), size_));
    if (cut == nullptr) return;
    static_cast<void>(data_.release());
    data_.reset(cut);
    capacity_ = size_;
}

std::size_t Partitions::Column::bytes() const noexcept {
    std::size_t total = values.capacity() + validity.capacity();
    for (const GrowingBytes& text : texts) total += text.capacity();
    return total;
}

Partitions::Partitions(std::vector<ArrayType> types, std::size_t count) : types_(std::move(types)), parts_(count) {
    for (const ArrayType& type : types_) {
        if (type.layout == Layout::kText || type.layout == Layout::kLargeText)
            throw std::invalid_argument("partitions hold text as views, not as " + type.format);
    }
    for (Part& part : parts_) part.columns.resize(types_.size());
}

void Partitions::append(const ArrowArray& rows, const std::int64_t* order, const std::int64_t* bounds) {
    if (static_cast<std::size_t>(rows.n_children) != types_.size()) throw std::invalid_argument("rows of other columns");
    for (std::size_t c = 0; c < types_.size(); ++c) {
        const ArrayView view = view_of(rows, *rows.children[c], types_[c]);
        for (std::size_t p = 0; p < parts_.size(); ++p) {
            const auto count = static_cast<std::size_t>(bounds[p + 1] - bounds[p]);
            if (count) append_column(types_[c], view, order + bounds[p], count, parts_[p].rows, parts_[p].columns[c]);
        }
    }
    for (std::size_t p = 0; p < parts_.size(); ++p) parts_[p].rows += static_cast<std::size_t>(bounds[p + 1] - bounds[p]);
}

void Partitions::append_column(const ArrayType& type, const ArrayView& view, const std::int64_t* order, std::size_t count,
                               std::size_t rows, Column& column) {
    const std::size_t before = column.bytes();
    if (view.validity != nullptr) {
        if (column.validity.size() == 0) append_ones(0, rows, column.validity);
        column.nulls += gather_bits(view.validity, view.offset, order, count, rows, column.validity);
    } else if (column.validity.size() != 0) {
        append_ones(rows, count, column.validity);
    }
    if (type.layout == Layout::kBool) {
        gather_bits(view.values, view.offset, order, count, rows, column.values);
    } else {
        const std::size_t width = type.layout == Layout::kTextView ? sizeof(View) : type.width;
        std::uint8_t* out = column.values.reserve(count * width);
        if (type.layout == Layout::kTextView) {
            gather_views(view, order, count, out, column.texts);
        } else {
            gather_wide(view.values + view.offset * width, width, order, count, out);
        }
        column.values.advance(count * width);
    }
    bytes_ += column.bytes() - before;
}

ArrowArray* Partitions::take(std::size_t partition) {
    Part& part = parts_[partition];
    auto made = std::make_unique<Held>();
    made->children.resize(types_.size());
    for (std::size_t c = 0; c < types_.size(); ++c) {
        Column column = std::exchange(part.columns[c], Column{});
        bytes_ -= column.bytes();
        auto held = std::make_unique<Held>();
        column.values.reserve(8);  // arrays of no rows have buffers, too
        column.values.shrink();
        held->values = std::move(column.values);
        held->validity = std::move(column.validity);
        held->texts = std::move(column.texts);
        held->buffers = {column.nulls ? held->validity.data() : nullptr, held->values.data()};
        if (types_[c].layout == Layout::kTextView) {
            held->sizes.reserve(held->texts.size() + 1);
            for (GrowingBytes& text : held->texts) {
                text.shrink();
                held->buffers.push_back(text.data());
                held->sizes.push_back(static_cast<std::int64_t>(text.size()));
            }
            held->buffers.push_back(held->sizes.data());
        }
        made->children[c] = {static_cast<std::int64_t>(part.rows), static_cast<std::int64_t>(column.nulls), 0,
                             static_cast<std::int64_t>(held->buffers.size()), 0, held->buffers.data(), nullptr, nullptr,
                             release_held, nullptr};
        made->children[c].private_data = held.release();
        made->pointers.push_back(&made->children[c]);
    }
    made->buffers.push_back(nullptr);
    auto* array = static_cast<ArrowArray*>(std::calloc(1, sizeof(ArrowArray)));
    if (array == nullptr) throw std::bad_alloc();
    *array = {static_cast<std::int64_t>(part.rows), 0, 0, 1, static_cast<std::int64_t>(types_.size()), made->buffers.data(),
              made->pointers.data(), nullptr, release_held, nullptr};
    array->private_data = made.release();
    part.rows = 0;
    return array;
}

}  // namespace mmflow
