#include "program/output.h"

#include <cstdlib>
#include <limits>
#include <new>
#include <utility>

namespace mmflow::program {
namespace {

// Memory that an array owns.
struct Held {
    std::shared_ptr<Imported> source;
    Bytes values, valid, side;
    std::vector<const void*> buffers;
    std::vector<std::int64_t> sizes;
    std::vector<ArrowArray> arrays;  // children
    std::vector<ArrowArray*> pointers;

    ~Held() {
        values.release();
        valid.release();
        side.release();
    }
};

void release_array(ArrowArray* array) {
    for (std::int64_t i = 0; i < array->n_children; ++i) {
        ArrowArray* child = array->children[i];
        if (child->release != nullptr) child->release(child);  // else it was moved away
    }
    delete static_cast<Held*>(array->private_data);
    array->release = nullptr;
}

// Packs bytes of 0 and 1 to bits in place.
void pack_in_place(Bytes& bytes, std::size_t rows, const Primitives& primitives) noexcept {
    primitives.pack(bytes.data, rows, bytes.data);
}

void fill_array(ArrowArray& array, OutputColumn& column, std::size_t rows, const Primitives& primitives) {
    auto held = std::make_unique<Held>();
    std::int64_t nulls = 0;
    held->buffers.push_back(nullptr);
    if (column.any_null) {
        nulls = static_cast<std::int64_t>(rows - primitives.count(column.valid.data, rows));
        if (nulls) {
            pack_in_place(column.valid, rows, primitives);
            held->buffers[0] = column.valid.data;
        }
    }
    if (column.layout == Layout::kBits) pack_in_place(column.values, rows, primitives);
    held->buffers.push_back(column.values.data);
    if (column.layout == Layout::kViews) {
        if (column.source != nullptr) {
            const ArrowArray& views = column.source->array();
            const std::int64_t count = views.n_buffers - 3;
            const auto* sizes = static_cast<const std::int64_t*>(views.buffers[views.n_buffers - 1]);
            held->buffers.insert(held->buffers.end(), views.buffers + 2, views.buffers + 2 + count);
            held->source = std::move(column.source);
            if (count) held->sizes.assign(sizes, sizes + count);
        } else {
            held->buffers.push_back(column.side.data);
            held->sizes.push_back(static_cast<std::int64_t>(column.side_size));
        }
        if (held->sizes.empty()) held->sizes.reserve(1);
        held->buffers.push_back(held->sizes.data());
    }
    held->values = std::exchange(column.values, Bytes{});
    held->valid = std::exchange(column.valid, Bytes{});
    held->side = std::exchange(column.side, Bytes{});
    array = {static_cast<std::int64_t>(rows), nulls, 0, static_cast<std::int64_t>(held->buffers.size()), 0,
             held->buffers.data(), nullptr, nullptr, release_array, nullptr};
    array.private_data = held.release();
}

}  // namespace

OutputColumn::OutputColumn(OutputColumn&& other) noexcept
    : layout(other.layout), width(other.width), source(std::move(other.source)), values(std::exchange(other.values, Bytes{})),
      valid(std::exchange(other.valid, Bytes{})), side(std::exchange(other.side, Bytes{})), side_size(other.side_size),
      any_null(other.any_null) {}

OutputColumn::~OutputColumn() { clear(); }

void OutputColumn::clear() noexcept {
    values.release();
    valid.release();
    side.release();
    side_size = 0;
    any_null = false;
}

bool OutputColumn::reserve(std::size_t rows, std::size_t n) noexcept {
    return values.reserve((rows + n) * width + 8) && (!any_null || valid.reserve(rows + n + 8));
}

std::uint8_t* OutputColumn::nulls(std::size_t rows, std::size_t n) noexcept {
    if (!valid.reserve(rows + n + 8)) return nullptr;
    if (!any_null) std::memset(valid.data, 1, rows);
    any_null = true;
    return valid.data + rows;
}

bool OutputColumn::append_text(std::size_t rows, const Text* text, bool constant, const std::uint8_t* given,
                               std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        const Text one = text[constant ? 0 : i];
        std::uint8_t* view = values.data + (rows + i) * 16;
        std::memset(view, 0, 16);
        if ((given != nullptr && !given[i]) || one.size == 0) continue;
        const auto size = static_cast<std::uint32_t>(one.size);
        std::memcpy(view, &size, 4);
        if (one.size <= 12) {
            std::memcpy(view + 4, one.data, one.size);
            continue;
        }
        const std::size_t after = side_size + one.size;
        if (after > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()) || !side.reserve(after)) return false;
        std::memcpy(side.data + side_size, one.data, one.size);
        std::memcpy(view + 4, one.data, 4);
        const auto place = static_cast<std::uint32_t>(side_size);
        std::memcpy(view + 12, &place, 4);
        side_size = after;
    }
    return true;
}

ArrowArray* to_arrow(std::vector<OutputColumn>& columns, std::size_t rows, const Primitives& primitives) noexcept {
    auto* array = static_cast<ArrowArray*>(std::calloc(1, sizeof(ArrowArray)));
    if (array == nullptr) return nullptr;
    try {
        auto held = std::make_unique<Held>();
        held->buffers.push_back(nullptr);
        held->arrays.resize(columns.size());
        for (ArrowArray& child : held->arrays) held->pointers.push_back(&child);
        *array = {static_cast<std::int64_t>(rows), 0, 0, 1, static_cast<std::int64_t>(columns.size()),
                  held->buffers.data(), held->pointers.data(), nullptr, release_array, nullptr};
        array->private_data = held.release();
        for (std::size_t i = 0; i < columns.size(); ++i) {
            if (!columns[i].values.reserve(8)) throw std::bad_alloc();
            fill_array(*array->children[i], columns[i], rows, primitives);
        }
        return array;
    } catch (const std::bad_alloc&) {
        if (array->release != nullptr) array->release(array);
        std::free(array);
        return nullptr;
    }
}

}  // namespace mmflow::program
