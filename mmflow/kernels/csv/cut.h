// One record of odd CSV, cut into fields: `_Cutter` of mmflow/formats/csv/normal.py.
#pragma once
#include <cstring>

#include "csv/normal.h"

namespace mmflow {

// Ways to cut a record.
enum class Mode { kStrict, kInner, kBlanks, kNear };

struct CutField {
    std::size_t at;  // in the data, or in the scratch text
    std::size_t size;
    bool copied;     // in the scratch text
    bool quoted;
};

struct CutRepair {
    std::size_t field;
    int kind;
};

enum class Outcome { kCut, kMore, kUnfit, kNoMemory };

class Cutter {
   public:
    Cutter(const NormalSpec& spec, const std::uint8_t* data, std::size_t size, bool final, NormalScratch& scratch) noexcept
        : spec_(spec), data_(data), size_(size), final_(final), scratch_(scratch) {
        spaces_ = spec.delimiter.size == 0;
        first_ = spaces_ ? 0 : spec.delimiter.data[0];
        single_ = spec.delimiter.size == 1;
        std::memset(stops_, 0, sizeof stops_);
        stops_['\n'] = stops_['\r'] = true;
        if (spaces_) stops_[' '] = stops_['\t'] = true; else stops_[spec.delimiter.data[0]] = true;
        if (spec.escape >= 0) stops_[spec.escape] = true;
    }

    // Cuts the record at an offset. `line`: it ends with its first line, also within quotes. `returns`: a carriage return
    // ends it, too.
    Outcome cut(std::size_t start, Mode mode, bool line, bool returns) noexcept;

    // The same, of a lenient record; of its ways, the one that gives the right number of fields.
    Outcome cut_lenient(std::size_t start) noexcept;

    bool fits() const noexcept {
        return count == spec_.fields || (spec_.trailing && count == spec_.fields + 1 && ends_empty());
    }
    bool ends_empty() const noexcept { return fields()[count - 1].size == 0 && !fields()[count - 1].quoted; }
    bool blank() const noexcept { return count == 1 && ends_empty(); }
    const CutField* fields() const noexcept { return reinterpret_cast<const CutField*>(scratch_.fields.data); }
    const CutRepair* repairs() const noexcept { return reinterpret_cast<const CutRepair*>(scratch_.repairs.data); }
    const std::uint8_t* value(const CutField& field) const noexcept {
        return (field.copied ? scratch_.text.data : data_) + field.at;
    }
    bool is_blank(std::uint8_t byte) const noexcept {
        return (byte == ' ' || byte == '\t' || byte == 0) && !(spec_.delimiter.size == 1 && byte == spec_.delimiter.data[0]);
    }

    std::size_t count = 0;  // fields
    std::size_t repair_count = 0;
    std::size_t end = 0, following = 0;
    int broken = 0;

   private:
    static constexpr int kEnd = -1;
    static constexpr std::size_t kNo = ~std::size_t{0};

    int byte(std::size_t at) noexcept {
        if (at < size_) return data_[at];
        if (!final_) more_ = true;
        return kEnd;
    }
    std::size_t skip_blanks(std::size_t at) const noexcept {
        while (at < size_ && is_blank(data_[at])) ++at;
        return at;
    }
    std::size_t skip_spaces(std::size_t at) const noexcept {
        while (at < size_ && (data_[at] == ' ' || data_[at] == '\t')) ++at;
        return at;
    }
    std::size_t delimiter_size(std::size_t at) noexcept {
        if (single_ && at < size_) [[likely]] return data_[at] == first_;
        return long_delimiter_size(at);
    }
    std::size_t long_delimiter_size(std::size_t at) noexcept;
    std::size_t line_end(std::size_t at) noexcept;  // kNo: none
    bool ends_field(std::size_t at) noexcept;
    bool closes_near(std::size_t at) noexcept;
    void field() noexcept;
    void quoted() noexcept;
    void unquoted() noexcept;
    void repaired(int kind) noexcept;
    // The value that is being read: text of the data from `begin_` on, or a copy where it is not one piece.
    void begin_value() noexcept {
        begin_ = at_;
        copied_ = false;
        copy_ = text_size_;
    }
    void append(std::size_t from, std::size_t n) noexcept;
    void copy_value() noexcept;
    void end_value(bool is_quoted, std::size_t stop, bool trims) noexcept;

    const NormalSpec& spec_;
    const std::uint8_t* data_;
    std::size_t size_;
    bool final_;
    NormalScratch& scratch_;
    bool spaces_ = false, trims_ = false, line_ = false, returns_ = false, more_ = false, unfit_ = false, no_memory_ = false;
    bool single_ = false;        // the delimiter is one byte
    std::uint8_t first_ = 0;     // byte of the delimiter
    bool stops_[256];
    Mode mode_ = Mode::kStrict;
    std::size_t at_ = 0, begin_ = 0, copy_ = 0, text_size_ = 0;
    bool copied_ = false;
};

}  // namespace mmflow
