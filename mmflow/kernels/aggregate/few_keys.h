// Groups of keys of few distinct values: each column's values have small codes, which together are a place in a table.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mmflow {

class FewKeys {
   public:
    // Column of a key: the place of its first word, and whether it has two.
    struct Column {
        std::size_t place;
        bool two;
    };

    static constexpr std::size_t kMost = 4;  // columns

    static bool fits(std::size_t columns) noexcept { return columns != 0 && columns <= kMost; }

    explicit FewKeys(const std::vector<Column>& columns);

    // Words of a column's values: where the first begins, and bytes from one to the next.
    struct Words {
        const std::uint8_t* first;
        std::size_t stride;
    };

    // Writes the groups of up to 1024 keys, by the words of each column; false: one is not known. Views of long texts never are.
    bool find(const Words* words, std::size_t rows, std::uint32_t* groups) noexcept;

    // Notes the group of a key, of which no word is an address; false: there are too many values.
    bool note(const std::uint64_t* key, std::uint32_t group);

   private:
    static constexpr std::uint32_t kNone = 0xffffffff;
    static constexpr unsigned kSlotBits = 9, kMostBits = 5;
    struct Slot {
        std::uint64_t low = 0, high = 0;
        std::uint32_t code = kNone;  // kNone: free
    };
    // Values of a column, each in a slot of its own.
    struct Values {
        Column column;
        std::uint64_t factor = 0x9e3779b97f4a7c15ull;
        std::vector<Slot> slots = std::vector<Slot>(1u << kSlotBits);
        std::uint32_t count = 0;

        std::size_t place(std::uint64_t low, std::uint64_t high) const noexcept {
            return ((low ^ high * 0xa0761d6478bd642full) * factor) >> (64 - kSlotBits);
        }
        std::uint32_t code(std::uint64_t low, std::uint64_t high, std::uint32_t most);
        bool spread();
    };

    template <bool kTwo>
    bool add_codes(const Values& values, const Words& words, std::size_t rows, unsigned shift) noexcept;

    std::vector<Values> columns_;
    unsigned bits_;  // of a code
    std::vector<std::uint32_t> table_;
    std::uint32_t codes_[1024];
};

}  // namespace mmflow
