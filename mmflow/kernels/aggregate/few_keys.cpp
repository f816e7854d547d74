#include "aggregate/few_keys.h"

#include <algorithm>
#include <cstring>

namespace mmflow {

FewKeys::FewKeys(const std::vector<Column>& columns)
    : bits_(std::min(kMostBits, 16 / static_cast<unsigned>(columns.size()))) {
    for (const Column& column : columns) columns_.push_back({column});
    table_.assign(std::size_t{1} << (bits_ * columns.size()), kNone);
}

bool FewKeys::find(const Words* words, std::size_t rows, std::uint32_t* groups) noexcept {
    std::fill_n(codes_, rows, 0u);
    unsigned shift = 0;
    for (const Values& values : columns_) {
        const bool known = values.column.two ? add_codes<true>(values, *words, rows, shift)
                                             : add_codes<false>(values, *words, rows, shift);
        if (!known) return false;
        shift += bits_;
        ++words;
    }
    bool missed = false;
    for (std::size_t i = 0; i < rows; ++i) {
        groups[i] = table_[codes_[i]];
        missed |= groups[i] == kNone;
    }
    return !missed;
}

template <bool kTwo>
bool FewKeys::add_codes(const Values& values, const Words& words, std::size_t rows, unsigned shift) noexcept {
    const Slot* const slots = values.slots.data();
    bool missed = false;
    for (std::size_t i = 0; i < rows; ++i) {
        std::uint64_t low, high = 0;
        std::memcpy(&low, words.first + i * words.stride, 8);
        if (kTwo) std::memcpy(&high, words.first + i * words.stride + 8, 8);
        const Slot& slot = slots[values.place(low, high)];
        missed |= (slot.low != low) | (slot.high != high) | (slot.code == kNone);
        codes_[i] |= (slot.code & ((1u << bits_) - 1)) << shift;
    }
    return !missed;
}

bool FewKeys::note(const std::uint64_t* key, std::uint32_t group) {
    std::size_t place = 0;
    unsigned shift = 0;
    for (Values& values : columns_) {
        const std::uint64_t* const words = key + values.column.place;
        const std::uint32_t code = values.code(words[0], values.column.two ? words[1] : 0, 1u << bits_);
        if (code == kNone) return false;
        place |= static_cast<std::size_t>(code) << shift;
        shift += bits_;
    }
    table_[place] = group;
    return true;
}

// Returns the code of a value, a new one where it is new; kNone: there are too many.
std::uint32_t FewKeys::Values::code(std::uint64_t low, std::uint64_t high, std::uint32_t most) {
    for (;;) {
        Slot& slot = slots[place(low, high)];
        if (slot.code != kNone && slot.low == low && slot.high == high) return slot.code;
        if (slot.code == kNone) {
            if (count == most) return kNone;
            slot = {low, high, count};
            return count++;
        }
        if (!spread()) return kNone;
    }
}

// Spreads the values by another factor, so that two that met in a slot may not; false: none was found.
bool FewKeys::Values::spread() {
    for (int attempt = 0; attempt < 64; ++attempt) {
        factor = factor * 0xd1342543de82ef95ull + 2;  // stays odd
        std::vector<Slot> made(slots.size());
        bool apart = true;
        for (const Slot& slot : slots) {
            if (slot.code == kNone) continue;
            Slot& to = made[place(slot.low, slot.high)];
            apart &= to.code == kNone;
            to = slot;
        }
        if (!apart) continue;
        slots.swap(made);
        return true;
    }
    return false;
}

}  // namespace mmflow
