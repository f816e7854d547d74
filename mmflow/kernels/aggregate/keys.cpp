#include "aggregate/keys.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

namespace mmflow {
namespace {

constexpr std::size_t kNear = 1 << 14;
constexpr std::size_t kMany = 1 << 15;    // slots beyond which a table grows slower
constexpr std::size_t kCached = 1 << 10;  // slots beyond which their groups don't stay in the first cache
constexpr std::uint64_t kSeed = 0x9e3779b97f4a7c15ull;

// Folded product, as in wyhash.
inline std::uint64_t mix(std::uint64_t state, std::uint64_t word) noexcept {
    const u128 product = static_cast<u128>(state ^ word) * 0xa0761d6478bd642full;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^ kSeed;
}

// Hashes a text of more than 12 bytes.
std::uint64_t hash_bytes(const char* text, std::size_t size) noexcept {
    std::uint64_t state = size, word;
    for (std::size_t at = 0; at + 8 < size; at += 8) {
        std::memcpy(&word, text + at, 8);
        state = mix(state, word);
    }
    std::memcpy(&word, text + size - 8, 8);
    return mix(state, word);
}

// Bytes of the two words of a view that a text of up to 12 bytes fills.
constexpr auto kFilled = [] {
    std::array<std::array<std::uint64_t, 2>, 13> made{};
    for (std::size_t size = 0; size < 13; ++size) {
        made[size][0] = size >= 4 ? ~0ull : (1ull << (32 + size * 8)) - 1;
        made[size][1] = size == 12 ? ~0ull : size <= 4 ? 0 : (1ull << ((size - 4) * 8)) - 1;
    }
    return made;
}();

// Writes the words of a text; true: it is long, and its second word the address of its bytes.
bool text_words(const ArrayView& column, std::size_t row, std::uint64_t* words) {
    const std::string_view text = column.bytes(row);
    const std::size_t size = text.size();
    if (size > std::numeric_limits<std::uint32_t>::max()) throw std::length_error("a key of more than 4 GiB");
    char view[16] = {};
    const auto length = static_cast<std::uint32_t>(size);
    std::memcpy(view, &length, 4);
    if (size != 0) std::memcpy(view + 4, text.data(), size <= 12 ? size : 4);
    std::memcpy(words, view, 16);
    if (size <= 12) return false;
    words[1] = reinterpret_cast<std::uintptr_t>(text.data());
    return true;
}

// Compares texts of more than 12 bytes, whose first four are known to be equal.
bool same_bytes(const char* a, const char* b, std::size_t size) noexcept {
    std::uint64_t differs = 0, x, y;
    std::size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        std::memcpy(&x, a + at, 8);
        std::memcpy(&y, b + at, 8);
        differs |= x ^ y;
    }
    std::memcpy(&x, a + size - 8, 8);
    std::memcpy(&y, b + size - 8, 8);
    return (differs | (x ^ y)) == 0;
}

bool is_long(std::uint64_t first) noexcept { return static_cast<std::uint32_t>(first) > 12; }

const char* text_of(std::uint64_t second) noexcept { return reinterpret_cast<const char*>(second); }

// The text of two words of a record.
std::string_view text_of(const std::uint64_t* words) noexcept {
    const char* const begin = is_long(words[0]) ? text_of(words[1]) : reinterpret_cast<const char*>(words) + 4;
    return {begin, static_cast<std::uint32_t>(words[0])};
}

bool two_words(const ArrayType& type) noexcept { return type.text() || type.layout == Layout::kDecimal; }

std::size_t width_of(const std::vector<ArrayType>& types) noexcept {
    std::size_t width = (types.size() + 63) / 64;
    for (const ArrayType& type : types) width += two_words(type) ? 2 : 1;
    return width;
}

std::vector<std::uint64_t> first_record(std::size_t width, const std::vector<std::uint64_t>& state) {
    std::vector<std::uint64_t> made(width);
    made.insert(made.end(), state.begin(), state.end());
    return made;
}

}  // namespace

Keys::Keys(std::vector<ArrayType> types, const std::vector<std::uint64_t>& state)
    : types_(std::move(types)), masks_((types_.size() + 63) / 64), width_(width_of(types_)),
      records_(first_record(width_, state)) {
    std::size_t place = masks_;
    for (const ArrayType& type : types_) {
        if (type.layout == Layout::kFixed) throw std::invalid_argument("no keys of fixed-size binary");
        places_.push_back(place);
        place += two_words(type) ? 2 : 1;
    }
    for (std::size_t w = 0; w < width_; ++w) factors_.push_back(mix(w, kSeed) | 1);
    row_words_.resize(kPiece * width_);
    hashes_.resize(kPiece);
    slots_ = allocate_words(mask_ + 1);
    std::fill_n(slots_.get(), mask_ + 1, kFree);
    if (types_.size() == 1 && types_[0].layout == Layout::kTextView) {
        texts_ = std::make_unique<ShortTexts>();
        known_ = std::make_unique<KnownTexts>();
    } else if (FewKeys::fits(types_.size())) {
        std::vector<FewKeys::Column> columns;
        for (std::size_t i = 0; i < types_.size(); ++i) columns.push_back({places_[i], two_words(types_[i])});
        few_ = std::make_unique<FewKeys>(columns);
    }
    if (types_.empty()) records_.add();  // one group, whatever the rows
}

std::size_t Keys::bytes() const noexcept {
    return records_.bytes() + (mask_ + 1) * 8 + near_.capacity() * 4 + (texts_ ? texts_->bytes() + known_->bytes() : 0) + arena_.bytes();
}

void Keys::fill(const ArrayView& column, std::size_t key, std::size_t rows) {
    const std::size_t place = places_[key], width = width_;
    std::uint64_t* const first = row_words_.data() + place;
    const auto whole = [&]<class T>(T) {
        for (std::size_t i = 0; i < rows; ++i)
            first[i * width] = static_cast<std::uint64_t>(static_cast<std::int64_t>(column.value<T>(i)));
    };
    switch (types_[key].layout) {
        case Layout::kBool:
            for (std::size_t i = 0; i < rows; ++i) first[i * width] = column.bit(i);
            break;
        case Layout::kInt8: whole(std::int8_t{}); break;
        case Layout::kInt16: whole(std::int16_t{}); break;
        case Layout::kInt32: whole(std::int32_t{}); break;
        case Layout::kUInt8: whole(std::uint8_t{}); break;
        case Layout::kUInt16: whole(std::uint16_t{}); break;
        case Layout::kUInt32: whole(std::uint32_t{}); break;
        case Layout::kInt64: case Layout::kUInt64: whole(std::int64_t{}); break;
        case Layout::kFloat32:
            for (std::size_t i = 0; i < rows; ++i) {
                const float value = column.value<float>(i) + 0.0f;
                first[i * width] = std::bit_cast<std::uint32_t>(
                    value != value ? std::numeric_limits<float>::quiet_NaN() : value);
            }
            break;
        case Layout::kFloat64:
            for (std::size_t i = 0; i < rows; ++i) {
                const double value = column.value<double>(i) + 0.0;
                first[i * width] = std::bit_cast<std::uint64_t>(
                    value != value ? std::numeric_limits<double>::quiet_NaN() : value);
            }
            break;
        case Layout::kDecimal:
            for (std::size_t i = 0; i < rows; ++i) {
                const auto value = column.value<u128>(i);
                first[i * width] = static_cast<std::uint64_t>(value);
                first[i * width + 1] = static_cast<std::uint64_t>(value >> 64);
            }
            break;
        case Layout::kTextView: {
            bool any_long = false;
            const std::uint8_t* const views = column.values + column.offset * 16;
            for (std::size_t i = 0; i < rows; ++i) {
                if (column.validity != nullptr && !column.valid(i)) continue;  // it may be anything
                std::uint64_t view[2];
                std::memcpy(view, views + i * 16, 16);
                const auto size = static_cast<std::uint32_t>(view[0]);
                std::uint64_t* const words = first + i * width;
                if (size <= 12) {
                    words[0] = view[0] & kFilled[size][0];
                    words[1] = view[1] & kFilled[size][1];
                } else {
                    any_long |= text_words(column, i, words);
                }
            }
            if (any_long) long_texts_.push_back(place);
            break;
        }
        default: {
            bool any_long = false;
            for (std::size_t i = 0; i < rows; ++i) {
                if (!column.valid(i)) continue;
                any_long |= text_words(column, i, first + i * width);
            }
            if (any_long) long_texts_.push_back(place);
        }
    }
    const bool two = two_words(types_[key]);
    for (std::size_t i = 0; column.validity != nullptr && i < rows; ++i) {
        if (column.valid(i)) continue;
        row_words_[i * width + key / 64] |= 1ull << (key % 64);
        first[i * width] = 0;
        if (two) first[i * width + 1] = 0;
    }
}

// Returns whether rows that differ in the address of a long text alone are equal.
bool Keys::equal(const std::uint64_t* row, const std::uint64_t* kept) const noexcept {
    std::uint64_t differs = 0;
    std::size_t w = 0;
    for (const std::size_t at : long_texts_) {
        for (; w <= at; ++w) differs |= row[w] ^ kept[w];
        if (!is_long(row[at])) continue;
        ++w;
        if (differs != 0 || !same_bytes(text_of(row[at + 1]), text_of(kept[at + 1]), static_cast<std::uint32_t>(row[at])))
            return false;
    }
    for (; w < width_; ++w) differs |= row[w] ^ kept[w];
    return differs == 0;
}

std::uint32_t Keys::add(const std::uint64_t* row, std::uint32_t tag) {
    const std::size_t count = records_.size();
    if (count >= kNone - 1) throw std::length_error("more than 4 billion groups in one task");
    std::uint64_t* const record = records_.add();
    std::memcpy(record, row, width_ * 8);
    if (!long_texts_.empty()) {
        for (std::size_t key = 0; key < types_.size(); ++key) {
            std::uint64_t* const words = record + places_[key];
            if (!types_[key].text() || !is_long(words[0])) continue;
            words[1] = reinterpret_cast<std::uintptr_t>(
                arena_.keep({text_of(words[1]), static_cast<std::uint32_t>(words[0])}));
        }
    }
    put(static_cast<std::uint64_t>(tag) << 32 | count);
    if (records_.size() * 2 > mask_) grow();
    return static_cast<std::uint32_t>(count);
}

void Keys::put(std::uint64_t slot) noexcept {
    std::size_t at = tag_of(slot) & mask_;
    while (slots_[at] != kFree) at = (at + 1) & mask_;
    slots_[at] = slot;
}

void Keys::grow() {
    const std::size_t before = mask_ + 1, size = before * (before < kMany ? 4 : 2);
    Words old = std::exchange(slots_, allocate_words(size));
    mask_ = size - 1;
    std::fill_n(slots_.get(), size, kFree);
    for (std::size_t i = 0; i < before; ++i) {
        if (old[i] != kFree) put(old[i]);
    }
}

template <std::size_t kWidth>
void Keys::look_up(std::size_t rows, std::uint32_t* groups) {
    const std::size_t width = kWidth ? kWidth : width_, stride = records_.stride();
    std::uint64_t* const hashes = hashes_.data();
    const std::uint64_t* const factors = factors_.data();
    const std::uint64_t* const words = row_words_.data();
    for (std::size_t i = 0; i < rows; ++i) {
        // Products of words are independent of each other; the last one mixes high bits into low ones.
        std::uint64_t state = kSeed;
        for (std::size_t w = 0; w < width; ++w) state += words[i * width + w] * factors[w];
        hashes[i] = state;
    }
    for (const std::size_t at : long_texts_) {
        for (std::size_t i = 0; i < rows; ++i) {
            const std::uint64_t* const text = words + i * width + at;
            if (!is_long(text[0])) continue;
            const std::uint64_t hash = hash_bytes(text_of(text[1]), static_cast<std::uint32_t>(text[0]));
            hashes[i] += (hash - text[1]) * factors[at + 1];
        }
    }
    for (std::size_t i = 0; i < rows; ++i) hashes[i] = mix(hashes[i], 0);
    const std::uint64_t* slots = slots_.get();
    std::size_t mask = mask_;
    if (mask >= kCached) {
        for (std::size_t i = 0; i < rows; ++i) __builtin_prefetch(&slots[hashes[i] >> 32 & mask]);
        for (std::size_t i = 0; i < rows; ++i) {
            const std::uint64_t slot = slots[hashes[i] >> 32 & mask];
            if (slot == kFree) continue;
            // The states, too, which are wanted next.
            const std::uint64_t* const record = records_[group_of(slot)];
            for (std::size_t w = 0; w < stride; w += 8) __builtin_prefetch(record + w, 1);
            __builtin_prefetch(record + stride - 1, 1);
        }
    }
    for (std::size_t i = 0; i < rows; ++i) {
        const std::uint64_t* const row = words + i * width;
        const std::uint32_t tag = tag_of(hashes[i]);
        for (std::size_t at = tag & mask;; at = (at + 1) & mask) {
            const std::uint64_t slot = slots[at];
            if (slot == kFree) {
                groups[i] = add(row, tag);
                slots = slots_.get();
                mask = mask_;
                break;
            }
            if (tag_of(slot) != tag) continue;
            const std::uint64_t* const kept = records_[group_of(slot)];
            bool same;
            if (!long_texts_.empty()) {
                same = equal(row, kept);
            } else {
                std::uint64_t differs = 0;
                for (std::size_t w = 0; w < width; ++w) differs |= row[w] ^ kept[w];
                same = differs == 0;
            }
            if (same) {
                groups[i] = group_of(slot);
                break;
            }
        }
    }
}

// Finds the groups of rows of one column of whole numbers that were seen before and lie near each other.
bool Keys::find_near(const ArrayView& column, std::size_t rows, std::uint32_t* groups) const {
    const auto all = [&]<class T>(T) {
        for (std::size_t i = 0; i < rows; ++i) {
            const auto distance = static_cast<std::uint64_t>(column.value<T>(i)) - static_cast<std::uint64_t>(least_);
            if (distance >= kNear || near_[distance] == kNone) return false;
            groups[i] = near_[distance];
        }
        return true;
    };
    if (near_.empty() || column.validity != nullptr) return false;
    switch (column.type->layout) {
        case Layout::kInt8: return all(std::int8_t{});
        case Layout::kInt16: return all(std::int16_t{});
        case Layout::kInt32: return all(std::int32_t{});
        case Layout::kInt64: return all(std::int64_t{});
        case Layout::kUInt8: return all(std::uint8_t{});
        case Layout::kUInt16: return all(std::uint16_t{});
        case Layout::kUInt32: return all(std::uint32_t{});
        case Layout::kUInt64: return all(std::uint64_t{});
        default: return false;
    }
}

// Notes the groups from number `before` on for `find_near`.
void Keys::note_near(std::size_t before) {
    if (near_.empty()) {
        near_.assign(kNear, kNone);
        least_ = static_cast<std::int64_t>(records_[0][1] - kNear / 2);
    }
    for (std::size_t group = before; group < records_.size(); ++group) {
        const std::uint64_t* const words = records_[group];
        const std::uint64_t distance = words[1] - static_cast<std::uint64_t>(least_);
        if (distance < kNear && words[0] == 0) near_[distance] = static_cast<std::uint32_t>(group);
    }
}

void Keys::find(const ArrayView* columns, std::size_t rows, std::uint32_t* groups) {
    if (types_.empty()) {
        std::fill_n(groups, rows, 0u);
        return;
    }
    const bool whole = types_.size() == 1 && types_[0].integer();
    if (rows == 0 || (whole && find_near(columns[0], rows, groups))) return;
    if (texts_ && columns[0].validity == nullptr && texts_->find(columns[0], rows, groups)) return;
    for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t w = 0; w < masks_; ++w) row_words_[i * width_ + w] = 0;
    }
    long_texts_.clear();
    const bool few = few_ && !whole && std::all_of(columns, columns + types_.size(), [](const ArrayView& column) {
        return column.validity == nullptr;
    });
    // Few keys are found by the views of their texts as they are.
    const auto by_views = [&](std::size_t key) { return few && types_[key].layout == Layout::kTextView; };
    for (std::size_t key = 0; key < types_.size(); ++key) {
        if (!by_views(key)) fill(columns[key], key, rows);
    }
    if (few && find_few(columns, rows, groups)) return;
    for (std::size_t key = 0; key < types_.size(); ++key) {
        if (by_views(key)) fill(columns[key], key, rows);
    }
    std::sort(long_texts_.begin(), long_texts_.end());
    const std::size_t before = records_.size();
    switch (width_) {
        case 2: look_up<2>(rows, groups); break;
        case 3: look_up<3>(rows, groups); break;
        case 4: look_up<4>(rows, groups); break;
        case 5: look_up<5>(rows, groups); break;
        default: look_up<0>(rows, groups);
    }
    if (whole) note_near(before);
    else if (texts_) note_texts(before);
    else if (few_) note_few(before);
}

// Finds the groups of rows of few keys that were seen before, whose words are filled in, but for views.
bool Keys::find_few(const ArrayView* columns, std::size_t rows, std::uint32_t* groups) {
    FewKeys::Words words[FewKeys::kMost];
    for (std::size_t key = 0; key < types_.size(); ++key) {
        const ArrayView& column = columns[key];
        if (types_[key].layout == Layout::kTextView) words[key] = {column.values + column.offset * 16, 16};
        else words[key] = {reinterpret_cast<const std::uint8_t*>(row_words_.data() + places_[key]), width_ * 8};
    }
    return few_->find(words, rows, groups);
}

// Notes the groups from number `before` on for `few_`, but those with nulls or long texts.
void Keys::note_few(std::size_t before) {
    for (std::size_t group = before; group < records_.size(); ++group) {
        const std::uint64_t* const words = records_[group];
        bool plain = std::all_of(words, words + masks_, [](std::uint64_t mask) { return mask == 0; });
        for (std::size_t key = 0; key < types_.size(); ++key)
            plain &= !types_[key].text() || !is_long(words[places_[key]]);
        if (plain && !few_->note(words, static_cast<std::uint32_t>(group))) return few_.reset();
    }
}

// Notes the groups from number `before` on for `texts_` and `known_`, but that of nulls.
void Keys::note_texts(std::size_t before) {
    for (std::size_t group = before; group < records_.size(); ++group) {
        const std::uint64_t* const words = records_[group];
        if (words[0] != 0) continue;
        const std::string_view text = text_of(words + places_[0]);
        const auto number = static_cast<std::uint32_t>(group);
        if (texts_->note(text, number) && known_->note(text, number)) continue;
        texts_.reset();
        known_.reset();
        return;
    }
}

void Keys::write(std::size_t column, std::size_t begin, std::size_t end, ArrayMaker& out) const {
    const ArrayType& type = types_[column];
    const auto each = [&](auto&& append) {
        for (std::size_t group = begin; group < end; ++group) {
            const std::uint64_t* const words = records_[group];
            if (words[column / 64] >> (column % 64) & 1) out.append_null();
            else append(words + places_[column]);
        }
    };
    if (type.layout == Layout::kBool) return each([&](const std::uint64_t* value) { out.append_bool(*value != 0); });
    // The lower bytes, on little-endian machines.
    if (!type.text()) return each([&](const std::uint64_t* value) { out.append_bytes(value, type.width); });
    each([&](const std::uint64_t* value) { out.append_text(text_of(value)); });
}

}  // namespace mmflow
