#include "arrow_c.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace mmflow {
namespace {

// What an array owns. A string view array has up to five buffers: validity, views, the decoded bytes, side, sizes.
struct Held {
    Column column;
    const void* buffers[5] = {};
    std::int64_t sizes[2] = {};
    Owner owner{};

    ~Held() {
        column.release();
        if (owner.object != nullptr) owner.drop(owner.object);
    }
};

struct Children {
    ArrowArray* arrays = nullptr;
    ArrowArray** pointers = nullptr;
    const void* buffers[1] = {};

    ~Children() {
        delete[] pointers;
        delete[] arrays;
    }
};

void release_column(ArrowArray* array) {
    delete static_cast<Held*>(array->private_data);
    array->release = nullptr;
}

void release_struct(ArrowArray* array) {
    for (std::int64_t i = 0; i < array->n_children; ++i) {
        ArrowArray* child = array->children[i];
        if (child->release != nullptr) child->release(child);  // else it was moved away
    }
    delete static_cast<Children*>(array->private_data);
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

void fill(ArrowArray& array, Held& held, std::size_t rows, const std::uint8_t* data, std::size_t size) noexcept {
    const Column& column = held.column;
    const std::int64_t nulls = count_nulls(column, rows);
    held.buffers[0] = nulls ? column.validity.data : nullptr;
    held.buffers[1] = column.values.data;
    array = {static_cast<std::int64_t>(rows), nulls, 0, 2, 0, held.buffers, nullptr, nullptr, release_column, &held};
    if (column.type.kind != Kind::kString) return;
    const bool side = column.side_size != 0;
    held.sizes[0] = static_cast<std::int64_t>(size);
    held.sizes[1] = static_cast<std::int64_t>(column.side_size);
    held.buffers[2] = data;
    held.buffers[3] = side ? static_cast<const void*>(column.side.data) : held.sizes;
    if (side) held.buffers[4] = held.sizes;
    array.n_buffers = side ? 5 : 4;
}

}  // namespace

ArrowArray* to_arrow(Column* columns, std::size_t count, std::size_t rows, const std::uint8_t* data, std::size_t size,
                     const Owner& owner) noexcept {
    auto* array = static_cast<ArrowArray*>(std::calloc(1, sizeof(ArrowArray)));
    auto* children = new (std::nothrow) Children;
    if (array == nullptr || children == nullptr) {
        std::free(array);
        delete children;
        return nullptr;
    }
    children->arrays = new (std::nothrow) ArrowArray[count + 1]{};
    children->pointers = new (std::nothrow) ArrowArray*[count + 1]{};
    *array = {static_cast<std::int64_t>(rows), 0, 0, 1, 0, children->buffers, children->pointers, nullptr,
              release_struct, children};
    bool complete = children->arrays != nullptr && children->pointers != nullptr;
    for (std::size_t i = 0; i < count && complete; ++i) {
        auto* held = new (std::nothrow) Held;
        complete = held != nullptr && columns[i].values.reserve(1);  // an array of no rows has buffers too
        if (!complete) {
            delete held;
            break;
        }
        held->column = columns[i];
        columns[i] = Column{};
        if (held->column.type.kind == Kind::kString) {
            held->owner = owner;
            owner.hold(owner.object);
        }
        fill(children->arrays[i], *held, rows, data, size);
        children->pointers[i] = &children->arrays[i];
        array->n_children = static_cast<std::int64_t>(i + 1);
    }
    if (!complete) {
        release_struct(array);
        std::free(array);
        return nullptr;
    }
    return array;
}

}  // namespace mmflow
