// The walk over JSON documents (json/walk.h), compiled once for each instruction set.
#pragma once
#include "json/walk.h"
#include "ndjson/grammar.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kNowhere = ~std::size_t{0};

inline bool json_space(std::uint8_t c) noexcept { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

inline bool json_mark(std::uint8_t c) noexcept {
    return c == ',' || c == ':' || c == '{' || c == '}' || c == '[' || c == ']' || c == '"';
}

// Which bytes of a block are outside of text, and which inside of it; carries both over to the next block.
struct JsonQuotes {
    std::uint64_t inside = 0, escape = 0;

    void read(const Block& block, std::uint64_t& in, std::uint64_t& outside) noexcept {
        const std::uint64_t quote = block.eq('"') & ~escaped_by(block.eq('\\'), escape);
        in = prefix_xor(quote) ^ inside;
        inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(in) >> 63);
        outside = ~(in | quote);
    }
};

// Counts brackets until the list or object ends.
struct JsonBrackets {
    std::int64_t depth = 0;
    JsonQuotes quotes;
    bool newlines = false;
    std::size_t done = 0;  // bytes of whole blocks

    // Returns the offset behind the bracket that closes; kNowhere where the data ends before: then the state is that of
    // byte `done`.
    std::size_t end(const std::uint8_t* p, std::size_t n) noexcept {
        for (std::size_t at = 0; at < n; at += 64) {
            const std::size_t left = n - at;
            const Block block = load_blank(p + at, left);
            const JsonQuotes before = quotes;
            std::uint64_t in, outside;
            quotes.read(block, in, outside);
            // With bit 5 set, [ is { and ] is }.
            const Block folded = block.with(0x20);
            const std::uint64_t open = folded.eq('{') & outside, close = folded.eq('}') & outside;
            const auto closes = static_cast<std::int64_t>(__builtin_popcountll(close));
            newlines |= block.eq('\n') != 0;
            std::int64_t now = depth;
            if (closes < depth) [[likely]] {
                now += static_cast<std::int64_t>(__builtin_popcountll(open)) - closes;
            } else {
                for (std::uint64_t bits = open | close; bits; bits &= bits - 1) {
                    const std::uint64_t bit = bits & (~bits + 1);
                    now += (open & bit) ? 1 : -1;
                    if (now == 0) return at + lowest_bit(bit) + 1;
                }
            }
            if (left < 64) {
                quotes = before;
                done = at;
                return kNowhere;
            }
            depth = now;
            done = at + 64;
        }
        return kNowhere;
    }
};

// Returns the offset behind the quote that closes the text at p; kNowhere: the data ends before.
inline std::size_t json_text_end(const std::uint8_t* p, std::size_t n) noexcept {
    for (std::size_t i = 1; i < n; ++i) {
        const void* found = std::memchr(p + i, '"', n - i);
        if (found == nullptr) return kNowhere;
        i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - p);
        std::size_t escapes = 0;
        while (p[i - 1 - escapes] == '\\') ++escapes;  // ends at the opening quote
        if (escapes % 2 == 0) return i + 1;
    }
    return kNowhere;
}

// Returns the offset behind a number, true, false, null or nonsense; the data may end there.
inline std::size_t json_scalar_end(const std::uint8_t* p, std::size_t n) noexcept {
    std::size_t i = 0;
    while (i < n && !json_space(p[i]) && !json_mark(p[i])) ++i;
    return i;
}

// Writes a record without its line breaks and the indentation behind them, each as one space; a line break inside of
// text, which JSON does not allow, as another control character. Returns the bytes written, at most n.
inline std::size_t squeeze_record(const std::uint8_t* p, std::size_t n, std::uint8_t* out) noexcept {
    JsonQuotes quotes;
    std::uint8_t* to = out;
    std::size_t from = 0;
    for (std::size_t at = 0; at < n; at += 64) {
        const Block block = load_blank(p + at, n - at);
        std::uint64_t in, outside;
        quotes.read(block, in, outside);
        for (std::uint64_t bits = block.eq('\n'); bits; bits &= bits - 1) {
            const std::size_t place = at + lowest_bit(bits);
            if (place < from) continue;
            std::memcpy(to, p + from, place - from);
            to += place - from;
            from = place + 1;
            if (in & bits & (~bits + 1)) {
                *to++ = 1;
            } else {
                *to++ = ' ';
                while (from < n && json_space(p[from])) ++from;
            }
        }
    }
    std::memcpy(to, p + from, n - from);
    return static_cast<std::size_t>(to - out) + (n - from);
}

// Whether the text at p, quotes included, is a key of the path.
inline bool is_json_key(const std::uint8_t* p, std::size_t n, const Text& key) noexcept {
    const std::uint8_t* inner = p + 1;
    n -= 2;
    if (std::memchr(inner, '\\', n) == nullptr) return n == key.size && std::memcmp(inner, key.data, n) == 0;
    std::uint8_t plain[1024];
    std::size_t written = 0;
    return n <= sizeof plain && escapes_valid(inner, n) && unescape(inner, n, plain, written) && written == key.size &&
           std::memcmp(plain, key.data, written) == 0;
}

struct JsonWalker {
    const JsonStep* steps;
    std::size_t step_count;
    JsonCursor& cursor;
    const std::uint8_t* data;
    std::size_t size, stop;
    JsonWalkOut& out;
    JsonWalked walked;

    JsonWalked fail(JsonProblem problem, std::size_t at) noexcept {
        walked.problem = problem;
        walked.problem_at = at;
        return walked;
    }

    // Notes the record [begin, end) as a line.
    bool emit(std::size_t begin, std::size_t end, bool newlines) noexcept {
        if (out.copies) {
            const std::size_t n = end - begin;
            if (!out.lines.reserve(walked.written + n + 1) || !out.places.reserve((walked.records + 1) * 24)) return false;
            const std::int64_t place[3] = {static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end),
                                           static_cast<std::int64_t>(walked.written)};
            std::memcpy(out.places.data + walked.records * 24, place, 24);
            std::uint8_t* to = out.lines.data + walked.written;
            std::size_t written = n;
            if (newlines) {
                written = squeeze_record(data + begin, n, to);
            } else {
                std::memcpy(to, data + begin, n);
            }
            to[written] = '\n';
            walked.written += written + 1;
        }
        ++walked.records;
        return true;
    }

    // Returns the end of the value at i, which is no bracket of the path; kNowhere: it goes on behind the data.
    std::size_t value_end(std::size_t i, bool final, bool& newlines) const noexcept {
        const std::uint8_t c = data[i];
        std::size_t end;
        if (c == '{' || c == '[') {
            JsonBrackets brackets;
            end = brackets.end(data + i, size - i);
            newlines = brackets.newlines;
        } else if (c == '"') {
            end = json_text_end(data + i, size - i);
            newlines = end != kNowhere && std::memchr(data + i, '\n', end) != nullptr;
        } else {
            newlines = false;
            end = json_scalar_end(data + i, size - i);
            if (i + end == size && !final) return kNowhere;
        }
        return end == kNowhere ? kNowhere : i + end;
    }

    JsonWalked run(bool final) noexcept {
        std::size_t i = 0;
        const auto after = [&] { cursor.phase = JsonPhase::kAfter; };
        const auto leave = [&] {
            --cursor.level;
            after();
        };
        for (;;) {
            if (cursor.phase == JsonPhase::kSkip) {
                JsonBrackets brackets{cursor.depth, {cursor.inside, cursor.escape}};
                const std::size_t end = brackets.end(data + i, size - i);
                if (end == kNowhere) {
                    cursor.depth = brackets.depth;
                    cursor.inside = brackets.quotes.inside;
                    cursor.escape = brackets.quotes.escape;
                    walked.consumed = i + brackets.done;
                    return final ? fail(JsonProblem::kEnds, size) : walked;
                }
                i += end;
                after();
            }
            while (i < size && json_space(data[i])) ++i;
            walked.consumed = i;
            if (i == size) return final && cursor.level > 0 ? fail(JsonProblem::kEnds, size) : walked;
            const std::uint8_t c = data[i];
            const auto level = static_cast<std::size_t>(cursor.level);
            const bool in_list = level > 0 && steps[level - 1].item;
            if (cursor.phase == JsonPhase::kAfter && level > 0) {
                if (c == ',') {
                    cursor.phase = in_list ? JsonPhase::kValue : JsonPhase::kKey;
                    cursor.matched = in_list;
                    cursor.first = false;
                } else if (c == (in_list ? ']' : '}')) {
                    leave();
                } else {
                    return fail(JsonProblem::kUnexpected, i);
                }
                ++i;
                continue;
            }
            if (cursor.phase == JsonPhase::kAfter) {  // of a document: the next one
                cursor.phase = JsonPhase::kValue;
                cursor.matched = true;
            }
            if (cursor.phase == JsonPhase::kKey) {
                if (c == '}' && cursor.first) {
                    ++i;
                    leave();
                    continue;
                }
                if (c != '"') return fail(JsonProblem::kUnexpected, i);
                const std::size_t length = json_text_end(data + i, size - i);
                std::size_t colon = length == kNowhere ? size : i + length;
                while (colon < size && json_space(data[colon])) ++colon;
                if (colon == size) return final ? fail(JsonProblem::kEnds, size) : walked;
                if (data[colon] != ':') return fail(JsonProblem::kUnexpected, colon);
                cursor.matched = is_json_key(data + i, length, steps[level - 1].key);
                cursor.phase = JsonPhase::kValue;
                cursor.first = false;
                i = colon + 1;
                continue;
            }
            if (in_list && c == ']' && cursor.first) {
                ++i;
                leave();
                continue;
            }
            if (c == ',' || c == ':' || c == ']' || c == '}' || c == 0) return fail(JsonProblem::kUnexpected, i);
            const bool record = cursor.matched && level == step_count;
            if (record && i >= stop) {
                walked.at_record = true;
                return walked;
            }
            if (cursor.matched && !record && c == (steps[level].item ? '[' : '{')) {
                ++i;
                ++cursor.level;
                cursor.phase = steps[level].item ? JsonPhase::kValue : JsonPhase::kKey;
                cursor.matched = cursor.first = true;
                continue;
            }
            // Null has no records, and is not wrong.
            if (cursor.matched && !record && c != 'n') return fail(JsonProblem::kNoContainer, i);
            if (!record && (c == '{' || c == '[')) {
                cursor.phase = JsonPhase::kSkip;
                cursor.depth = 0;
                cursor.inside = cursor.escape = 0;
                continue;
            }
            bool newlines = false;
            const std::size_t end = value_end(i, final, newlines);
            if (end == kNowhere) return final ? fail(JsonProblem::kEnds, size) : walked;
            if (record && !emit(i, end, newlines)) return fail(JsonProblem::kNoMemory, i);
            i = end;
            after();
        }
    }
};

inline JsonWalked json_walk(const JsonStep* steps, std::size_t step_count, JsonCursor& cursor, const std::uint8_t* data,
                            std::size_t size, std::size_t stop, bool final, JsonWalkOut& out) noexcept {
    // Mostly all of the data is copied: blocks are found at once.
    if (out.copies && !out.lines.reserve(size + size / 16 + 64)) return {0, false, 0, 0, 0, JsonProblem::kNoMemory, 0};
    JsonWalker walker{steps, step_count, cursor, data, size, stop, out, {}};
    JsonWalked walked = walker.run(final);
    walked.lines = count_newlines(data, walked.consumed);
    return walked;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
