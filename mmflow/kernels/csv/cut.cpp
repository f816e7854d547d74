#include "csv/cut.h"

namespace mmflow {
namespace {
constexpr std::size_t kSpan = 1 << 20;
}

Outcome Cutter::cut(std::size_t start, Mode mode, bool line, bool returns) noexcept {
    mode_ = mode;
    line_ = line;
    returns_ = returns || spec_.returns;
    trims_ = spec_.trim || mode == Mode::kBlanks;
    count = repair_count = text_size_ = 0;
    broken = 0;
    more_ = unfit_ = no_memory_ = false;
    at_ = spaces_ ? skip_spaces(start) : start;
    for (;;) {
        field();
        if (no_memory_) return Outcome::kNoMemory;
        if (more_) return Outcome::kMore;
        if (unfit_) return Outcome::kUnfit;
        const std::size_t size = delimiter_size(at_);
        at_ += size;
        if (size == 0) break;
    }
    if (spaces_) at_ = skip_spaces(at_);
    end = at_;
    following = line_end(at_);
    if (following == kNo) following = at_;
    return more_ ? Outcome::kMore : Outcome::kCut;
}

Outcome Cutter::cut_lenient(std::size_t start) noexcept {
    const std::size_t size = size_;
    const bool final = final_;
    const bool whole = size - start <= kSpan;
    const auto attempt = [&](Mode mode, bool line, bool returns) {
        size_ = whole ? size : start + kSpan;
        final_ = final && whole;
        Outcome outcome = cut(start, mode, line, returns);
        if (outcome == Outcome::kMore && !whole) outcome = Outcome::kUnfit;
        size_ = size;
        final_ = final;
        return outcome;
    };
    const auto failed = [](Outcome outcome) { return outcome == Outcome::kMore || outcome == Outcome::kNoMemory; };
    Outcome outcome = attempt(Mode::kStrict, false, false);
    if (failed(outcome)) return outcome;
    const bool clean = outcome == Outcome::kCut && broken == 0;
    if (clean) {
        if (fits()) return outcome;
        const std::size_t n = end - start;
        if (std::memchr(data_ + start, '\r', n) == nullptr &&
            (spec_.quote < 0 || std::memchr(data_ + start, spec_.quote, n) == nullptr)) {
            return outcome;
        }
    }
    struct Way {
        Mode mode;
        bool line;
    };
    constexpr Way kWays[] = {{Mode::kInner, true}, {Mode::kBlanks, true}, {Mode::kStrict, true}, {Mode::kNear, true},
                             {Mode::kInner, false}};
    int kept = -1;
    for (int i = 0; i < 5; ++i) {
        outcome = attempt(kWays[i].mode, kWays[i].line, false);
        if (failed(outcome)) return outcome;
        if (outcome != Outcome::kCut || broken == 2) continue;
        const bool blanks = kWays[i].mode == Mode::kBlanks;
        if (fits() && !(blanks && broken != 0)) return outcome;
        if (i < 3 && !blanks && kept < 0) kept = i;
    }
    outcome = attempt(Mode::kStrict, true, true);
    if (failed(outcome) || (outcome == Outcome::kCut && broken == 0 && fits())) return outcome;
    if (clean) return attempt(Mode::kStrict, false, false);
    if (kept >= 0) return attempt(kWays[kept].mode, true, false);
    return cut(start, Mode::kNear, true, false);
}

void Cutter::field() noexcept {
    const std::size_t opens = trims_ ? skip_blanks(at_) : at_;
    const int first = byte(opens);
    if (more_) return;
    if (first == spec_.quote && (mode_ != Mode::kNear || closes_near(opens + 1))) {
        if (more_) return;
        if (opens > at_ && !spec_.trim) repaired(kAroundQuote);
        at_ = opens + 1;
        begin_value();
        quoted();
        return;
    }
    if (more_) return;
    if (mode_ == Mode::kNear && byte(at_) == spec_.quote) repaired(kOpenQuote);
    begin_value();
    unquoted();
    end_value(false, at_, spec_.trim);
}

void Cutter::quoted() noexcept {
    std::size_t strays = 0;
    for (;;) {
        if (!line_ && spec_.escape < 0) {
            // Most of a value holds nothing to look at.
            const void* found = at_ < size_ ? std::memchr(data_ + at_, spec_.quote, size_ - at_) : nullptr;
            const std::size_t to = found == nullptr ? size_ : static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - data_);
            if (copied_) append(at_, to - at_);
            at_ = to;
        }
        const int b = byte(at_);
        if (more_) return;
        if (b == kEnd) {
            if (line_) {
                unfit_ = true;
                return;
            }
            broken = 2;
            end_value(true, at_, false);
            return;
        }
        const int next = byte(at_ + 1);
        if (more_) return;
        if (b == spec_.escape) {
            copy_value();
            if (next != kEnd) append(at_ + 1, 1);
            at_ = at_ + 2 < size_ ? at_ + 2 : size_;
        } else if (b == spec_.quote) {
            if (next == spec_.quote) {
                copy_value();
                append(at_, 1);
                at_ += 2;
                if (mode_ == Mode::kInner && strays % 2 && ends_field(at_)) {
                    ++strays;
                    break;
                }
            } else if (mode_ == Mode::kInner && !ends_field(at_ + 1)) {
                if (copied_) append(at_, 1);
                ++strays;
                ++at_;
            } else {
                ++at_;
                break;
            }
            if (more_) return;
        } else if (line_ && (b == '\n' || line_end(at_) != kNo)) {
            unfit_ = true;
            return;
        } else {
            if (copied_) append(at_, 1);
            ++at_;
        }
        if (more_ || no_memory_) return;
    }
    if (more_) return;
    if (strays) repaired(kInnerQuote);
    // A copy that ended with a doubled quote has no closing quote to leave out.
    const std::size_t stop = at_ - 1;
    const bool ends = ends_field(at_);
    if (more_) return;
    if (ends) {
        end_value(true, stop, false);
        if (trims_ && !spaces_) {
            const std::size_t behind = skip_blanks(at_);
            if (behind > at_ && !spec_.trim) {
                // Of this field, which is counted already.
                --count;
                repaired(kAroundQuote);
                ++count;
            }
            at_ = behind;
        }
        return;
    }
    if (broken == 0) broken = 1;
    repaired(kAfterQuote);
    if (!copied_) {
        const std::size_t from = begin_, n = stop - begin_;
        copied_ = true;
        append(from, n);
    }
    unquoted();
    end_value(true, at_, false);
}

void Cutter::unquoted() noexcept {
    for (;;) {
        const std::size_t from = at_;
        const std::uint8_t* p = data_ + at_;
        const std::uint8_t* const stop = data_ + size_;
        while (p < stop && !stops_[*p]) ++p;
        at_ = static_cast<std::size_t>(p - data_);
        if (copied_) append(from, at_ - from);
        const int b = byte(at_);
        if (more_ || no_memory_ || b == kEnd || b == '\n' || (single_ && b == first_)) return;
        if (b == spec_.escape) {
            const int next = byte(at_ + 1);
            if (more_) return;
            copy_value();
            if (next != kEnd) append(at_ + 1, 1);
            at_ = at_ + 2 < size_ ? at_ + 2 : size_;
            continue;
        }
        if (delimiter_size(at_) != 0 || more_) return;
        if (line_end(at_) != kNo || more_) return;
        if (b == '\r') {
            if (broken == 0) broken = 3;
            repaired(kReturn);
        }
        if (copied_) append(at_, 1);
        ++at_;
    }
}

bool Cutter::closes_near(std::size_t at) noexcept {
    for (;;) {
        const int b = byte(at);
        if (b == kEnd) return false;
        if (b == spec_.escape) {
            at += 2;
            continue;
        }
        if (b == spec_.quote) {
            if (byte(at + 1) == spec_.quote) {
                at += 2;
                continue;
            }
            return !more_ && ends_field(at + 1);
        }
        const std::size_t size = delimiter_size(at);
        if (more_ || (size != 0 && byte(at + size) == spec_.quote) || more_ || line_end(at) != kNo) return false;
        ++at;
    }
}

bool Cutter::ends_field(std::size_t at) noexcept {
    if (trims_) at = skip_blanks(at);
    if (byte(at) == kEnd) return !more_;
    return delimiter_size(at) != 0 || line_end(at) != kNo;
}

std::size_t Cutter::long_delimiter_size(std::size_t at) noexcept {
    if (!spaces_) {
        const std::size_t n = spec_.delimiter.size, left = size_ > at ? size_ - at : 0;
        if (left < n) {
            if (!final_ && (left == 0 || std::memcmp(data_ + at, spec_.delimiter.data, left) == 0)) more_ = true;
            return 0;
        }
        return data_[at] == first_ && std::memcmp(data_ + at, spec_.delimiter.data, n) == 0 ? n : 0;
    }
    const std::size_t behind = skip_spaces(at);
    if (behind == at || byte(behind) == kEnd || line_end(behind) != kNo || more_) return 0;
    return behind - at;
}

std::size_t Cutter::line_end(std::size_t at) noexcept {
    if (spaces_) at = skip_spaces(at);
    const int b = byte(at);
    if (b == kEnd) return at;
    if (b == '\n') return at + 1;
    if (b != '\r') return kNo;
    int next = byte(at + 1);
    if (next == kEnd || next == '\n') return at + 2 < size_ ? at + 2 : size_;
    if (returns_) return at + 1;
    if (spec_.lenient) {
        std::size_t behind = at;
        while (behind < size_ && data_[behind] == '\r') ++behind;
        next = byte(behind);
        if (next == kEnd || next == '\n') return behind + 1 < size_ ? behind + 1 : size_;
    }
    return kNo;
}

void Cutter::repaired(int kind) noexcept {
    for (std::size_t i = repair_count; i-- > 0 && repairs()[i].field == count;) {
        if (repairs()[i].kind == kind) return;
    }
    if (!scratch_.repairs.reserve((repair_count + 1) * sizeof(CutRepair))) {
        no_memory_ = true;
        return;
    }
    reinterpret_cast<CutRepair*>(scratch_.repairs.data)[repair_count++] = {count, kind};
}

void Cutter::append(std::size_t from, std::size_t n) noexcept {
    if (n == 0) return;
    if (!scratch_.text.reserve(text_size_ + n)) {
        no_memory_ = true;
        return;
    }
    std::memcpy(scratch_.text.data + text_size_, data_ + from, n);
    text_size_ += n;
}

// Copies the value so far.
void Cutter::copy_value() noexcept {
    if (copied_) return;
    copied_ = true;
    append(begin_, at_ - begin_);
}

void Cutter::end_value(bool is_quoted, std::size_t stop, bool trims) noexcept {
    CutField made{};
    made.quoted = is_quoted;
    made.copied = copied_;
    made.at = copied_ ? copy_ : begin_;
    made.size = copied_ ? text_size_ - copy_ : stop - begin_;
    if (trims) {
        const std::uint8_t* text = value(made);
        std::size_t from = 0;
        while (from < made.size && is_blank(text[from])) ++from;
        while (made.size > from && is_blank(text[made.size - 1])) --made.size;
        made.at += from;
        made.size -= from;
    }
    if (!scratch_.fields.reserve((count + 1) * sizeof(CutField))) {
        no_memory_ = true;
        return;
    }
    reinterpret_cast<CutField*>(scratch_.fields.data)[count++] = made;
}

}  // namespace mmflow
