// Text in expressions: comparison by bytes, and LIKE.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/column.h"
#include "common/find.h"

namespace mmflow::program {

inline bool same_text(Text a, Text b) noexcept {
    return a.size == b.size && (a.size == 0 || std::memcmp(a.data, b.data, a.size) == 0);
}

inline bool text_before(Text a, Text b) noexcept {
    const std::size_t shared = std::min(a.size, b.size);
    const int order = shared ? std::memcmp(a.data, b.data, shared) : 0;
    return order < 0 || (order == 0 && a.size < b.size);
}

// Pattern of LIKE as tokens: 'c' int32 length, bytes: these bytes; '_': one character; '%': any text.
class LikePattern {
   public:
    explicit LikePattern(const std::string& tokens) {
        for (std::size_t at = 0; at < tokens.size();) {
            const char kind = tokens[at++];
            if (kind != 'c') {
                if (kind == '%' && !parts_.empty() && parts_.back().kind == '%') continue;
                parts_.push_back({kind, {}});
                continue;
            }
            std::int32_t size = 0;
            std::memcpy(&size, tokens.data() + at, 4);
            parts_.push_back({'c', tokens.substr(at + 4, static_cast<std::size_t>(size))});
            at += 4 + static_cast<std::size_t>(size);
        }
        simple_ = std::none_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.kind == '_'; });
    }

    // Text is valid UTF-8.
    bool matches(Text text) const noexcept { return simple_ ? matches_simple(text) : matches_from(text, 0); }

   private:
    struct Part {
        char kind;
        std::string bytes;
    };

    static bool starts(Text text, const std::string& with) noexcept {
        return text.size >= with.size() && std::memcmp(text.data, with.data(), with.size()) == 0;
    }

    // Without '_', the leftmost place of each part between two '%' is the best one.
    bool matches_simple(Text text) const noexcept {
        std::size_t first = 0, last = parts_.size();
        if (last == 0) return text.size == 0;
        if (parts_[0].kind == 'c') {
            if (!starts(text, parts_[0].bytes)) return false;
            text = {text.data + parts_[0].bytes.size(), text.size - parts_[0].bytes.size()};
            if (last == 1) return text.size == 0;
            first = 1;
        }
        if (last > first && parts_[last - 1].kind == 'c') {
            const std::string& end = parts_[--last].bytes;
            if (text.size < end.size() || std::memcmp(text.data + text.size - end.size(), end.data(), end.size()) != 0) {
                return false;
            }
            text.size -= end.size();
        }
        for (std::size_t i = first; i < last; ++i) {
            if (parts_[i].kind == '%') continue;
            const std::string& part = parts_[i].bytes;
            const std::uint8_t* const found = find_bytes(text, part.data(), part.size());
            if (found == nullptr) return false;
            const auto used = static_cast<std::size_t>(found - text.data) + part.size();
            text = {text.data + used, text.size - used};
        }
        return true;
    }

    static std::size_t character(Text text) noexcept {
        const std::uint8_t first = text.data[0];
        const std::size_t size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        return std::min(size, text.size);
    }

    // Goes on behind the last '%' with one character more wherever a part does not match.
    bool matches_from(Text text, std::size_t part) const noexcept {
        std::size_t again = parts_.size() + 1;
        Text rest{nullptr, 0};
        for (;;) {
            if (part == parts_.size()) {
                if (text.size == 0) return true;
            } else if (parts_[part].kind == '%') {
                again = ++part;
                rest = text;
                if (part == parts_.size()) return true;
                continue;
            } else if (parts_[part].kind == '_') {
                if (text.size != 0) {
                    const std::size_t size = character(text);
                    text = {text.data + size, text.size - size};
                    ++part;
                    continue;
                }
            } else if (starts(text, parts_[part].bytes)) {
                const std::size_t size = parts_[part].bytes.size();
                text = {text.data + size, text.size - size};
                ++part;
                continue;
            }
            if (again > parts_.size() || rest.size == 0) return false;
            const std::size_t size = character(rest);
            rest = {rest.data + size, rest.size - size};
            text = rest;
            part = again;
        }
    }

    std::vector<Part> parts_;
    bool simple_;
};

}  // namespace mmflow::program
