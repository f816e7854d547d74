#include "sort/row_order.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace mmflow {
namespace {

constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
constexpr std::size_t kTextBytes = 7;   // of a word
constexpr std::uint64_t kMore = 8;      // last byte of a word of text that goes on
constexpr std::size_t kFew = 24;        // rows that are sorted by insertion
constexpr std::size_t kSome = 1 << 10;  // rows that are sorted by comparison: histograms would cost more
constexpr unsigned kDigit = 8;          // bits: as many places to write to as caches and page tables have room for

struct Pair {
    std::uint64_t key;
    std::uint32_t row;
    bool operator<(const Pair& other) const noexcept { return key != other.key ? key < other.key : row < other.row; }
};

// Values as unsigned integers of the same order.
template <class T>
std::uint64_t whole_code(T value) noexcept {
    if constexpr (std::is_signed_v<T>) {
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(value)) ^ kSign;
    } else {
        return value;
    }
}

std::uint64_t real_code(std::uint64_t bits, std::uint64_t sign) noexcept {
    return (bits & sign) != 0 ? ~bits & (sign | (sign - 1)) : bits | sign;
}

// Calls `take(row, code)` for each row of fixed width; of decimals with the high or the low half.
template <class Take>
void each_code(const ArrayView& view, std::size_t rows, bool high, Take take) {
    const auto whole = [&]<class T>(T) {
        for (std::size_t row = 0; row < rows; ++row) take(row, whole_code(view.value<T>(row)));
    };
    switch (view.type->layout) {
        case Layout::kBool:
            for (std::size_t row = 0; row < rows; ++row) take(row, std::uint64_t{view.bit(row)});
            return;
        case Layout::kInt8: return whole(std::int8_t{});
        case Layout::kInt16: return whole(std::int16_t{});
        case Layout::kInt32: return whole(std::int32_t{});
        case Layout::kInt64: return whole(std::int64_t{});
        case Layout::kUInt8: return whole(std::uint8_t{});
        case Layout::kUInt16: return whole(std::uint16_t{});
        case Layout::kUInt32: return whole(std::uint32_t{});
        case Layout::kUInt64: return whole(std::uint64_t{});
        case Layout::kFloat32:
            for (std::size_t row = 0; row < rows; ++row)
                take(row, real_code(view.value<std::uint32_t>(row), std::uint64_t{1} << 31));
            return;
        case Layout::kFloat64:
            for (std::size_t row = 0; row < rows; ++row) take(row, real_code(view.value<std::uint64_t>(row), kSign));
            return;
        case Layout::kDecimal: {
            struct Halves {
                std::uint64_t low;
                std::int64_t high;
            };
            for (std::size_t row = 0; row < rows; ++row) {
                const auto halves = view.value<Halves>(row);
                take(row, high ? whole_code(halves.high) : halves.low);
            }
            return;
        }
        default: throw std::invalid_argument("no order is known of Arrow's type " + view.type->format);
    }
}

std::size_t common(std::string_view a, std::string_view b) noexcept {
    const auto most = std::min(a.size(), b.size());
    return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(most), b.begin()).first -
                                    a.begin());
}

// Sorts keys and their rows, both of which are sorted again and again by one more digit.
void radix_sort(std::uint64_t* keys, std::uint32_t* rows, std::size_t count, std::uint64_t varying, std::uint64_t* other_keys,
                std::uint32_t* other_rows) {
    const auto low = static_cast<unsigned>(std::countr_zero(varying));
    const auto high = 64 - static_cast<unsigned>(std::countl_zero(varying));
    const unsigned digits = (high - low + kDigit - 1) / kDigit;
    std::array<std::array<std::uint32_t, 1 << kDigit>, 8> counts{};
    constexpr std::uint64_t mask = (1 << kDigit) - 1;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t key = keys[i] >> low;
        for (unsigned d = 0; d < digits; ++d, key >>= kDigit) ++counts[d][key & mask];
    }
    auto *from_keys = keys, *to_keys = other_keys;
    auto *from_rows = rows, *to_rows = other_rows;
    for (unsigned d = 0; d < digits; ++d) {
        const unsigned shift = low + d * kDigit;
        if (((varying >> shift) & mask) == 0) continue;
        std::uint32_t next = 0;
        for (std::uint32_t& one : counts[d]) next += std::exchange(one, next);
        auto& places = counts[d];
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t key = from_keys[i];
            const std::uint32_t place = places[(key >> shift) & mask]++;
            to_keys[place] = key;
            to_rows[place] = from_rows[i];
        }
        std::swap(from_keys, to_keys);
        std::swap(from_rows, to_rows);
    }
    if (from_keys != keys) {
        std::copy(from_keys, from_keys + count, keys);
        std::copy(from_rows, from_rows + count, rows);
    }
}

}  // namespace

RowOrder::RowOrder(std::vector<ArrayType> types, const std::vector<Direction>& directions,
                   const std::vector<const ArrowArray*>& batches)
    : types_(std::move(types)) {
    if (directions.size() != types_.size()) throw std::invalid_argument("one direction for each key");
    std::size_t rows = 0;
    std::vector<std::vector<ArrayView>> views;  // by batch and column
    for (const ArrowArray* batch : batches) {
        if (static_cast<std::size_t>(batch->n_children) != types_.size()) throw std::invalid_argument("rows of other columns");
        auto& columns = views.emplace_back();
        for (std::size_t c = 0; c < types_.size(); ++c) columns.push_back(view_of(*batch, *batch->children[c], types_[c]));
        lengths_.push_back(static_cast<std::size_t>(batch->length));
        rows += lengths_.back();
    }
    if (rows > std::numeric_limits<std::uint32_t>::max()) throw std::length_error("too many rows for one order");
    order_.resize(rows);
    for (std::size_t row = 0; row < rows; ++row) order_[row] = static_cast<std::uint32_t>(row);
    plan(directions, views);
    fill(views);
    sort();
}

void RowOrder::plan(const std::vector<Direction>& directions, const std::vector<std::vector<ArrayView>>& views) {
    for (std::size_t c = 0; c < types_.size(); ++c) {
        bool nulls = false, values = false;
        const auto each_batch = [&](auto take) {
            for (std::size_t b = 0; b < views.size(); ++b) take(views[b][c], lengths_[b]);
        };
        each_batch([&](const ArrayView& view, std::size_t rows) {
            for (std::size_t row = 0; view.validity != nullptr && !nulls && row < rows; ++row) nulls = !view.valid(row);
        });
        if (nulls) add_piece({c, Piece::Part::kNull, 1, directions[c].nulls_first ? 0u : 1u});
        if (types_[c].text() || types_[c].layout == Layout::kFixed) {
            Segment segment;
            segment.column = c;
            segment.text = true;
            segment.descending = directions[c].descending;
            std::string_view first;
            each_batch([&](const ArrayView& view, std::size_t rows) {
                for (std::size_t row = 0; row < rows; ++row) {
                    if (!view.valid(row)) continue;
                    const std::string_view text = view.bytes(row);
                    segment.prefix = values ? common(first.substr(0, segment.prefix), text) : text.size();
                    if (!std::exchange(values, true)) first = text;
                }
            });
            segments_.push_back(std::move(segment));
            continue;
        }
        for (const bool high : {true, false}) {
            if (high && types_[c].layout != Layout::kDecimal) continue;
            std::uint64_t least = ~std::uint64_t{0}, most = 0;
            each_batch([&](const ArrayView& view, std::size_t rows) {
                each_code(view, rows, high, [&](std::size_t row, std::uint64_t code) {
                    if (nulls && !view.valid(row)) return;
                    least = std::min(least, code);
                    most = std::max(most, code);
                });
            });
            if (least >= most) continue;  // one value, or none
            const auto bits = static_cast<unsigned>(std::bit_width(most - least));
            add_piece({c, high ? Piece::Part::kHigh : Piece::Part::kValue, bits, directions[c].descending ? most : least});
        }
    }
    directions_ = directions;
}

void RowOrder::add_piece(const Piece& piece) {
    if (segments_.empty() || segments_.back().text || segments_.back().bits + piece.bits > 64) segments_.emplace_back();
    segments_.back().pieces.push_back(piece);
    segments_.back().bits += piece.bits;
}

void RowOrder::fill(const std::vector<std::vector<ArrayView>>& views) {
    for (Segment& segment : segments_) {
        if (segment.text) {
            segment.texts.reserve(rows());
        } else {
            segment.words.resize(rows());
        }
        std::size_t begin = 0;
        for (std::size_t b = 0; b < views.size(); begin += lengths_[b++]) {
            if (segment.text) {
                const ArrayView& view = views[b][segment.column];
                for (std::size_t row = 0; row < lengths_[b]; ++row) {
                    segment.texts.push_back(view.valid(row) ? view.bytes(row).substr(segment.prefix) : std::string_view{});
                }
                continue;
            }
            std::uint64_t* words = segment.words.data() + begin;
            for (const Piece& piece : segment.pieces) {
                const ArrayView& view = views[b][piece.column];
                const auto add = [&](std::size_t row, std::uint64_t code) {
                    words[row] = piece.bits == 64 ? code : words[row] << piece.bits | code;
                };
                if (piece.part == Piece::Part::kNull) {
                    for (std::size_t row = 0; row < lengths_[b]; ++row) add(row, view.valid(row) ? 1 - piece.from : piece.from);
                    continue;
                }
                const bool descending = directions_[piece.column].descending;
                each_code(view, lengths_[b], piece.part == Piece::Part::kHigh, [&](std::size_t row, std::uint64_t code) {
                    const std::uint64_t distance = descending ? piece.from - code : code - piece.from;
                    add(row, view.valid(row) ? distance : 0);
                });
            }
        }
    }
}

std::uint64_t RowOrder::word(const Segment& segment, std::size_t level, std::uint32_t row) const noexcept {
    if (!segment.text) return segment.words[row];
    const std::string_view text = segment.texts[row];
    const std::size_t begin = level * kTextBytes;
    const std::size_t left = text.size() - begin;
    std::uint64_t made = 0;
    if (left >= 8) {
        std::memcpy(&made, text.data() + begin, 8);
        made = (__builtin_bswap64(made) & ~std::uint64_t{0xff}) | kMore;
    } else {
        for (std::size_t i = 0; i < left; ++i) made |= std::uint64_t{static_cast<std::uint8_t>(text[begin + i])} << (56 - 8 * i);
        made |= left;
    }
    return segment.descending ? ~made : made;
}

int RowOrder::compare(std::uint32_t row, std::uint32_t other, std::size_t segment, std::size_t level) const noexcept {
    for (; segment < segments_.size(); ++segment, level = 0) {
        const Segment& one = segments_[segment];
        if (!one.text) {
            if (one.words[row] != one.words[other]) return one.words[row] < one.words[other] ? -1 : 1;
            continue;
        }
        const std::size_t begin = level * kTextBytes;
        const int found = one.texts[row].substr(begin).compare(one.texts[other].substr(begin));
        if (found != 0) return one.descending ? -found : found;
    }
    return 0;
}

void RowOrder::sort_few(const Range& range) {
    for (std::size_t i = range.begin + 1; i < range.end; ++i) {
        const std::uint32_t row = order_[i];
        std::size_t place = i;
        for (; place > range.begin && compare(row, order_[place - 1], range.segment, range.level) < 0; --place)
            order_[place] = order_[place - 1];
        order_[place] = row;
    }
}

void RowOrder::sort_words(std::vector<std::uint64_t>& words, std::uint32_t* order, std::size_t count) {
    bool sorted = true;
    std::uint64_t varying = 0;
    for (std::size_t i = 1; i < count; ++i) {
        varying |= words[i] ^ words[0];
        sorted &= words[i - 1] <= words[i];
    }
    if (sorted) return;
    if (count < kSome) {
        std::array<Pair, kSome> pairs;
        for (std::size_t i = 0; i < count; ++i) pairs[i] = {words[i], order[i]};
        std::sort(pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(count));
        for (std::size_t i = 0; i < count; ++i) {
            words[i] = pairs[i].key;
            order[i] = pairs[i].row;
        }
        return;
    }
    if (other_words_.size() < count) {
        other_words_.resize(count);
        other_rows_.resize(count);
    }
    radix_sort(words.data(), order, count, varying, other_words_.data(), other_rows_.data());
}

void RowOrder::sort() {
    std::vector<std::uint64_t> words;
    std::vector<Range> ranges;  // that are still to be sorted: text may have many levels
    const auto push_runs = [&](const Range& range, const std::vector<std::uint64_t>& sorted) {
        const Segment& segment = segments_[range.segment];
        const bool last = range.segment + 1 == segments_.size();
        if (last && !segment.text) return;
        const std::size_t count = range.end - range.begin;
        for (std::size_t begin = 0; begin < count;) {
            std::size_t end = begin + 1;
            while (end < count && sorted[end] == sorted[begin]) ++end;
            const std::uint64_t plain = segment.descending ? ~sorted[begin] : sorted[begin];
            const bool more = segment.text && (plain & 0xff) == kMore;
            if (end - begin > 1 && (more || !last)) {
                ranges.push_back({range.begin + begin, range.begin + end, more ? range.segment : range.segment + 1,
                                  more ? range.level + 1 : 0});
            }
            begin = end;
        }
    };
    if (segments_.empty() || rows() == 0) return;
    const Range all{0, rows(), 0, 0};
    if (segments_[0].text) {
        ranges.push_back(all);
    } else {
        sort_words(segments_[0].words, order_.data(), rows());
        push_runs(all, segments_[0].words);
    }
    while (!ranges.empty()) {
        const Range range = ranges.back();
        ranges.pop_back();
        const std::size_t count = range.end - range.begin;
        if (count <= kFew) {
            sort_few(range);
            continue;
        }
        if (words.size() < count) words.resize(count);
        std::uint32_t* order = order_.data() + range.begin;
        for (std::size_t i = 0; i < count; ++i) words[i] = word(segments_[range.segment], range.level, order[i]);
        sort_words(words, order, count);
        push_runs(range, words);
    }
    other_words_ = {};
    other_rows_ = {};
}

std::vector<std::uint8_t> RowOrder::starts(std::size_t keys) const {
    std::vector<std::uint8_t> made(rows(), 0);
    if (made.empty()) return made;
    for (std::size_t s = 0; s < segments_.size(); ++s) {
        const Segment& segment = segments_[s];
        if (segment.text) {
            if (segment.column >= keys) break;
            for (std::size_t i = 1; i < made.size(); ++i)
                made[i] = made[i] || segment.texts[order_[i]] != segment.texts[order_[i - 1]];
            continue;
        }
        unsigned left = segment.bits;
        for (const Piece& piece : segment.pieces) {
            if (piece.column >= keys) break;
            left -= piece.bits;
        }
        if (left == 64) break;
        if (s == 0) {
            for (std::size_t i = 1; i < made.size(); ++i) made[i] = (segment.words[i] ^ segment.words[i - 1]) >> left != 0;
        } else {
            for (std::size_t i = 1; i < made.size(); ++i)
                made[i] = made[i] || (segment.words[order_[i]] ^ segment.words[order_[i - 1]]) >> left != 0;
        }
        if (left != 0) break;
    }
    made[0] = 1;
    return made;
}

}  // namespace mmflow
