#include "aggregate/known_texts.h"

#include <algorithm>

namespace mmflow {

bool KnownTexts::note(std::string_view text, std::uint32_t group) {
    if (text.size() > KnownTable::kLongest || texts_.size() == kMost) return false;
    if (text.empty()) return true;  // `find` doesn't look for it
    std::uint8_t bytes[KnownTable::kLongest] = {};
    std::copy(text.begin(), text.end(), reinterpret_cast<char*>(bytes));
    texts_.push_back(text.size() > 16 ? KnownTable::text_at<true>(bytes, text.size()) : KnownTable::text_at<false>(bytes, text.size()));
    texts_.back().group = group;
    if (texts_.size() << kSpread <= slots_.size()) {
        put(texts_.size());
        return true;
    }
    bits_ += 2;
    slots_.assign(std::size_t{1} << bits_, 0);
    for (std::size_t number = 1; number <= texts_.size(); ++number) put(number);
    return true;
}

void KnownTexts::put(std::size_t number) noexcept {
    const KnownTable::Text& text = texts_[number - 1];
    std::size_t at = text.size > 16 ? KnownTable::place<true>(text, bits_) : KnownTable::place<false>(text, bits_);
    while (slots_[at] != 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = static_cast<std::uint16_t>(number);
}

}  // namespace mmflow
