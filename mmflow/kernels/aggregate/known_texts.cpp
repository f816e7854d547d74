#include "aggregate/known_texts.h"

#include <algorithm>

namespace mmflow {

bool KnownTexts::note(std::string_view text, std::uint32_t group) {
    if (text.size() > KnownTable::kLongest || table_.texts.size() == table_.kMost) return false;
    if (text.empty()) return true;  // `find` doesn't look for it
    std::uint8_t bytes[KnownTable::kLongest] = {};
    std::copy(text.begin(), text.end(), reinterpret_cast<char*>(bytes));
    KnownTable::Text noted = text.size() > 16 ? KnownTable::text_at<true>(bytes, text.size()) : KnownTable::text_at<false>(bytes, text.size());
    noted.group = group;
    table_.add(noted, [](const KnownTable::Text& of, unsigned bits) noexcept {
        return of.size > 16 ? KnownTable::place<true>(of, bits) : KnownTable::place<false>(of, bits);
    });
    return true;
}

}  // namespace mmflow
