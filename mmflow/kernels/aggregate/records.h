// Records of groups: the words of their keys, then the states of all accumulators, so that a row touches few cache lines.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "aggregate/words.h"

namespace mmflow {

// States of one accumulator in the records of all groups. Not valid any more once a group was added.
struct States {
    std::uint64_t* first = nullptr;
    std::size_t stride = 0;

    template <class T>
    T& at(std::size_t group) const noexcept {
        static_assert(alignof(T) <= alignof(std::uint64_t));
        return *reinterpret_cast<T*>(first + group * stride);
    }
};

class Records {
   public:
    // first: the words of a new record
    explicit Records(std::vector<std::uint64_t> first) : first_(std::move(first)) {}
    std::size_t size() const noexcept { return count_; }
    std::size_t stride() const noexcept { return first_.size(); }
    std::size_t bytes() const noexcept { return count_ * first_.size() * 8; }
    std::uint64_t* operator[](std::size_t number) noexcept { return words_.get() + number * first_.size(); }
    const std::uint64_t* operator[](std::size_t number) const noexcept { return words_.get() + number * first_.size(); }
    States states(std::size_t place) const noexcept { return {words_.get() + place, first_.size()}; }

    std::uint64_t* add() {
        if (count_ == room_) grow();
        std::uint64_t* const made = words_.get() + count_++ * first_.size();
        std::memcpy(made, first_.data(), first_.size() * 8);
        return made;
    }

   private:
    void grow() {
        const std::size_t room = room_ < 32 ? 32 : room_ * 2;
        Words words = allocate_words(room * first_.size());
        if (count_ != 0) std::memcpy(words.get(), words_.get(), bytes());
        words_ = std::move(words);
        room_ = room;
    }

    std::vector<std::uint64_t> first_;
    Words words_;
    std::size_t count_ = 0, room_ = 0;
};

}  // namespace mmflow
