#include "csv/normal.h"

#include "csv/cut.h"

namespace mmflow {
namespace {

constexpr int kWrongCount = 4;

enum class Blanks { kDone, kMore };

// Goes behind the NULs and comments that begin before `stop`.
Blanks skip_blank(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, std::size_t stop, bool final,
                  std::size_t& at) noexcept {
    const std::size_t n = spec.comment.size;
    while (at < stop) {
        if (data[at] == 0) {
            ++at;
            continue;
        }
        if (n == 0) break;
        std::size_t begin = at;
        if (spec.trim || spec.delimiter.size == 0) {
            while (begin < size && (data[begin] == ' ' || data[begin] == '\t')) ++begin;
        }
        const std::size_t left = size - begin;
        if (std::memcmp(data + begin, spec.comment.data, left < n ? left : n) != 0) break;
        if (left < n) {
            if (!final) return Blanks::kMore;
            break;
        }
        std::size_t end = comment_end(spec, data, size, begin);
        if (end == size) {
            if (!final) return Blanks::kMore;
            at = size;
            break;
        }
        if (data[end] == '\r') {
            if (end + 1 == size && !final) return Blanks::kMore;
            if (end + 1 < size && data[end + 1] == '\n') ++end;
        }
        at = end + 1;
    }
    return Blanks::kDone;
}

std::size_t count_lines(const std::uint8_t* data, std::size_t size, bool returns) noexcept {
    std::size_t count = size != 0 && (data[0] == '\n' || (returns && data[0] == '\r'));
    for (std::size_t at = 1; at < size;) {
        // Counts of 64 places, in bytes: they are added before they overflow.
        std::uint8_t counts[64] = {};
        for (int round = 0; round < 255 && size - at >= 64; ++round, at += 64) {
            for (std::size_t i = 0; i < 64; ++i) {
                const bool lf = data[at + i] == '\n', cr = data[at + i] == '\r', behind = data[at + i - 1] == '\r';
                counts[i] = static_cast<std::uint8_t>(counts[i] + (returns ? (lf & !behind) | cr : lf));
            }
        }
        for (const std::uint8_t each : counts) count += each;
        if (size - at >= 64) continue;
        for (; at < size; ++at) count += data[at] == '\n' ? !(returns && data[at - 1] == '\r') : returns && data[at] == '\r';
    }
    return count;
}

// Whether records can be regular (csv/regular.inl.h): the bytes with a meaning can be distinguished one by one.
bool can_be_regular(const NormalSpec& spec) noexcept {
    const Text& delimiter = spec.delimiter;
    if (delimiter.size == 0 || delimiter.size > kLongestDelimiter) return false;
    for (std::size_t i = 0; i < delimiter.size; ++i) {
        const int byte = delimiter.data[i];
        if (byte == spec.quote || byte == spec.escape || byte == '\n' || byte == '\r' || byte == 0) return false;
        if (spec.trim && delimiter.size > 1 && (byte == ' ' || byte == '\t')) return false;
    }
    return spec.quote < 0 || spec.quote == spec.out_quote;
}

// Writes fields of canonical text, where there is room for them.
class Writer {
   public:
    Writer(const NormalSpec& spec, NormalOutput& out) noexcept : spec_(spec), out_(out.data), size_(out.size) {
        foreign_ = spec.delimiter.size != 1 || spec.delimiter.data[0] != spec.out_delimiter || spec.escape >= 0;
    }

    void field(const std::uint8_t* p, std::size_t n, bool quoted, bool first, bool odd) noexcept {
        if (!first) out_[size_++] = spec_.out_delimiter;
        if (!quoted) quoted = needs_quotes(p, n, first, odd);
        if (!quoted) {
            copy(p, n);
            return;
        }
        out_[size_++] = spec_.out_quote;
        if (n == 0 || std::memchr(p, spec_.out_quote, n) == nullptr) {
            copy(p, n);
        } else {
            for (std::size_t i = 0; i < n; ++i) {
                out_[size_++] = p[i];
                if (p[i] == spec_.out_quote) out_[size_++] = p[i];
            }
        }
        out_[size_++] = spec_.out_quote;
    }

    void null(bool first) noexcept {
        if (!first) out_[size_++] = spec_.out_delimiter;
        out_[size_++] = kNullText;
    }

    void end_record() noexcept { out_[size_++] = '\n'; }

   private:
    bool needs_quotes(const std::uint8_t* p, std::size_t n, bool first, bool odd) const noexcept {
        if (n == 0) return false;
        if (p[0] == spec_.out_quote || (n == 1 && p[0] == kNullText) || (first && p[0] == 0)) return true;
        if (!foreign_ && !odd) return false;
        bool found = false;
        for (std::size_t i = 0; i < n; ++i) found |= (p[i] == spec_.out_delimiter) | (p[i] == '\n') | (p[i] == '\r');
        return found;
    }

    // Most values are short, and a call would cost more than the copy.
    void copy(const std::uint8_t* p, std::size_t n) noexcept {
        std::uint8_t* to = out_ + size_;
        size_ += n;
        if (n > 16) {
            std::memcpy(to, p, n);
        } else if (n >= 8) {
            copy_ends<8>(to, p, n);
        } else if (n >= 4) {
            copy_ends<4>(to, p, n);
        } else {
            for (std::size_t i = 0; i < n; ++i) to[i] = p[i];
        }
    }

    // Copies the first and the last bytes, which may overlap.
    template <std::size_t kBytes>
    static void copy_ends(std::uint8_t* to, const std::uint8_t* p, std::size_t n) noexcept {
        std::uint8_t first[kBytes], last[kBytes];
        std::memcpy(first, p, kBytes);
        std::memcpy(last, p + n - kBytes, kBytes);
        std::memcpy(to, first, kBytes);
        std::memcpy(to + n - kBytes, last, kBytes);
    }

    const NormalSpec& spec_;
    std::uint8_t* out_;
    std::size_t& size_;
    bool foreign_;
};

// Appends the surplus fields of a record to the scratch text, as a JSON list of texts; empty ones are null.
bool write_json(const NormalSpec& spec, const Cutter& cutter, Bytes& text, std::size_t& size) noexcept {
    static constexpr char kHex[] = "0123456789abcdef";
    std::size_t room = 2;
    for (std::size_t i = spec.fields; i < cutter.count; ++i) room += 6 * cutter.fields()[i].size + 5;
    if (!text.reserve(room)) return false;
    std::uint8_t* out = text.data;
    size = 0;
    out[size++] = '[';
    for (std::size_t i = spec.fields; i < cutter.count; ++i) {
        const CutField& field = cutter.fields()[i];
        if (i > spec.fields) out[size++] = ',';
        if (field.size == 0 && !field.quoted) {
            std::memcpy(out + size, "null", 4);
            size += 4;
            continue;
        }
        out[size++] = '"';
        const std::uint8_t* p = cutter.value(field);
        for (std::size_t k = 0; k < field.size; ++k) {
            if (p[k] < 0x20) {
                const char escaped[] = {'\\', 'u', '0', '0', kHex[p[k] >> 4], kHex[p[k] & 15]};
                std::memcpy(out + size, escaped, 6);
                size += 6;
                continue;
            }
            if (p[k] == '"' || p[k] == '\\') out[size++] = '\\';
            out[size++] = p[k];
        }
        out[size++] = '"';
    }
    out[size++] = ']';
    return true;
}

}  // namespace

NormalResult normalise(const NormalSpec& spec, WriteRegular write_regular, const std::uint8_t* data, std::size_t size,
                       std::size_t stop, bool final, std::uint8_t* out, std::size_t capacity, NormalScratch& scratch,
                       NormalTables& tables) noexcept {
    NormalResult result;
    const std::size_t limit = stop < size ? stop : size;
    const bool regular = can_be_regular(spec);
    NormalOutput output{out, capacity};
    Writer writer(spec, output);
    Cutter cutter(spec, data, size, final, scratch);
    tables.piece_count = tables.broken_count = tables.repair_count = 0;
    Bytes json;
    std::size_t at = 0;
    std::size_t misses = 0;  // records since the last regular one: where none is regular, few are tried
    const auto failed = [&] {
        json.release();
        result.status = Status::kNoMemory;
        return result;
    };
    while (at < limit && output.size < capacity) {
        if (skip_blank(spec, data, size, limit, final, at) == Blanks::kMore || at >= limit) break;
        if (regular && (misses < 8 || misses % 8 == 0)) {
            const std::size_t begin = at;
            if (!write_regular(spec, data, size, limit, final, at, output, tables)) return failed();
            if (at > begin) {
                misses = 0;
                continue;
            }
        }
        ++misses;
        const Outcome outcome = spec.lenient ? cutter.cut_lenient(at) : cutter.cut(at, Mode::kStrict, false, false);
        if (outcome == Outcome::kNoMemory) return failed();
        if (outcome != Outcome::kCut) break;
        if (cutter.blank()) {
            at = cutter.following;
            continue;
        }
        std::size_t count = cutter.count;
        const bool odd = cutter.broken != 0 || cutter.repair_count != 0;
        int code = spec.lenient ? 0 : cutter.broken;
        if (spec.trailing && count == spec.fields + 1 && cutter.ends_empty()) --count;
        if (code == 0 && ((count < spec.fields && !spec.fill) || (count > spec.fields && !spec.cut))) code = kWrongCount;
        const bool kept = code == 0 || spec.keep_broken;
        std::size_t bound = 0;
        if (kept) {
            const std::size_t shown = count < spec.fields ? count : spec.fields;
            bound = 4 + 2 * spec.fields;
            for (std::size_t i = 0; i < shown; ++i) bound += 2 * cutter.fields()[i].size + 3;
            std::size_t json_size = 0;
            const bool surplus = spec.extra && code == 0 && count > spec.fields;
            if (surplus) {
                cutter.count = count;
                if (!write_json(spec, cutter, json, json_size)) return failed();
                bound += 2 * json_size + 3;
            }
            if (bound > capacity - output.size) {
                if (output.size == 0) result.needed = bound;
                break;
            }
            const std::size_t begin = output.size;
            for (std::size_t i = 0; i < spec.fields; ++i) {
                const bool alone = spec.fields == 1 && !spec.extra;
                if (code != 0 || i >= count) {
                    writer.null(i == 0);
                } else {
                    const CutField& field = cutter.fields()[i];
                    // A line without a character would be no record.
                    if (alone && field.size == 0 && !field.quoted) writer.null(true);
                    else writer.field(cutter.value(field), field.size, field.quoted, i == 0, odd);
                }
            }
            if (spec.extra) {
                if (surplus) writer.field(json.data, json_size, false, false, true);
                else writer.null(false);
            }
            writer.end_record();
            if (!tables.add_piece(begin, at, cutter.end, false)) return failed();
        }
        if (code != 0) {
            if (!tables.add_broken(at, cutter.end, code, cutter.count, output.records)) return failed();
        } else {
            const auto note = [&](std::size_t field, int kind) {
                return tables.add_repair(at, cutter.end, output.records, field, kind, cutter.count);
            };
            for (std::size_t i = 0; i < cutter.repair_count; ++i) {
                if (!note(cutter.repairs()[i].field, cutter.repairs()[i].kind)) return failed();
            }
            if (count < spec.fields && !note(count, kFilled)) return failed();
            if (count > spec.fields && !note(spec.fields, spec.extra ? kKept : kDropped)) return failed();
        }
        ++output.records;
        at = cutter.following;
        if (code != 0 && spec.stop_broken) break;
    }
    json.release();
    result.consumed = at;
    result.size = output.size;
    result.records = output.records;
    result.lines = count_lines(data, at, spec.returns);
    return result;
}

}  // namespace mmflow
