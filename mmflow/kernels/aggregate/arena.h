// Bytes that are kept at fixed addresses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace mmflow {

class Arena {
   public:
    // Returns a copy that lives as long as the arena.
    const char* keep(std::string_view text) {
        if (text.size() > left_) {
            const std::size_t size = text.size() > block_ ? text.size() : block_;
            blocks_.push_back(std::make_unique<char[]>(size));
            next_ = blocks_.back().get();
            left_ = size;
            bytes_ += size;
            if (block_ < kBlock) block_ *= 2;
        }
        char* kept = next_;
        if (!text.empty()) std::memcpy(kept, text.data(), text.size());
        next_ += text.size();
        left_ -= text.size();
        return kept;
    }

    std::size_t bytes() const noexcept { return bytes_; }

   private:
    static constexpr std::size_t kBlock = 1 << 20;
    std::vector<std::unique_ptr<char[]>> blocks_;
    char* next_ = nullptr;
    std::size_t left_ = 0, bytes_ = 0, block_ = 1 << 12;
};

}  // namespace mmflow
