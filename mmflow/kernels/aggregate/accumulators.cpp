#include "aggregate/accumulators.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <type_traits>
#include <vector>

#include "aggregate/exact_sum.h"
#include "aggregate/folds.h"
#include "aggregate/moments.h"
#include "aggregate/rows.h"

namespace mmflow {
namespace {

template <class T>
inline T load(const std::uint8_t* values, std::size_t row) noexcept {
    T made;
    std::memcpy(&made, values + row * sizeof(T), sizeof(T));
    return made;
}

template <class State>
std::vector<std::uint64_t> words_of(const State& state) {
    static_assert(sizeof(State) % 8 == 0);
    std::vector<std::uint64_t> made(sizeof(State) / 8);
    std::memcpy(made.data(), &state, sizeof(State));
    return made;
}

// Base of accumulators whose states are `State` and travel as `Wire`: `Self` has `add(state, value)`, `merge(state, wire)`
// and `append(state, out)`.
template <class Self, class T, class State, class Wire = T>
class ByValue : public Accumulator {
   public:
    std::vector<std::uint64_t> first() const override { return words_of(State{}); }

    void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) override {
        const std::uint8_t* const values = column->values + column->offset * sizeof(T);
        // Copies, which the compiler keeps in registers.
        for_each_row(column, filter, rows.rows, [values, states = rows.states, numbers = rows.numbers](std::size_t row) {
            Self::add(states.at<State>(numbers[row]), load<T>(values, row));
        });
    }

    void merge(const ArrayView& column, const Grouped& rows) override {
        const std::uint8_t* const values = column.values + column.offset * sizeof(Wire);
        for_each_row(&column, nullptr, rows.rows, [values, states = rows.states, numbers = rows.numbers](std::size_t row) {
            Self::merge_one(states.at<State>(numbers[row]), load<Wire>(values, row));
        });
    }

    void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) override {
        for (std::size_t group = begin; group < end; ++group) Self::append(all.states.at<State>(group), out);
    }
};

class Counts final : public Accumulator {
   public:
    std::vector<std::uint64_t> first() const override { return {0}; }

    void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) override {
        if (rows.groups == 1 && filter == nullptr && (column == nullptr || column->validity == nullptr)) {
            rows.states.at<std::int64_t>(0) += static_cast<std::int64_t>(rows.rows);
            return;
        }
        for_each_row(column, filter, rows.rows, [states = rows.states, numbers = rows.numbers](std::size_t row) {
            ++states.at<std::int64_t>(numbers[row]);
        });
    }
    void merge(const ArrayView& column, const Grouped& rows) override {
        for_each_row(&column, nullptr, rows.rows, [&](std::size_t row) {
            rows.states.at<std::int64_t>(rows.numbers[row]) += column.value<std::int64_t>(row);
        });
    }
    void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) override {
        for (std::size_t group = begin; group < end; ++group) out.append(all.states.at<std::int64_t>(group));
    }
    void write(Function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType&,
               ArrayMaker& out) override {
        write_states(all, begin, end, out);
    }
};

template <class T>
class FloatTotals final : public Accumulator {
   public:
    std::vector<std::uint64_t> first() const override { return words_of(FloatSum{}); }

    void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) override {
        const std::uint8_t* const values = column->values + column->offset * sizeof(T);
        const auto value = [&](std::size_t row) { return static_cast<double>(load<T>(values, row)); };
        const auto each = [&](auto&& add) { for_each_row(column, filter, rows.rows, add); };
        const auto sum = [states = rows.states](std::size_t group) -> FloatSum& { return states.at<FloatSum>(group); };
        if (rows.groups == 1) return sums_.add_all(rows.rows, 1, each, value, [](std::size_t) { return 0; }, sum);
        sums_.add_all(rows.rows, rows.groups, each, value, [numbers = rows.numbers](std::size_t row) { return numbers[row]; },
                      sum);
    }
    void merge(const ArrayView& column, const Grouped& rows) override {
        for_each_row(&column, nullptr, rows.rows, [&](std::size_t row) {
            const std::string_view state = column.bytes(row);
            FloatSum& sum = rows.states.at<FloatSum>(rows.numbers[row]);
            if (!sums_.merge(sum, reinterpret_cast<const std::uint8_t*>(state.data()), state.size()))
                throw std::invalid_argument("the state of a sum of floats is damaged");
        });
    }
    void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) override {
        settle(all);
        for (std::size_t group = begin; group < end; ++group) {
            state_.clear();
            sums_.write(all.states.at<FloatSum>(group), state_);
            out.append_text({reinterpret_cast<const char*>(state_.data()), state_.size()});
        }
    }
    void write(Function function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType&,
               ArrayMaker& out) override {
        settle(all);
        for (std::size_t group = begin; group < end; ++group) {
            const FloatSum& sum = all.states.at<FloatSum>(group);
            if (sum.count == 0) out.append_null();
            else out.append(function == Function::kAvg ? sums_.mean(sum) : sums_.total(sum));
        }
    }
    std::size_t bytes() const noexcept override { return sums_.bytes(); }
    FloatSums* float_sums() noexcept override { return &sums_; }

   private:
    void settle(const Grouped& all) {
        sums_.settle([&](std::size_t group) -> FloatSum& { return all.states.at<FloatSum>(group); });
    }

    FloatSums sums_;
    std::vector<std::uint8_t> state_;
};

// Variances and standard deviations.
class Variances final : public Accumulator {
   public:
    std::vector<std::uint64_t> first() const override { return words_of(Moments{}); }

    void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) override {
        for_each_row(column, filter, rows.rows, [&](std::size_t row) {
            sums_.add(rows.states.at<Moments>(rows.numbers[row]), column->value<double>(row));
        });
    }
    void merge(const ArrayView& column, const Grouped& rows) override {
        for_each_row(&column, nullptr, rows.rows, [&](std::size_t row) {
            const std::string_view state = column.bytes(row);
            Moments& moments = rows.states.at<Moments>(rows.numbers[row]);
            if (!sums_.merge(moments, reinterpret_cast<const std::uint8_t*>(state.data()), state.size()))
                throw std::invalid_argument("the state of a variance is damaged");
        });
    }
    void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) override {
        for (std::size_t group = begin; group < end; ++group) {
            state_.clear();
            sums_.write(all.states.at<Moments>(group), state_);
            out.append_text({reinterpret_cast<const char*>(state_.data()), state_.size()});
        }
    }
    void write(Function function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType&,
               ArrayMaker& out) override {
        const bool sample = function == Function::kVar || function == Function::kStddev;
        const bool root = function == Function::kStddev || function == Function::kStddevPop;
        for (std::size_t group = begin; group < end; ++group) {
            const Moments& moments = all.states.at<Moments>(group);
            if (moments.sum.count < (sample ? 2 : 1)) {
                out.append_null();
                continue;
            }
            const double variance = sums_.variance(moments, sample);
            out.append(root ? std::sqrt(variance) : variance);
        }
    }
    std::size_t bytes() const noexcept override { return sums_.bytes(); }

   private:
    MomentSums sums_;
    std::vector<std::uint8_t> state_;
};

// Sums of integers, durations and decimals.
template <class T>
using WholeState = std::conditional_t<sizeof(T) == 16, WholeSum, IntegerSum>;

template <class T>
class WholeTotals final : public ByValue<WholeTotals<T>, T, WholeState<T>, WholeSum> {
   public:
    explicit WholeTotals(int scale) : scale_(scale) {}

    static void add(WholeState<T>& sum, T value) noexcept {
        sum.add(static_cast<i128>(value));
        ++sum.count;
    }
    static void merge_one(WholeState<T>& sum, const WholeSum& state) noexcept { sum.add(state); }
    static void append(const WholeState<T>& sum, ArrayMaker& out) { out.append(wide(sum)); }

    void write(Function function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType& type,
               ArrayMaker& out) override {
        for (std::size_t group = begin; group < end; ++group)
            write_one(function, all.states.at<WholeState<T>>(group), type, out);
    }

   private:
    static const WholeSum& wide(const WholeSum& sum) noexcept { return sum; }
    static WholeSum wide(const IntegerSum& sum) noexcept { return sum.wide(); }

    void write_one(Function function, const WholeState<T>& state, const ArrayType& type, ArrayMaker& out) const {
        if (state.count == 0) return out.append_null();
        const WholeSum sum = wide(state);
        // Most sums are of 63 bits.
        const auto sign = static_cast<std::uint64_t>(static_cast<std::int64_t>(sum.low) >> 63);
        if (function == Function::kSum && type.layout == Layout::kInt64 && sum.high == sign &&
            static_cast<std::uint64_t>(sum.top) == sign)
            return out.append(sum.low);
        std::uint64_t limbs[5] = {};
        std::uint64_t magnitude[3];
        sum.magnitude(magnitude);
        std::copy(magnitude, magnitude + 3, limbs + 2);
        if (type.real()) return out.append(nearest_quotient(limbs, 5, 0, sum.count, sum.negative()));
        std::uint64_t beyond = 0;
        if (function == Function::kAvg) {
            // Towards zero, as DataFusion divides decimals and durations.
            for (int i = scale_; i < type.scale; ++i) beyond |= multiply(limbs + 2, 3, 10);
            divide(limbs + 2, 3, sum.count);
        }
        const u128 value = limbs[2] | static_cast<u128>(limbs[3]) << 64;
        if (beyond != 0 || limbs[4] != 0 || !fits(value, sum.negative(), type)) {
            std::string digits = decimal_digits(magnitude, 3);
            throw TotalOverflow((sum.negative() ? "-" : "") + digits);
        }
        const u128 made = sum.negative() ? -value : value;
        out.append_bytes(&made, type.width);
    }

    static bool fits(u128 magnitude, bool negative, const ArrayType& type) noexcept {
        switch (type.layout) {
            case Layout::kInt64: return magnitude <= static_cast<u128>(std::numeric_limits<std::int64_t>::max()) + negative;
            case Layout::kUInt64: return magnitude <= std::numeric_limits<std::uint64_t>::max();
            default: {
                u128 limit = 1;
                for (int i = 0; i < type.precision; ++i) limit *= 10;
                return magnitude < limit;
            }
        }
    }

    int scale_;
};

// Functions whose state is one value.
template <class T, class Fold>
class Folded final : public ByValue<Folded<T, Fold>, T, Kept<T>> {
   public:
    static void add(Kept<T>& state, T given) noexcept { fold<Fold>(state, given); }
    static void merge_one(Kept<T>& state, T value) noexcept { add(state, value); }
    static void append(const Kept<T>& state, ArrayMaker& out) {
        if (!state.seen) return out.append_null();
        out.append_bytes(state.words, sizeof(T));
    }
    void write(Function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType&,
               ArrayMaker& out) override {
        this->write_states(all, begin, end, out);
    }
};

template <Function kFunction>
struct Bits {
    template <class T>
    static T normal(T value) noexcept { return value; }
    template <class T>
    static T of(T kept, T value) noexcept {
        if constexpr (kFunction == Function::kBitAnd) return static_cast<T>(kept & value);
        if constexpr (kFunction == Function::kBitOr) return static_cast<T>(kept | value);
        return static_cast<T>(kept ^ value);
    }
};

// Base of accumulators of other values, which travel as values: `Self` has `add(column, row, states, group)`.
template <class Self>
class ByRow : public Accumulator {
   public:
    std::vector<std::uint64_t> first() const override { return {0}; }

    void update(const ArrayView* column, const ArrayView* filter, const Grouped& rows) override {
        auto& self = static_cast<Self&>(*this);
        for_each_row(column, filter, rows.rows, [&](std::size_t row) {
            self.add(*column, row, rows.states.at<std::uint64_t>(rows.numbers[row]));
        });
    }
    void merge(const ArrayView& column, const Grouped& rows) override { update(&column, nullptr, rows); }

    void write_states(const Grouped& all, std::size_t begin, std::size_t end, ArrayMaker& out) override {
        for (std::size_t group = begin; group < end; ++group) {
            const std::uint64_t state = all.states.at<std::uint64_t>(group);
            if (state == 0) out.append_null();
            else static_cast<Self&>(*this).append(state, out);
        }
    }
    void write(Function, const Grouped& all, std::size_t begin, std::size_t end, const ArrayType&,
               ArrayMaker& out) override {
        write_states(all, begin, end, out);
    }
};

// min and max of text and binary, by bytes. A state is the number of a text, from 1 on.
template <bool kLeast>
class TextExtremes final : public ByRow<TextExtremes<kLeast>> {
   public:
    void add(const ArrayView& column, std::size_t row, std::uint64_t& state) {
        const std::string_view value = column.bytes(row);
        const bool first = state == 0;
        if (first) {
            texts_.emplace_back();
            state = texts_.size();
        }
        std::string& kept = texts_[state - 1];
        if (!first && !(kLeast ? value < kept : value > kept)) return;
        const std::size_t before = allocated(kept);
        kept.assign(value);
        allocated_ += allocated(kept) - before;
    }
    void append(std::uint64_t state, ArrayMaker& out) const { out.append_text(texts_[state - 1]); }
    std::size_t bytes() const noexcept override { return texts_.size() * sizeof(std::string) + allocated_; }

   private:
    // Bytes outside of a string, with those that the allocator adds.
    static std::size_t allocated(const std::string& text) noexcept {
        return text.capacity() < sizeof(std::string) / 2 ? 0 : text.capacity() + 32;
    }

    std::deque<std::string> texts_;
    std::size_t allocated_ = 0;
};

// bool_and, bool_or, and min and max of booleans, which are the same. A state is 1: false, 2: true, 3: both.
template <bool kAnd>
class Booleans final : public ByRow<Booleans<kAnd>> {
   public:
    void add(const ArrayView& column, std::size_t row, std::uint64_t& state) noexcept { state |= column.bit(row) ? 2 : 1; }
    void append(std::uint64_t state, ArrayMaker& out) const { out.append_bool(kAnd ? state == 2 : state >= 2); }
};

// Calls `make` with a value of the C++ type of a layout; null where it has none.
template <class Make>
std::unique_ptr<Accumulator> for_integer(Layout layout, Make make) {
    switch (layout) {
        case Layout::kInt8: return make(std::int8_t{});
        case Layout::kInt16: return make(std::int16_t{});
        case Layout::kInt32: return make(std::int32_t{});
        case Layout::kInt64: return make(std::int64_t{});
        case Layout::kUInt8: return make(std::uint8_t{});
        case Layout::kUInt16: return make(std::uint16_t{});
        case Layout::kUInt32: return make(std::uint32_t{});
        case Layout::kUInt64: return make(std::uint64_t{});
        default: return nullptr;
    }
}

template <class Make>
std::unique_ptr<Accumulator> for_number(Layout layout, Make make) {
    switch (layout) {
        case Layout::kFloat32: return make(float{});
        case Layout::kFloat64: return make(double{});
        case Layout::kDecimal: return make(i128{});
        default: return for_integer(layout, make);
    }
}

template <bool kLeast>
std::unique_ptr<Accumulator> extremes(const ArrayType& type) {
    if (type.text()) return std::make_unique<TextExtremes<kLeast>>();
    if (type.layout == Layout::kBool) return std::make_unique<Booleans<kLeast>>();
    return for_number(type.layout, [](auto value) -> std::unique_ptr<Accumulator> {
        return std::make_unique<Folded<decltype(value), Extreme<kLeast>>>();
    });
}

template <Function kFunction>
std::unique_ptr<Accumulator> folded_bits(const ArrayType& type) {
    return for_integer(type.layout, [](auto value) { return std::make_unique<Folded<decltype(value), Bits<kFunction>>>(); });
}

std::unique_ptr<Accumulator> totals(const ArrayType& type) {
    if (type.layout == Layout::kFloat32) return std::make_unique<FloatTotals<float>>();
    if (type.layout == Layout::kFloat64) return std::make_unique<FloatTotals<double>>();
    if (type.layout == Layout::kDecimal) return std::make_unique<WholeTotals<i128>>(type.scale);
    return for_integer(type.layout, [](auto value) { return std::make_unique<WholeTotals<decltype(value)>>(0); });
}

}  // namespace

std::unique_ptr<Accumulator> make_accumulator(Function function, const ArrayType* type) {
    std::unique_ptr<Accumulator> made;
    if (function == Function::kCount) {
        made = std::make_unique<Counts>();
    } else if (type != nullptr) {
        switch (function) {
            case Function::kSum: case Function::kAvg: made = totals(*type); break;
            case Function::kVar: case Function::kVarPop: case Function::kStddev: case Function::kStddevPop:
                if (type->layout == Layout::kFloat64) made = std::make_unique<Variances>();
                break;
            case Function::kMin: made = extremes<true>(*type); break;
            case Function::kMax: made = extremes<false>(*type); break;
            case Function::kBoolAnd: case Function::kBoolOr:
                if (type->layout != Layout::kBool) break;
                if (function == Function::kBoolAnd) made = std::make_unique<Booleans<true>>();
                else made = std::make_unique<Booleans<false>>();
                break;
            case Function::kBitAnd: made = folded_bits<Function::kBitAnd>(*type); break;
            case Function::kBitOr: made = folded_bits<Function::kBitOr>(*type); break;
            default: made = folded_bits<Function::kBitXor>(*type);
        }
    }
    if (made == nullptr) throw std::invalid_argument("the aggregator does not know this function of this type");
    return made;
}

}  // namespace mmflow
