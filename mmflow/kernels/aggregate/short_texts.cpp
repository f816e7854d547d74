#include "aggregate/short_texts.h"

#include <algorithm>

namespace mmflow {
namespace {

inline std::uint64_t load(std::uintptr_t address) noexcept {
    std::uint64_t word;
    std::memcpy(&word, reinterpret_cast<const void*>(address), 8);
    return word;
}

}  // namespace

// Returns the text of a view. Of longer ones than kLongest, the words are not all.
inline ShortTexts::Text ShortTexts::seen(const std::uint8_t* view, const std::uint8_t* const* data) noexcept {
    std::uint64_t words[2];
    std::memcpy(words, view, 16);
    const auto size = static_cast<std::uint32_t>(words[0]);
    // All ones where the bytes are elsewhere.
    const std::uint64_t elsewhere = ~std::uint64_t{0} + static_cast<std::uint64_t>(size <= 12);
    const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(data[static_cast<std::uint32_t>(words[1]) & elsewhere]) +
                              (words[1] >> 32);
    const std::uintptr_t begin = (at & elsewhere) | (reinterpret_cast<std::uintptr_t>(view) & ~elsewhere);
    const std::uint64_t n = (size & elsewhere) | (16 & ~elsewhere);
    return {{load(begin), load(begin + std::min<std::uint64_t>(n - 8, 8)), load(begin + n - 8)}, size, 0};
}

inline std::size_t ShortTexts::place(const Text& text, unsigned bits) noexcept {
    // The upper bits of a product depend on all bits; its folding mixes those once more.
    const std::uint64_t sum = text.words[0] * 0x9e3779b97f4a7c15ull + text.words[1] * 0xa0761d6478bd642full +
                              text.words[2] * 0xe7037ed1a0b428daull;
    return ((sum ^ sum >> 32) * 0xd1342543de82ef95ull) >> (64 - bits);
}

bool ShortTexts::find(const ArrayView& column, std::size_t rows, std::uint32_t* groups) const noexcept {
    // Copies: the groups may alias anything.
    const std::uint8_t* const views = column.values + column.offset * 16;
    const std::uint8_t* const* const data = column.data;
    const std::uint16_t* const slots = table_.slots.data();
    const Text* const texts = table_.texts.data();
    const std::size_t mask = table_.slots.size() - 1;
    const unsigned bits = table_.bits;
    for (std::size_t i = 0; i < rows; ++i) {
        const Text text = seen(views + i * 16, data);
        if (text.size > kLongest) return false;
        for (std::size_t at = place(text, bits);; at = (at + 1) & mask) {
            if (slots[at] == 0) return false;
            const Text& known = texts[slots[at] - 1];
            const std::uint64_t differs = (known.words[0] ^ text.words[0]) | (known.words[1] ^ text.words[1]) |
                                          (known.words[2] ^ text.words[2]) | (known.size ^ text.size);
            groups[i] = known.group;
            if (differs == 0) break;
        }
    }
    return true;
}

bool ShortTexts::note(std::string_view text, std::uint32_t group) {
    if (text.size() > kLongest || table_.texts.size() == table_.kMost) return false;
    std::uint32_t view[4] = {static_cast<std::uint32_t>(text.size())};
    const auto* const data = reinterpret_cast<const std::uint8_t*>(text.data());
    if (text.size() <= 12) std::copy(text.begin(), text.end(), reinterpret_cast<char*>(view + 1));
    Text noted = seen(reinterpret_cast<const std::uint8_t*>(view), &data);
    noted.group = group;
    table_.add(noted, place);
    return true;
}

}  // namespace mmflow
