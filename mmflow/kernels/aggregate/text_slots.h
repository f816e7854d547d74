// A table of few short texts with their groups: a hash table by linear probing, for texts that are kept as words.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mmflow {

// Text: words, size, group.
template <typename Text>
struct TextSlots {
    static constexpr std::size_t kMost = 2048;
    static constexpr unsigned kSpread = 3;  // there are 2^3 times as many slots, or more

    std::vector<Text> texts;
    unsigned bits = 8;  // of the number of a slot
    // Numbers of texts, from 1 on; 0: free. They lie apart from the texts, so that all stay in the first cache.
    std::vector<std::uint16_t> slots = std::vector<std::uint16_t>(std::size_t{1} << bits);

    // Adds a text; `place(text, bits)` is the slot at which it is looked for first.
    template <typename Place>
    void add(const Text& text, Place place) {
        texts.push_back(text);
        if (texts.size() << kSpread <= slots.size()) {
            put(texts.size(), place);
            return;
        }
        bits += 2;
        slots.assign(std::size_t{1} << bits, 0);
        for (std::size_t number = 1; number <= texts.size(); ++number) put(number, place);
    }

    std::size_t bytes() const noexcept { return texts.capacity() * sizeof(texts[0]) + slots.capacity() * sizeof(slots[0]); }

   private:
    template <typename Place>
    void put(std::size_t number, Place place) noexcept {
        std::size_t at = place(texts[number - 1], bits);
        while (slots[at] != 0) at = (at + 1) & (slots.size() - 1);
        slots[at] = static_cast<std::uint16_t>(number);
    }
};

}  // namespace mmflow
