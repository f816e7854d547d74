// Common parts of the fuzz targets: an input is options, one byte each, and then the text.
//
// Each target decodes it on every instruction set that runs here, from memory that ends where the text does, and aborts
// unless all give the same, byte for byte. Results then go through the Arrow interface and are released.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "common/arrow_c.h"
#include "simd/dispatch.h"

namespace fuzzing {

class Input {
   public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    std::uint8_t byte() noexcept { return at_ < size_ ? data_[at_++] : 0; }

    // The rest, in memory of its own: reading a byte beyond it is found.
    std::unique_ptr<std::uint8_t[]> rest(std::size_t& size) const {
        size = size_ - at_;
        auto copy = std::make_unique<std::uint8_t[]>(size);
        if (size) std::memcpy(copy.get(), data_ + at_, size);
        return copy;
    }

   private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t at_ = 0;
};

[[noreturn]] inline void differ(const char* what) {
    std::fprintf(stderr, "instruction sets differ: %s\n", what);
    std::abort();
}

inline bool valid(const mmflow::Column& column, std::size_t row) noexcept {
    return column.validity.data == nullptr || (column.validity.data[row / 8] >> (row % 8) & 1);
}

inline void same(const mmflow::Column& a, const mmflow::Column& b, std::size_t rows) {
    const std::size_t width = a.type.width();
    for (std::size_t row = 0; row < rows; ++row) {
        if (valid(a, row) != valid(b, row)) differ("validity");
        if (a.type.kind == mmflow::Kind::kBool) {
            if ((a.values.data[row / 8] ^ b.values.data[row / 8]) >> (row % 8) & 1) differ("bits");
        } else if (width && std::memcmp(a.values.data + row * width, b.values.data + row * width, width) != 0) {
            differ("values");
        }
    }
    if (a.side_size != b.side_size) differ("side");
    if (a.side_size && std::memcmp(a.side.data, b.side.data, a.side_size) != 0) differ("side");
    std::size_t below = rows;
    if (a.type.kind == mmflow::Kind::kList) {
        std::int32_t last = 0;
        if (rows) std::memcpy(&last, a.values.data + rows * 4, 4);
        below = static_cast<std::size_t>(last);
    }
    for (std::size_t i = 0; i < a.type.child_count; ++i) same(a.children[i], b.children[i], below);
}

// One way's result.
struct Decoded {
    mmflow::RecordsResult result;
    std::vector<mmflow::Column> columns;
    mmflow::Bytes offsets;

    explicit Decoded(const std::vector<mmflow::Target>& targets) : columns(targets.size()) {
        for (std::size_t i = 0; i < targets.size(); ++i) {
            if (!columns[i].open(targets[i].type)) std::abort();
        }
    }
    Decoded(const Decoded&) = delete;
    Decoded& operator=(const Decoded&) = delete;
    ~Decoded() {
        for (mmflow::Column& column : columns) column.release();
        offsets.release();
    }

    void same_as(const Decoded& other, bool located) const {
        const auto& a = result;
        const auto& b = other.result;
        if (a.status != b.status || a.consumed != b.consumed || a.records != b.records || a.rows != b.rows ||
            a.lines != b.lines) {
            differ("counts");
        }
        for (std::size_t i = 0; i < columns.size(); ++i) same(columns[i], other.columns[i], a.rows);
        if (located && a.rows && std::memcmp(offsets.data, other.offsets.data, a.rows * 8) != 0) differ("offsets");
    }

    void export_and_drop(const std::uint8_t* data, std::size_t size) {
        int held = 0;
        const mmflow::Owner owner{&held, [](void* o) noexcept { ++*static_cast<int*>(o); },
                                  [](void* o) noexcept { --*static_cast<int*>(o); }};
        ArrowArray* array = mmflow::to_arrow(columns.data(), columns.size(), result.rows, data, size, owner);
        if (array == nullptr) std::abort();
        array->release(array);
        std::free(array);
        if (held != 0) std::abort();
    }
};

// Runs decode(kernels, decoded) on every instruction set, compares, and checks what holds for any input.
template <class Decode>
void on_all(const std::vector<mmflow::Target>& targets, bool located, const std::uint8_t* data, std::size_t size,
            Decode&& decode) {
    std::unique_ptr<Decoded> first;
    for (const mmflow::Kernels* const* k = mmflow::available_kernels(); *k != nullptr; ++k) {
        auto decoded = std::make_unique<Decoded>(targets);
        decoded->result = decode(**k, *decoded);
        const mmflow::RecordsResult& r = decoded->result;
        if (r.consumed > size || r.rows > r.records || r.status == mmflow::Status::kNoMemory) std::abort();
        if (first) {
            decoded->same_as(*first, located);
        } else {
            first = std::move(decoded);
        }
    }
    first->export_and_drop(data, size);
}

}  // namespace fuzzing
