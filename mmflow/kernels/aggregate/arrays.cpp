#include "aggregate/arrays.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <stdexcept>

namespace mmflow {
namespace {

struct Held {
    std::vector<std::uint8_t> validity, values, text;
    std::int64_t sizes[1] = {};
    const void* buffers[4] = {};
    std::vector<ArrowArray> children;
    std::vector<ArrowArray*> pointers;
};

void release_held(ArrowArray* array) {
    auto* held = static_cast<Held*>(array->private_data);
    for (ArrowArray& child : held->children) {
        if (child.release != nullptr) child.release(&child);  // else it was moved away
    }
    delete held;
    array->release = nullptr;
}

}  // namespace

ArrayType array_type(const char* format) {
    const std::string f = format;
    const auto made = [&](Layout layout, std::size_t width) { return ArrayType{layout, width, 0, 0, f}; };
    if (f == "b") return made(Layout::kBool, 0);
    if (f == "c") return made(Layout::kInt8, 1);
    if (f == "s") return made(Layout::kInt16, 2);
    if (f == "i" || f == "tdD" || f == "tts" || f == "ttm") return made(Layout::kInt32, 4);
    if (f == "l" || f == "tdm" || f == "ttu" || f == "ttn" || f.starts_with("ts") || f.starts_with("tD"))
        return made(Layout::kInt64, 8);
    if (f == "C") return made(Layout::kUInt8, 1);
    if (f == "S") return made(Layout::kUInt16, 2);
    if (f == "I") return made(Layout::kUInt32, 4);
    if (f == "L") return made(Layout::kUInt64, 8);
    if (f == "f") return made(Layout::kFloat32, 4);
    if (f == "g") return made(Layout::kFloat64, 8);
    if (f == "u" || f == "z") return made(Layout::kText, 0);
    if (f == "U" || f == "Z") return made(Layout::kLargeText, 0);
    if (f == "vu" || f == "vz") return made(Layout::kTextView, 0);
    int precision = 0, scale = 0, bits = 128, width = 0;
    if (std::sscanf(format, "d:%d,%d,%d", &precision, &scale, &bits) >= 2 && bits == 128)
        return {Layout::kDecimal, 16, precision, scale, f};
    if (std::sscanf(format, "w:%d", &width) == 1 && width > 0)
        return made(Layout::kFixed, static_cast<std::size_t>(width));
    throw std::invalid_argument("the aggregator does not know Arrow's type " + f);
}

std::string_view ArrayView::bytes(std::size_t row) const noexcept {
    const auto text = [&](std::int64_t begin, std::int64_t end) -> std::string_view {
        if (begin == end) return {};
        return {reinterpret_cast<const char*>(data[0] + begin), static_cast<std::size_t>(end - begin)};
    };
    switch (type->layout) {
        case Layout::kText: return text(value<std::int32_t>(row), value<std::int32_t>(row + 1));
        case Layout::kLargeText: return text(value<std::int64_t>(row), value<std::int64_t>(row + 1));
        case Layout::kTextView: {
            const std::uint8_t* view = values + (offset + row) * 16;
            std::uint32_t parts[4];
            std::memcpy(parts, view, 16);
            const std::uint8_t* begin = parts[0] <= 12 ? view + 4 : data[parts[2]] + parts[3];
            return {reinterpret_cast<const char*>(begin), parts[0]};
        }
        default:
            return {reinterpret_cast<const char*>(values + (offset + row) * type->width), type->width};
    }
}

ArrayView view_of(const ArrowArray& parent, const ArrowArray& array, const ArrayType& type) {
    const std::int64_t least = type.layout == Layout::kTextView || type.layout == Layout::kText ||
                                       type.layout == Layout::kLargeText ? 3 : 2;
    if (array.n_buffers < least || array.length < parent.offset + parent.length)
        throw std::invalid_argument("an array does not have the buffers of its type " + type.format);
    ArrayView made;
    made.type = &type;
    made.offset = static_cast<std::size_t>(array.offset + parent.offset);
    if (array.null_count != 0) made.validity = static_cast<const std::uint8_t*>(array.buffers[0]);
    made.values = static_cast<const std::uint8_t*>(array.buffers[1]);
    made.data = reinterpret_cast<const std::uint8_t* const*>(array.buffers + 2);
    return made;
}

ArrayMaker::ArrayMaker(const ArrayType& type, std::size_t rows) : type_(type), validity_((rows + 7) / 8, 0xff) {
    switch (type.layout) {
        case Layout::kBool: values_.resize((rows + 7) / 8); break;
        // Offsets begin with a zero.
        case Layout::kText: values_.resize((rows + 1) * 4); break;
        case Layout::kLargeText: values_.resize((rows + 1) * 8); break;
        case Layout::kTextView: values_.resize(rows * 16); break;
        default: values_.resize(rows * type.width);
    }
    values_.reserve(8);  // arrays of no rows have buffers, too
    next_ = values_.data() + (type.layout == Layout::kText ? 4 : type.layout == Layout::kLargeText ? 8 : 0);
}

void ArrayMaker::append_bool(bool value) {
    if (value) values_[length_ / 8] |= static_cast<std::uint8_t>(1u << (length_ % 8));
    ++length_;
}

void ArrayMaker::append_text(std::string_view value) {
    const auto append = [&](auto number) { append_bytes(&number, sizeof(number)); };
    switch (type_.layout) {
        case Layout::kText:
            text_.insert(text_.end(), value.begin(), value.end());
            if (text_.size() > INT32_MAX) throw std::length_error("more than 2 GiB of text in one batch of groups");
            append(static_cast<std::int32_t>(text_.size()));
            break;
        case Layout::kLargeText:
            text_.insert(text_.end(), value.begin(), value.end());
            append(static_cast<std::int64_t>(text_.size()));
            break;
        default: {  // views
            std::uint8_t view[16] = {};
            const auto size = static_cast<std::uint32_t>(value.size());
            std::memcpy(view, &size, 4);
            if (!value.empty()) std::memcpy(view + 4, value.data(), value.size() < 12 ? value.size() : 12);
            if (value.size() > 12) {
                if (text_.size() > INT32_MAX) throw std::length_error("more than 2 GiB of text in one batch of groups");
                const std::uint32_t place[2] = {0, static_cast<std::uint32_t>(text_.size())};
                std::memcpy(view + 8, place, 8);
                text_.insert(text_.end(), value.begin(), value.end());
            }
            append_bytes(view, 16);
        }
    }
}

void ArrayMaker::append_null() {
    validity_[length_ / 8] &= static_cast<std::uint8_t>(~(1u << (length_ % 8)));
    ++nulls_;
    switch (type_.layout) {
        case Layout::kBool: append_bool(false); break;
        case Layout::kText: case Layout::kLargeText: case Layout::kTextView: append_text({}); break;
        default:  // values are zeros
            next_ += type_.width;
            ++length_;
    }
}

void ArrayMaker::finish(ArrowArray& array) {
    auto* held = new Held{std::move(validity_), std::move(values_), std::move(text_), {}, {}, {}, {}};
    held->text.reserve(8);
    held->buffers[0] = nulls_ ? held->validity.data() : nullptr;
    held->buffers[1] = held->values.data();
    held->buffers[2] = held->text.data();
    held->sizes[0] = static_cast<std::int64_t>(held->text.size());
    held->buffers[3] = held->sizes;
    const std::int64_t buffers = type_.layout == Layout::kTextView ? 4 : type_.text() ? 3 : 2;
    array = {static_cast<std::int64_t>(length_), static_cast<std::int64_t>(nulls_), 0, buffers, 0, held->buffers,
             nullptr, nullptr, release_held, held};
}

ArrowArray* struct_array(std::vector<ArrayMaker>& columns, std::size_t rows) {
    auto* array = static_cast<ArrowArray*>(std::calloc(1, sizeof(ArrowArray)));
    if (array == nullptr) throw std::bad_alloc();
    auto* held = new Held;
    held->children.resize(columns.size());
    for (std::size_t i = 0; i < columns.size(); ++i) {
        columns[i].finish(held->children[i]);
        held->pointers.push_back(&held->children[i]);
    }
    *array = {static_cast<std::int64_t>(rows), 0, 0, 1, static_cast<std::int64_t>(columns.size()), held->buffers,
              held->pointers.data(), nullptr, release_held, held};
    return array;
}

}  // namespace mmflow
