// The kernel of text lines, compiled once for each instruction set.
//
// A pass over blocks of 64 bytes finds line breaks; where only lines with certain bytes are needed, the same pass finds
// places of the first and the last of these bytes (Mula, 2016, "SIMD-friendly algorithms for substring
// searching"), and only their lines are ever cut out.
#include "simd/blocks.inl.h"
#include "lines/lines.h"
#include "common/values.inl.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

struct Lines {
    const LinesSpec& spec;
    const std::uint8_t* data;
    std::size_t size;
    Column* column;
    Bytes& offsets;
    std::size_t rows = 0;

    // Reserves memory for more lines.
    bool reserve(std::size_t more) noexcept {
        return (!spec.returns_lines || column->values.reserve((rows + more) * 16)) &&
               (!spec.located || offsets.reserve((rows + more) * 8));
    }

    // Appends the line [start, end), its "\n" excluded.
    void append(std::size_t start, std::size_t end) noexcept {
        if (end > start && data[end - 1] == '\r') --end;
        if (spec.returns_lines) {
            write_view(column->values.data + rows * 16, data + start, end - start, size - start, 0,
                       static_cast<std::uint32_t>(start));
        }
        if (spec.located) {
            const auto at = static_cast<std::int64_t>(start);
            std::memcpy(offsets.data + rows * 8, &at, 8);
        }
        ++rows;
    }
};

struct LinesIndex {
    std::size_t newlines = 0;
    std::size_t starts = 0;   // of lines, written: the first one, and one behind each newline
    std::size_t hits = 0;     // places of the needle
    bool ascii = true;
    bool nuls = false;        // some line begins with a NUL
};

inline LinesIndex index_lines(const LinesSpec& spec, const std::uint8_t* text, std::size_t length, bool every,
                              std::uint32_t* out) noexcept {
    LinesIndex found;
    const std::size_t needle = spec.needle_size;
    std::uint32_t* to = out;
    if (every) *to++ = 0;
    std::uint64_t broken = 1;  // the byte before the block breaks a line
    Block seen{};              // the bits of all bytes
    std::uint64_t nuls = 0;
    std::size_t newlines = 0;
    for (std::size_t at = 0; at < length; at += 64) {
        read_ahead(text + at);
        const std::size_t left = length - at;
        const Block block = load_blank(text + at, left);
        const std::uint64_t newline = block.eq('\n');
        if (block.has(0)) [[unlikely]] nuls |= (newline << 1 | broken) & block.eq(0);
        broken = newline >> 63;
        seen = seen | block;
        newlines += static_cast<std::size_t>(__builtin_popcountll(newline));
        if (every) {
            to = write_positions(to, newline, static_cast<std::uint32_t>(at) + 1);
        } else if (needle) {
            std::uint64_t maybe = block.eq(spec.needle[0]) & low_bits(left);
            if (left >= 64 + needle) [[likely]] {
                maybe &= Block::load(text + at + needle - 1).eq(spec.needle[needle - 1]);
            }
            for (; maybe; maybe &= maybe - 1) {
                const std::size_t place = at + static_cast<std::size_t>(__builtin_ctzll(maybe));
                if (length - place < needle || std::memcmp(text + place, spec.needle, needle) != 0) continue;
                *to++ = static_cast<std::uint32_t>(place);
                ++found.hits;
            }
        }
    }
    found.starts = every ? static_cast<std::size_t>(to - out) : 0;
    found.newlines = newlines;
    found.ascii = seen.high() == 0;
    found.nuls = nuls != 0;
    return found;
}

// Finds the first line of `text`, which ends with a whole line, that begins with a NUL or is not UTF-8.
inline std::size_t find_fallback_line(const std::uint8_t* text, std::size_t length) noexcept {
    std::size_t at = 0;
    while (at < length) {
        const auto* newline = static_cast<const std::uint8_t*>(std::memchr(text + at, '\n', length - at));
        const std::size_t end = newline == nullptr ? length : static_cast<std::size_t>(newline - text);
        if (text[at] == 0 || !is_utf8(text + at, end - at)) return at;
        at = end + 1;
    }
    return length;
}

inline RecordsResult lines_decode(const LinesSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                                bool final, LinesScratch& scratch, Column* column, Bytes& offsets) noexcept {
    RecordsResult result;
    Lines lines{spec, data, size, column, offsets};
    const std::size_t limit = stop < size ? stop : size;
    const bool every = spec.needle_size == 0 && (spec.returns_lines || spec.located);
    std::size_t at = 0, chunk = kChunk;
    while (at < limit && result.status == Status::kDone &&
           !is_full(spec.most_bytes, column, spec.returns_lines, lines.rows, at)) {
        const std::size_t length = size - at < chunk ? size - at : chunk;
        if (!scratch.places.reserve((length + 32) * 4)) return {Status::kNoMemory};
        auto* places = reinterpret_cast<std::uint32_t*>(scratch.places.data);
        const std::uint8_t* text = data + at;
        const LinesIndex index = index_lines(spec, text, length, every, places);

        // [0, end) is whole lines; at the end of the file, the last of them may have no newline.
        const bool open = final && at + length == size && text[length - 1] != '\n';
        std::size_t end = length;
        if (!open) {
            const void* last = index.newlines ? find_last(text, '\n', length) : nullptr;
            end = last ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(last) - text) + 1 : 0;
        }
        if (limit - at < end) {
            // The line that holds the byte before the stop is the last one that begins before it.
            const std::size_t from = limit - at - 1;
            const void* last = std::memchr(text + from, '\n', end - from);
            if (last) end = static_cast<std::size_t>(static_cast<const std::uint8_t*>(last) - text) + 1;
        }
        if (end == 0) {
            if (text[0] == 0) result.status = Status::kNeedsFallback;
            if (at + length == size || text[0] == 0) break;  // the line continues behind the data
            chunk *= 2;
            continue;
        }
        if (index.nuls || !(index.ascii || is_utf8(text, end))) {
            const std::size_t begin = find_fallback_line(text, end);
            if (begin < end) {
                end = begin;
                result.status = Status::kNeedsFallback;
            }
        }
        const std::size_t newlines = end == length ? index.newlines : count_newlines(text, end);
        const std::size_t count = newlines + (end > 0 && text[end - 1] != '\n');
        if (!lines.reserve(every ? count : index.hits)) return {Status::kNoMemory};
        if (every) {
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t next = i < newlines ? places[i + 1] - 1 : end;
                lines.append(at + places[i], at + next);
            }
        } else {
            std::size_t done_to = 0;  // lines that begin before this are done
            for (std::size_t i = 0; i < index.hits && places[i] < end; ++i) {
                if (places[i] < done_to) continue;
                const void* before = find_last(text, '\n', places[i]);
                const void* after = std::memchr(text + places[i], '\n', end - places[i]);
                const std::size_t start =
                    before ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(before) - text) + 1 : 0;
                const std::size_t stopped =
                    after ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(after) - text) : end;
                lines.append(at + start, at + stopped);
                done_to = stopped;
            }
        }
        if (!spec.needle_size && !every) lines.rows += count;
        result.lines += newlines;
        result.records += count;
        result.rows = lines.rows;
        result.consumed = at += end;
        chunk = kChunk;
    }
    return result;
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
