// Regular records of odd CSV, written 64 bytes at a time; compiled once for each instruction set.
//
//   lines    the delimiter is that of canonical text: runs of lines are copied, and only short, long and other odd ones
//            are written by themselves
//   fields   values are trimmed, escaped, or delimited by several bytes: each field is written alone
//
// Both stop in front of a record that is not regular, which the cutter (csv/cut.h) reads byte by byte.
#pragma once
#include "simd/blocks.inl.h"
#include "csv/normal.h"

namespace mmflow::MMFLOW_ARCH {
namespace {

constexpr std::size_t kNoPlace = ~std::size_t{0};
// Records of lenient files that are longer may be cut in another way (csv/cut.cpp: kSpan).
constexpr std::size_t kLenientBytes = 1 << 19;

inline bool is_blank(std::uint8_t byte) noexcept { return byte == ' ' || byte == '\t' || byte == 0; }

// Returns the place of the n-th delimiter from `at` on, counted from 0; there are so many.
inline std::size_t nth_delimiter(const std::uint8_t* data, std::size_t size, std::size_t at, std::uint8_t delimiter,
                                 std::size_t n) noexcept {
    for (;; at += 64) {
        std::uint64_t found = load_blank(data + at, size - at).eq(delimiter);
        if (size - at < 64) found &= low_bits(size - at);
        const auto count = static_cast<std::size_t>(__builtin_popcountll(found));
        if (n < count) {
            for (; n > 0; --n) found &= found - 1;
            return at + static_cast<std::size_t>(__builtin_ctzll(found));
        }
        n -= count;
    }
}

// Goes behind comments that begin before `stop`; false: the data ends in one.
inline bool skip_comments(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop,
                          std::size_t& line) noexcept {
    const std::size_t n = spec.comment.size;
    while (n != 0 && line < stop) {
        std::size_t begin = line;
        if (spec.trim) {
            while (begin < size && (data[begin] == ' ' || data[begin] == '\t')) ++begin;
        }
        if (size - begin < n || std::memcmp(data + begin, spec.comment.data, n) != 0) return true;
        const std::size_t end = comment_end(spec, data, size, begin);
        if (end + 1 >= size) return false;
        line = end + 1 + (data[end] == '\r' && data[end + 1] == '\n');
    }
    return true;
}

// Writes whole lines: see above.
class LineWriter {
   public:
    LineWriter(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop, NormalOutput& out,
               NormalTables& tables) noexcept
        : spec_(spec), data_(data), size_(size), stop_(stop), out_(out), tables_(tables) {}

    // Returns false where there is no memory.
    bool write(std::size_t& at) noexcept {
        line_ = run_ = at;
        for (;;) {
            const std::size_t comment = line_;
            const bool ended = skip_comments(spec_, data_, size_, stop_, line_);
            if (line_ != comment) {
                if (!flush(comment)) return false;
                run_ = line_;
            }
            if (!ended || line_ >= stop_ || line_ >= size_ || data_[line_] == 0 || !scan()) break;
        }
        // A carriage return and a line feed are one line end.
        if (spec_.returns && line_ > at && line_ < size_ && data_[line_ - 1] == '\r' && data_[line_] == '\n') {
            run_ += run_ == line_;
            ++line_;
        }
        at = line_;
        return flush(line_) && !no_memory_;
    }

   private:
    // Writes lines up to a comment (true), or to a line that is not regular, or does not fit (false).
    bool scan() noexcept {
        const std::uint8_t delimiter = spec_.delimiter.data[0];
        const auto quote = static_cast<std::uint8_t>(spec_.quote >= 0 ? spec_.quote : spec_.out_quote);
        std::size_t count = 0;       // delimiters of the line so far
        bool quotes = false;         // the line has some
        std::uint64_t inside = 0;    // all ones: the block begins within quotes
        std::uint64_t before = 1;    // the byte before the block ends a field or record
        std::uint64_t closed = 0;    // ... closes quotes
        std::uint64_t returned = 0;  // ... is a carriage return outside of quotes
        for (std::size_t base = line_; base < size_; base += 64) {
            const std::size_t left = size_ - base;
            const Block block = load_blank(data_ + base, left);
            const std::uint64_t valid = low_bits(left);
            const std::uint64_t cr = block.eq('\r');
            std::uint64_t newlines = spec_.returns ? block.eq('\n') | cr : block.eq('\n');
            std::uint64_t outer_cr = spec_.returns ? 0 : cr;
            std::uint64_t delimiters = block.eq(delimiter) & valid;
            std::uint64_t bad = block.eq(kNullText);
            const std::uint64_t q = block.eq(quote);
            if (spec_.quote < 0) {
                bad |= q;
            } else if ((q | inside | closed) != 0) {
                // As in csv/index.inl.h.
                const std::uint64_t in = prefix_xor(q) ^ inside;
                const std::uint64_t opens = q & in, closes = q & ~in;
                inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(in) >> 63);
                newlines &= ~in;
                delimiters &= ~in;
                outer_cr &= ~in;
                const std::uint64_t ends = newlines | delimiters;
                bad |= (opens & ~(ends << 1 | before)) ^ ((closes << 1 | closed) & ~(ends | outer_cr));
                closed = closes >> 63;
            }
            bad |= (outer_cr << 1 | returned) & ~newlines;
            returned = outer_cr >> 63;
            before = (newlines | delimiters) >> 63;
            bad &= valid;
            std::uint64_t done = 0;  // bits of lines that have ended
            while (newlines != 0) {
                const auto bit = static_cast<std::size_t>(__builtin_ctzll(newlines));
                const std::uint64_t line = low_bits(bit + 1) & ~done;
                if ((bad & line) != 0) return false;
                count += static_cast<std::size_t>(__builtin_popcountll(delimiters & line));
                quotes |= (q & line) != 0;
                const std::size_t end = base + bit;
                if (!end_line(end, count, quotes)) return false;
                line_ = end + 1;
                if (line_ >= stop_ || line_ >= size_ || data_[line_] == 0) return false;
                if (spec_.comment.size != 0 && data_[line_] == spec_.comment.data[0]) return true;
                count = 0;
                quotes = false;
                done = low_bits(bit + 1);
                newlines &= newlines - 1;
            }
            if ((bad & ~done) != 0) return false;
            count += static_cast<std::size_t>(__builtin_popcountll(delimiters & ~done));
            quotes |= (q & ~done) != 0;
        }
        return false;
    }

    // Takes the line that ends before a line end; false: it is not regular, or there is no room for it.
    bool end_line(std::size_t end, std::size_t delimiters, bool quotes) noexcept {
        const std::size_t content = end - (end > line_ && data_[end - 1] == '\r');
        if (end - run_ + 2 * spec_.fields + 8 > out_.capacity - out_.size) return false;
        if (content == line_) return true;  // empty lines are no records for the decoder of canonical text either
        if (spec_.lenient && end - line_ > kLenientBytes) return false;
        std::size_t fields = delimiters + 1;
        if (fields == spec_.fields && !spec_.extra && !(quotes && spec_.returns)) [[likely]] {
            ++records_;
            return true;
        }
        if (spec_.lenient && quotes && fields != spec_.fields) return false;
        std::size_t kept = content;
        if (spec_.trailing && delimiters == spec_.fields && data_[content - 1] == spec_.delimiter.data[0]) {
            fields = spec_.fields;
            --kept;
        } else if (fields > spec_.fields) {
            if (!spec_.cut || spec_.extra || quotes) return false;
            kept = nth_delimiter(data_, size_, line_, spec_.delimiter.data[0], spec_.fields - 1);
        } else if (fields < spec_.fields && !spec_.fill) {
            return false;
        }
        // A line without a character would be no record.
        if (kept == line_ && spec_.fields == 1 && !spec_.extra) return false;
        if (!flush(line_)) return false;
        std::uint8_t* to = out_.data + out_.size;
        std::memcpy(to, data_ + line_, kept - line_);
        to += kept - line_;
        for (std::size_t i = fields; i < spec_.fields + spec_.extra; ++i) {
            *to++ = spec_.out_delimiter;
            *to++ = kNullText;
        }
        *to++ = '\n';
        run_ = end + 1;
        no_memory_ = !tables_.add_piece(out_.size, line_, content, false) ||
                     (fields < spec_.fields && !tables_.add_repair(line_, content, out_.records, fields, kFilled, fields)) ||
                     (fields > spec_.fields && !tables_.add_repair(line_, content, out_.records, spec_.fields, kDropped, fields));
        out_.size = static_cast<std::size_t>(to - out_.data);
        ++out_.records;
        return !no_memory_;
    }

    // Copies the lines that are canonical as they are.
    bool flush(std::size_t end) noexcept {
        if (run_ >= end) return true;
        const std::size_t n = end - run_;
        std::uint8_t* to = out_.data + out_.size;
        std::memcpy(to, data_ + run_, n);
        if (spec_.returns) {
            for (std::size_t i = 0; i < n; ++i) to[i] = to[i] == '\r' ? '\n' : to[i];
        }
        if (!tables_.add_piece(out_.size, run_, end, true)) {
            no_memory_ = true;
            return false;
        }
        out_.size += n;
        out_.records += records_;
        records_ = 0;
        run_ = end;
        return true;
    }

    const NormalSpec& spec_;
    const std::uint8_t* data_;
    std::size_t size_, stop_;
    NormalOutput& out_;
    NormalTables& tables_;
    std::size_t line_ = 0;     // where the line begins that is read
    std::size_t run_ = 0;      // where the lines begin that are copied next
    std::size_t records_ = 0;  // of these
    bool no_memory_ = false;
};

// The record that is being written: kept in registers, which members of a class that writes bytes can't be.
struct FieldRecord {
    std::uint8_t* to;                // where its next byte goes
    std::size_t field, skip;         // where its field begins; bytes before `skip` have been looked at
    std::size_t opened, closed;      // the field's quotes
    std::size_t count = 0;           // fields so far
    bool escaped = false;            // the field has escapes
    bool quotes = false;             // the record has some
    bool empty = false;              // the last field is empty, and not quoted

    FieldRecord(std::size_t line, std::uint8_t* out) noexcept : to(out) { begin_field(line); }

    MMFLOW_INLINE void begin_field(std::size_t at) noexcept {
        field = skip = at;
        opened = closed = kNoPlace;
        escaped = false;
    }
};

// Writes field by field: see above.
class FieldWriter {
   public:
    FieldWriter(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop, bool final,
                NormalOutput& out, NormalTables& tables) noexcept
        : spec_(spec), data_(data), size_(size), stop_(stop), final_(final), out_(out), tables_(tables) {}

    // Returns false where there is no memory.
    bool write(std::size_t& at) noexcept {
        line_ = at;
        do {
            if (!skip_comments(spec_, data_, size_, stop_, line_)) break;
        } while (line_ < stop_ && line_ < size_ && data_[line_] != 0 && scan());
        at = line_;
        return !no_memory_;
    }

   private:
    // Writes records up to what may be a comment (true), or to one that is not regular, or does not fit (false).
    bool scan() noexcept {
        const std::uint8_t* const data = data_;
        const std::size_t size = size_, n = spec_.delimiter.size;
        const int quote = spec_.quote, escape = spec_.escape;
        const auto quote_byte = static_cast<std::uint8_t>(quote >= 0 ? quote : spec_.out_quote);
        FieldRecord record(line_, out_.data + out_.size);
        bool inside = false;  // quotes
        for (std::size_t base = line_; base < size; base += 64) {
            const std::size_t left = size - base;
            const std::uint8_t* p = data + base;
            std::uint8_t padded[64 + kLongestDelimiter];
            if (left < sizeof padded) [[unlikely]] {
                std::memset(padded, ' ', sizeof padded);
                std::memcpy(padded, p, left);
                p = padded;
            }
            const Block block = Block::load(p);
            const std::uint64_t valid = low_bits(left);
            const std::uint64_t cr = block.eq('\r');
            const std::uint64_t newlines = (spec_.returns ? block.eq('\n') | cr : block.eq('\n')) & valid;
            std::uint64_t delimiters = block.eq(spec_.delimiter.data[0]) & valid;
            for (std::size_t i = 1; i < n; ++i) delimiters &= Block::load(p + i).eq(spec_.delimiter.data[i]);
            std::uint64_t events = newlines | delimiters | block.eq(quote_byte) | block.eq(kNullText);
            if (!spec_.returns) events |= cr & ~Block::load(p + 1).eq('\n');
            if (escape >= 0) events |= block.eq(static_cast<std::uint8_t>(escape));
            if (n > 1 || spec_.out_delimiter != spec_.delimiter.data[0]) events |= block.eq(spec_.out_delimiter);
            for (events &= valid; events != 0; events &= events - 1) {
                const std::size_t at = base + static_cast<std::size_t>(__builtin_ctzll(events));
                if (at < record.skip) continue;
                const std::uint64_t bit = events & (~events + 1);
                if (inside) {
                    if (data[at] == quote) {
                        if (at + 1 >= size) return false;
                        if (data[at + 1] == quote) {
                            record.skip = at + 2;
                        } else {
                            inside = false;
                            record.closed = at;
                        }
                    } else if (data[at] == escape) {
                        record.skip = at + 2;
                        record.escaped = true;
                    }
                } else if ((delimiters & bit) != 0) {
                    if (!end_field(record, at)) return false;
                    record.begin_field(at + n);
                } else if ((newlines & bit) != 0) {
                    if (!end_record(record, at)) return false;
                    if (line_ >= stop_ || line_ >= size || data[line_] == 0 || may_be_comment()) {
                        return line_ < stop_ && line_ < size && data[line_] != 0;
                    }
                    record = FieldRecord(line_, out_.data + out_.size);
                } else if (data[at] == quote) {
                    if (record.closed != kNoPlace || record.escaped || !only_blanks(record.field, at)) return false;
                    inside = record.quotes = true;
                    record.opened = at;
                } else if (data[at] == escape && record.closed == kNoPlace) {
                    record.skip = at + 2;
                    record.escaped = true;
                } else {
                    return false;
                }
            }
        }
        return false;
    }

    bool may_be_comment() const noexcept {
        return spec_.comment.size != 0 &&
               (data_[line_] == spec_.comment.data[0] || (spec_.trim && (data_[line_] == ' ' || data_[line_] == '\t')));
    }

    // Whether bytes belong to no value: they are blank, and values are trimmed, or there are none.
    bool only_blanks(std::size_t from, std::size_t to) const noexcept {
        if (!spec_.trim) return from == to;
        while (from < to && blank(data_[from])) ++from;
        return from == to;
    }

    MMFLOW_INLINE bool blank(std::uint8_t byte) const noexcept {
        return is_blank(byte) && !(spec_.delimiter.size == 1 && byte == spec_.delimiter.data[0]);
    }

    // Writes the field that ends at an offset; false: it is not regular, or there is no room for it.
    MMFLOW_INLINE bool end_field(FieldRecord& record, std::size_t end) noexcept {
        const auto used = static_cast<std::size_t>(record.to - out_.data);
        std::size_t begin = record.field;
        if (2 * (end - begin + spec_.fields) + 72 > out_.capacity - used) return false;
        const bool quoted = record.closed != kNoPlace;
        if (quoted) {
            if (!only_blanks(record.closed + 1, end)) return false;
            begin = record.opened;
            end = record.closed + 1;
        } else if (spec_.trim) {
            if (record.escaped) return false;
            while (begin < end && blank(data_[begin])) ++begin;
            while (end > begin && blank(data_[end - 1])) --end;
        }
        record.empty = begin == end;
        if (record.count < spec_.fields) {
            std::uint8_t* to = record.to;
            if (record.count != 0) *to++ = spec_.out_delimiter;
            const std::size_t n = end - begin;
            if (record.escaped) [[unlikely]] {
                to = write_escaped(to, begin, end, quoted, record.count == 0);
            } else if (n <= 32 && size_ - begin >= 32) [[likely]] {
                std::memcpy(to, data_ + begin, 32);
                to += n;
            } else {
                std::memcpy(to, data_ + begin, n);
                to += n;
            }
            record.to = to;
        }
        ++record.count;
        return true;
    }

    // Writes a value with escapes in canonical text, which has none; returns the end of what was written.
    [[gnu::noinline]] std::uint8_t* write_escaped(std::uint8_t* start, std::size_t begin, std::size_t end, bool quoted,
                                                  bool first) const noexcept {
        std::uint8_t* out = start + 1;  // behind the quote, if there is one
        bool needed = quoted;
        if (quoted) {
            ++begin;
            --end;
        }
        while (begin < end) {
            const auto* found = static_cast<const std::uint8_t*>(std::memchr(data_ + begin, spec_.escape, end - begin));
            const std::size_t at = found == nullptr ? end : static_cast<std::size_t>(found - data_);
            std::memcpy(out, data_ + begin, at - begin);
            out += at - begin;
            if (at == end) break;
            const std::uint8_t byte = data_[at + 1];
            needed |= byte == spec_.out_delimiter || byte == '\n' || byte == '\r';
            if (byte == spec_.out_quote) {
                needed |= out == start + 1;
                *out++ = byte;
            }
            *out++ = byte;
            begin = at + 2;
        }
        needed |= (out == start + 2 && start[1] == kNullText) || (first && out > start + 1 && start[1] == 0);
        if (needed) {
            *start = spec_.out_quote;
            *out++ = spec_.out_quote;
            return out;
        }
        // A quote in the middle is data, and not doubled.
        const auto n = static_cast<std::size_t>(out - start - 1);
        std::size_t size = 0;
        for (std::size_t i = 0; i < n; ++i) {
            start[size++] = start[i + 1];
            if (start[i + 1] == spec_.out_quote) ++i;
        }
        return start + size;
    }

    // Ends the record at a line end, and goes to the next line; false: it is not regular.
    MMFLOW_INLINE bool end_record(FieldRecord& record, std::size_t at) noexcept {
        std::size_t following = at + 1;
        std::size_t content = at;
        if (data_[at] == '\r') {
            if (following == size_ && !final_) return false;  // a line feed may follow
            following += following < size_ && data_[following] == '\n';
        } else if (at > record.skip && data_[at - 1] == '\r') {
            --content;
        }
        if (!end_field(record, content)) return false;
        if (record.count == 1 && record.empty) {
            line_ = following;
            return true;
        }
        std::size_t fields = record.count;
        if (spec_.trailing && fields == spec_.fields + 1 && record.empty) --fields;
        if (fields < spec_.fields && !spec_.fill) return false;
        if (fields > spec_.fields && (!spec_.cut || spec_.extra)) return false;
        if (spec_.lenient && ((record.quotes && fields != spec_.fields) || at - line_ > kLenientBytes)) return false;
        std::uint8_t* to = record.to;
        // A line without a character would be no record.
        if (spec_.fields == 1 && !spec_.extra && to == out_.data + out_.size) return false;
        for (std::size_t i = fields; i < spec_.fields + spec_.extra; ++i) {
            *to++ = spec_.out_delimiter;
            *to++ = kNullText;
        }
        *to++ = '\n';
        const std::size_t number = out_.records, found = record.count;
        no_memory_ = !tables_.add_piece(out_.size, line_, content, false) ||
                     (fields < spec_.fields && !tables_.add_repair(line_, content, number, fields, kFilled, found)) ||
                     (fields > spec_.fields && !tables_.add_repair(line_, content, number, spec_.fields, kDropped, found));
        out_.size = static_cast<std::size_t>(to - out_.data);
        ++out_.records;
        line_ = following;
        return !no_memory_;
    }

    const NormalSpec& spec_;
    const std::uint8_t* data_;
    std::size_t size_, stop_;
    bool final_;
    NormalOutput& out_;
    NormalTables& tables_;
    std::size_t line_ = 0;  // where the record begins that is read
    bool no_memory_ = false;
};

inline bool write_regular(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop, bool final,
                          std::size_t& at, NormalOutput& out, NormalTables& tables) noexcept {
    if (spec.by_line()) {
        // A line feed may follow.
        const bool cut = spec.returns && !final && data[size - 1] == '\r';
        return LineWriter(spec, data, size - cut, stop, out, tables).write(at);
    }
    return FieldWriter(spec, data, size, stop, final, out, tables).write(at);
}

}  // namespace
}  // namespace mmflow::MMFLOW_ARCH
