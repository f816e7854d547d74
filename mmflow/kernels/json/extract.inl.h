// Values at a path of texts of JSON (json/extract.h), compiled once for each instruction set.
#pragma once
#include "json/extract.h"
#include "json/walk.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

// Returns the number of items of the list at an entry.
inline std::int64_t json_items(const JsonChunk& chunk, std::size_t e) noexcept {
    if (chunk.at(++e) == ']') return 0;
    for (std::int64_t items = 1;; ++items) {
        e = chunk.skip_value(e);
        if (chunk.at(e++) != ',') return items;
    }
}

// Returns the entry of the value at a path of a valid text; kNowhere: there is none.
inline std::size_t json_value_at(const JsonChunk& chunk, const JsonExtraction& wanted) noexcept {
    std::size_t e = 0;
    for (std::size_t i = 0; i < wanted.step_count; ++i) {
        const JsonValueStep& step = wanted.steps[i];
        if (chunk.at(e) != (step.item ? '[' : '{')) return kNowhere;
        std::size_t found = kNowhere;
        if (step.item) {
            std::int64_t number = step.number < 0 ? step.number + json_items(chunk, e) : step.number;
            if (number < 0 || chunk.at(++e) == ']') return kNowhere;
            for (; number > 0; --number) {
                e = chunk.skip_value(e);
                if (chunk.at(e++) != ',') return kNowhere;
            }
            found = e;
        } else if (chunk.at(++e) != '}') {
            for (;; ++e) {  // of a repeated key the last value counts
                const Text key = chunk.quoted(e);
                if (key.size == step.key.size && std::memcmp(key.data, step.key.data, key.size) == 0) found = e + 2;
                e = chunk.skip_value(e + 2);
                if (chunk.at(e) != ',') break;
            }
        }
        if (found == kNowhere) return kNowhere;
        e = found;
    }
    return e;
}

// Returns the type of the value at an entry as DuckDB names it; null: too long a number for this.
inline const char* json_type_name(const JsonChunk& chunk, std::size_t e) noexcept {
    switch (chunk.at(e)) {
        case '{': return "OBJECT";
        case '[': return "ARRAY";
        case '"': return "VARCHAR";
        case 't': case 'f': return "BOOLEAN";
        case 'n': return "NULL";
        default: break;
    }
    const std::uint8_t* p = chunk.text + chunk.entries[e];
    const std::size_t n = chunk.end(e) - chunk.entries[e];
    for (std::size_t i = 0; i < n; ++i) {
        if (p[i] == '.' || p[i] == 'e' || p[i] == 'E') return "DOUBLE";
    }
    return n > 18 ? nullptr : *p == '-' ? "BIGINT" : "UBIGINT";
}

class JsonExtractor {
   public:
    JsonExtractor(const JsonExtraction& wanted, const JsonTexts& texts, JsonExtracted& out) noexcept
        : wanted_(wanted), texts_(texts), out_(out) {}
    JsonExtractor(const JsonExtractor&) = delete;
    JsonExtractor& operator=(const JsonExtractor&) = delete;
    ~JsonExtractor() {
        copy_.release();
        entries_.release();
    }

    Status run() noexcept {
        const std::size_t width = json_width(wanted_.result), bits = (texts_.count + 7) / 8;
        if (!out_.values.reserve(texts_.count * width + 1) || !out_.validity.reserve(bits + 1)) return Status::kNoMemory;
        std::memset(out_.values.data, 0, texts_.count * width);
        std::memset(out_.validity.data, 0, bits);
        for (row_ = 0; row_ < texts_.count; ++row_) {
            const std::size_t bit = texts_.validity.offset + row_;
            if (texts_.validity.bits != nullptr && !(texts_.validity.bits[bit / 8] >> (bit % 8) & 1)) continue;
            switch (extract(out_.values.data + row_ * width)) {
                case Status::kDone: break;
                case Status::kNoMemory: return Status::kNoMemory;
                case Status::kNeedsFallback:
                    if (!out_.fallback.reserve((out_.fallback_count + 1) * 8)) return Status::kNoMemory;
                    std::memcpy(out_.fallback.data + 8 * out_.fallback_count++, &row_, 8);
            }
        }
        return Status::kDone;
    }

   private:
    void set_valid() noexcept { out_.validity.data[row_ / 8] |= static_cast<std::uint8_t>(1u << (row_ % 8)); }

    Status extract(std::uint8_t* value) noexcept {
        const std::uint8_t* view = texts_.views + 16 * row_;
        std::int32_t parts[4];  // size, prefix, number of the buffer, offset in it
        std::memcpy(parts, view, 16);
        const auto n = static_cast<std::size_t>(parts[0]);
        const std::uint8_t* text = n <= 12 ? view + 4 : texts_.buffers[parts[2]] + parts[3];
        buffer_ = static_cast<std::uint32_t>(parts[2]);
        offset_ = static_cast<std::uint32_t>(parts[3]);
        // As a line: the grammar ends at its line end.
        if (!copy_.reserve(n + 1) || !entries_.reserve((n + 33) * 4)) return Status::kNoMemory;
        moved_ = std::memchr(text, '\n', n) != nullptr;
        std::size_t size = n;
        if (moved_) {
            size = squeeze_record(text, n, copy_.data);
        } else {
            std::memcpy(copy_.data, text, n);
        }
        copy_.data[size++] = '\n';
        auto* entries = reinterpret_cast<std::uint32_t*>(entries_.data);
        const JsonIndex index = index_json(copy_.data, size, entries);
        if (index.fallback_at != kNowhere) return Status::kNeedsFallback;
        const JsonChunk chunk{copy_.data, size, entries, index.escapes};
        const bool nested = chunk.at(0) == '{' || chunk.at(0) == '[';
        const std::size_t end = nested ? chunk.walk(0) : chunk.plain(0) ? 1 : 0;
        if (end == 0 || end + 1 != index.entries) return Status::kNeedsFallback;
        const std::size_t e = json_value_at(chunk, wanted_);
        return e == kNowhere ? Status::kDone : put(chunk, e, value);
    }

    // Writes the result of the value at an entry.
    Status put(const JsonChunk& chunk, std::size_t e, std::uint8_t* value) noexcept {
        switch (wanted_.result) {
            case JsonResult::kExists: break;
            case JsonResult::kLength: {
                const std::int64_t items = chunk.at(e) == '[' ? json_items(chunk, e) : 0;
                std::memcpy(value, &items, 8);
                break;
            }
            case JsonResult::kType: {
                const char* name = json_type_name(chunk, e);
                if (name == nullptr) return Status::kNeedsFallback;
                const std::size_t n = std::strlen(name);
                write_view(value, reinterpret_cast<const std::uint8_t*>(name), n, n, 0, 0);
                break;
            }
            case JsonResult::kString:
                if (chunk.at(e) == 'n') return Status::kDone;
                if (chunk.at(e) == '"') return put_string(chunk.quoted(e), chunk, value);
                [[fallthrough]];
            case JsonResult::kText: return put_text(chunk, e, value);
        }
        set_valid();
        return Status::kDone;
    }

    Status put_text(const JsonChunk& chunk, std::size_t e, std::uint8_t* value) noexcept {
        const std::size_t end = chunk.skip_value(e), n = chunk.tokens_size(e, end), begin = chunk.entries[e];
        if (chunk.end(end - 1) - begin == n) return put_part(chunk, {chunk.text + begin, n}, value);
        if (!reserve_side(n)) return Status::kNeedsFallback;
        chunk.write_tokens(e, end, out_.side.data + out_.side_size);
        return end_side(n, value);
    }

    Status put_string(Text inner, const JsonChunk& chunk, std::uint8_t* value) noexcept {
        if (!chunk.escapes || std::memchr(inner.data, '\\', inner.size) == nullptr) return put_part(chunk, inner, value);
        std::size_t n = 0;
        if (!reserve_side(inner.size) || !unescape(inner.data, inner.size, out_.side.data + out_.side_size, n)) {
            return Status::kNeedsFallback;
        }
        return end_side(n, value);
    }

    // Writes a part of the text as it is.
    Status put_part(const JsonChunk& chunk, Text part, std::uint8_t* value) noexcept {
        const auto begin = static_cast<std::size_t>(part.data - chunk.text);
        if (!moved_ || part.size <= 12) {
            write_view(value, part.data, part.size, chunk.size - begin, buffer_, offset_ + static_cast<std::uint32_t>(begin));
            set_valid();
            return Status::kDone;
        }
        if (!reserve_side(part.size)) return Status::kNeedsFallback;
        std::memcpy(out_.side.data + out_.side_size, part.data, part.size);
        return end_side(part.size, value);
    }

    // Makes room for n bytes beside the texts.
    bool reserve_side(std::size_t n) noexcept {
        return out_.side_size + n <= INT32_MAX && out_.side.reserve(out_.side_size + n + 1);
    }

    // Ends text of n bytes that was written beside the texts, as the value.
    Status end_side(std::size_t n, std::uint8_t* value) noexcept {
        write_view(value, out_.side.data + out_.side_size, n, n, static_cast<std::uint32_t>(texts_.buffer_count),
                   static_cast<std::uint32_t>(out_.side_size));
        out_.side_size += n;
        set_valid();
        return Status::kDone;
    }

    const JsonExtraction& wanted_;
    const JsonTexts& texts_;
    JsonExtracted& out_;
    Bytes copy_, entries_;
    std::size_t row_ = 0;
    // Of the text at hand: its place, and whether its copy has other places.
    std::uint32_t buffer_ = 0, offset_ = 0;
    bool moved_ = false;
};

inline Status json_extract(const JsonExtraction& wanted, const JsonTexts& texts, JsonExtracted& out) noexcept {
    return JsonExtractor(wanted, texts, out).run();
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
