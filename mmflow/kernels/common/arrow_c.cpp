#include "common/arrow_c.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace mmflow {
namespace {

// Memory that an array owns. A string view array has up to five buffers: validity, views, the decoded bytes, side, sizes.
struct Held {
    Column column;
    const void* buffers[5] = {};
    std::int64_t sizes[2] = {};
    Owner owner{};
    ArrowArray* arrays = nullptr;  // children
    ArrowArray** pointers = nullptr;

    ~Held() {
        column.release();
        if (owner.object != nullptr) owner.release(owner.object);
        delete[] pointers;
        delete[] arrays;
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

std::int64_t count_nulls(const Column& column, std::size_t rows) noexcept {
    if (column.validity.data == nullptr) return 0;
    std::size_t valid = 0;
    for (std::size_t i = 0; i < rows / 8; ++i) valid += static_cast<std::size_t>(std::popcount(column.validity.data[i]));
    const std::size_t rest = rows % 8;
    if (rest) {
        const auto bits = static_cast<unsigned>(column.validity.data[rows / 8]) & ((1u << rest) - 1);
        valid += static_cast<std::size_t>(std::popcount(bits));
    }
    return static_cast<std::int64_t>(rows - valid);
}

// The parts that the arrays of one batch share.
struct Batch {
    const std::uint8_t* data;
    std::size_t size;
    const Owner& owner;
};

bool fill_array(ArrowArray& array, Column& column, std::size_t rows, const Batch& batch) noexcept;

// Makes the first `rows` rows of the columns children of `array`; false where there is no memory.
bool fill_children(ArrowArray& array, Held& held, Column* columns, std::size_t count, std::size_t rows,
                   const Batch& batch) noexcept {
    held.arrays = new (std::nothrow) ArrowArray[count + 1]{};
    held.pointers = new (std::nothrow) ArrowArray*[count + 1]{};
    if (held.arrays == nullptr || held.pointers == nullptr) return false;
    array.children = held.pointers;
    for (std::size_t i = 0; i < count; ++i) {
        held.pointers[i] = &held.arrays[i];
        if (!fill_array(held.arrays[i], columns[i], rows, batch)) return false;
        array.n_children = static_cast<std::int64_t>(i + 1);
    }
    return true;
}

// Fills an array with the first `rows` rows of a column, whose buffers it takes.
bool fill_array(ArrowArray& array, Column& column, std::size_t rows, const Batch& batch) noexcept {
    // An array of no rows has buffers too; offsets begin with a zero.
    const bool list = column.type.kind == Kind::kList;
    if (!column.values.reserve(8)) return false;
    if (list && rows == 0) std::memset(column.values.data, 0, 4);
    auto* held = new (std::nothrow) Held;
    if (held == nullptr) return false;
    held->column = column;
    column = Column{};
    const Type& type = held->column.type;
    const std::int64_t nulls = count_nulls(held->column, rows);
    held->buffers[0] = nulls ? held->column.validity.data : nullptr;
    held->buffers[1] = held->column.values.data;
    array = {static_cast<std::int64_t>(rows), nulls, 0, 2, 0, held->buffers, nullptr, nullptr, release_array, held};
    if (type.nested()) {
        array.n_buffers = list ? 2 : 1;
        std::size_t below = rows;
        if (list) {
            std::int32_t last = 0;
            std::memcpy(&last, held->column.values.data + rows * 4, 4);
            below = static_cast<std::size_t>(last);
        }
        if (!fill_children(array, *held, held->column.children, type.child_count, below, batch)) {
            release_array(&array);
            return false;
        }
    } else if (type.kind == Kind::kString) {
        held->owner = batch.owner;
        batch.owner.retain(batch.owner.object);
        const bool side = held->column.side_size != 0;
        held->sizes[0] = static_cast<std::int64_t>(batch.size);
        held->sizes[1] = static_cast<std::int64_t>(held->column.side_size);
        held->buffers[2] = batch.data;
        held->buffers[3] = side ? static_cast<const void*>(held->column.side.data) : held->sizes;
        if (side) held->buffers[4] = held->sizes;
        array.n_buffers = side ? 5 : 4;
    }
    return true;
}

}  // namespace

ArrowArray* to_arrow(Column* columns, std::size_t count, std::size_t rows, const std::uint8_t* data, std::size_t size,
                     const Owner& owner) noexcept {
    auto* array = static_cast<ArrowArray*>(std::calloc(1, sizeof(ArrowArray)));
    auto* held = new (std::nothrow) Held;
    if (array == nullptr || held == nullptr) {
        std::free(array);
        delete held;
        return nullptr;
    }
    *array = {static_cast<std::int64_t>(rows), 0, 0, 1, 0, held->buffers, nullptr, nullptr, release_array, held};
    if (!fill_children(*array, *held, columns, count, rows, {data, size, owner})) {
        release_array(array);
        std::free(array);
        return nullptr;
    }
    return array;
}

}  // namespace mmflow
