#include "aggregate/accumulators.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "aggregate/exact_sum.h"
#include "aggregate/rows.h"

namespace mmflow {
namespace {

template <class T>
inline T load(const std::uint8_t* values, std::size_t row) noexcept {
    T made;
    std::memcpy(&made, values + row * sizeof(T), sizeof(T));
    return made;
}

// Base of accumulators of fixed-width values: `Self` has `adder()`, which returns a function of a value and a group.
// That holds the addresses of the groups, which the compiler then keeps in registers.
template <class Self, class T, class State>
class Adding : public Accumulator {
   public:
    void update(const ArrayView* column, const ArrayView* filter, const std::uint32_t* groups,
                std::size_t rows) override {
        auto add = static_cast<Self&>(*this).adder();
        const std::uint8_t* const values = column->values + column->offset * sizeof(T);
        for_each_row(column, filter, rows, [&](std::size_t row) { add(load<T>(values, row), groups[row]); });
    }

    void merge(const ArrayView& states, const std::uint32_t* groups, std::size_t rows) override {
        auto add = static_cast<Self&>(*this).state_adder();
        const std::uint8_t* const values = states.values + states.offset * sizeof(State);
        for_each_row(&states, nullptr, rows, [&](std::size_t row) { add(load<State>(values, row), groups[row]); });
    }
};

class Counts final : public Accumulator {
   public:
    void resize(std::size_t groups) override { counts_.resize(groups); }
    void update(const ArrayView* column, const ArrayView* filter, const std::uint32_t* groups,
                std::size_t rows) override {
        std::int64_t* const counts = counts_.data();
        if (counts_.size() == 1 && filter == nullptr && (column == nullptr || column->validity == nullptr)) {
            counts[0] += static_cast<std::int64_t>(rows);
            return;
        }
        for_each_row(column, filter, rows, [&](std::size_t row) { ++counts[groups[row]]; });
    }
    void merge(const ArrayView& states, const std::uint32_t* groups, std::size_t rows) override {
        for (std::size_t row = 0; row < rows; ++row) counts_[groups[row]] += states.value<std::int64_t>(row);
    }
    void write_state(std::size_t group, ArrayMaker& out) override { out.append(counts_[group]); }
    void write(Function, std::size_t group, const ArrayType&, ArrayMaker& out) override { out.append(counts_[group]); }
    std::size_t bytes() const noexcept override { return counts_.capacity() * 8; }

   private:
    std::vector<std::int64_t> counts_;
};

template <class T>
class FloatTotals final : public Accumulator {
   public:
    void resize(std::size_t groups) override { sums_.resize(groups); }
    void update(const ArrayView* column, const ArrayView* filter, const std::uint32_t* groups,
                std::size_t rows) override {
        const std::uint8_t* const values = column->values + column->offset * sizeof(T);
        const auto value = [&](std::size_t row) { return static_cast<double>(load<T>(values, row)); };
        const auto each = [&](auto&& add) { for_each_row(column, filter, rows, add); };
        if (sums_.size() == 1) return sums_.add_all(rows, each, value, [](std::size_t) { return 0; });
        sums_.add_all(rows, each, value, [&](std::size_t row) { return groups[row]; });
    }
    void merge(const ArrayView& states, const std::uint32_t* groups, std::size_t rows) override {
        for (std::size_t row = 0; row < rows; ++row) {
            const std::string_view state = states.bytes(row);
            if (!sums_.merge(groups[row], reinterpret_cast<const std::uint8_t*>(state.data()), state.size()))
                throw std::invalid_argument("the state of a sum of floats is damaged");
        }
    }
    void write_state(std::size_t group, ArrayMaker& out) override {
        sums_.settle();
        state_.clear();
        sums_.write(group, state_);
        out.append_text({reinterpret_cast<const char*>(state_.data()), state_.size()});
    }
    void write(Function function, std::size_t group, const ArrayType&, ArrayMaker& out) override {
        sums_.settle();
        if (sums_.count(group) == 0) return out.append_null();
        out.append(function == Function::kAvg ? sums_.mean(group) : sums_.total(group));
    }
    std::size_t bytes() const noexcept override { return sums_.bytes(); }

   private:
    FloatSums sums_;
    std::vector<std::uint8_t> state_;
};

// Sums of integers, durations and decimals.
template <class T>
class WholeTotals final : public Adding<WholeTotals<T>, T, WholeSum> {
   public:
    explicit WholeTotals(int scale) : scale_(scale) {}

    void resize(std::size_t groups) override { sums_.resize(groups); }
    auto adder() noexcept {
        return [sums = sums_.data()](T value, std::uint32_t group) {
            WholeSum& sum = sums[group];
            sum.add(static_cast<i128>(value));
            ++sum.count;
        };
    }
    auto state_adder() noexcept {
        return [sums = sums_.data()](const WholeSum& state, std::uint32_t group) { sums[group].add(state); };
    }
    void write_state(std::size_t group, ArrayMaker& out) override { out.append(sums_[group]); }

    void write(Function function, std::size_t group, const ArrayType& type, ArrayMaker& out) override {
        const WholeSum& sum = sums_[group];
        if (sum.count == 0) return out.append_null();
        std::uint64_t limbs[5] = {};
        std::uint64_t magnitude[3];
        sum.magnitude(magnitude);
        std::copy(magnitude, magnitude + 3, limbs + 2);
        if (type.real()) {
            return out.append(nearest_quotient(limbs, 5, 0, sum.count, sum.negative()));
        }
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
    std::size_t bytes() const noexcept override { return sums_.capacity() * sizeof(WholeSum); }

   private:
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

    std::vector<WholeSum> sums_;
    int scale_;
};

// min and max. Floats have one NaN, above all numbers, and one zero.
template <class T, bool kLeast>
class Extremes final : public Adding<Extremes<T, kLeast>, T, T> {
   public:
    void resize(std::size_t groups) override {
        values_.resize(groups);
        seen_.resize(groups);
    }
    auto adder() noexcept {
        return [values = values_.data(), seen = seen_.data()](T given, std::uint32_t group) {
            const T value = normal(given), kept = values[group];
            const bool better = !seen[group] | before(value, kept);
            values[group] = better ? value : kept;
            seen[group] = 1;
        };
    }
    auto state_adder() noexcept { return adder(); }
    void write_state(std::size_t group, ArrayMaker& out) override {
        if (!seen_[group]) return out.append_null();
        out.append(values_[group]);
    }
    void write(Function, std::size_t group, const ArrayType&, ArrayMaker& out) override { write_state(group, out); }
    std::size_t bytes() const noexcept override { return values_.capacity() * sizeof(T) + seen_.capacity(); }

   private:
    static T normal(T value) noexcept {
        if constexpr (std::numeric_limits<T>::is_iec559) {
            value += T{0};
            if (value != value) value = std::numeric_limits<T>::quiet_NaN();
        }
        return value;
    }
    static bool before(T value, T kept) noexcept {
        if constexpr (std::numeric_limits<T>::is_iec559) {
            if constexpr (kLeast) return (value < kept) | (kept != kept);
            return (value > kept) | (value != value);
        }
        return kLeast ? value < kept : value > kept;
    }

    std::vector<T> values_;
    std::vector<std::uint8_t> seen_;
};

// Base of accumulators of other values, whose states are values: `Self` has `add(column, row, group)`.
template <class Self>
class ByRow : public Accumulator {
   public:
    void update(const ArrayView* column, const ArrayView* filter, const std::uint32_t* groups,
                std::size_t rows) override {
        auto& self = static_cast<Self&>(*this);
        for_each_row(column, filter, rows, [&](std::size_t row) { self.add(column, row, groups[row]); });
    }

    void merge(const ArrayView& states, const std::uint32_t* groups, std::size_t rows) override {
        update(&states, nullptr, groups, rows);
    }
};

// min and max of text and binary, by bytes.
template <bool kLeast>
class TextExtremes final : public ByRow<TextExtremes<kLeast>> {
   public:
    void resize(std::size_t groups) override {
        values_.resize(groups);
        seen_.resize(groups);
    }
    void add(const ArrayView* column, std::size_t row, std::uint32_t group) {
        const std::string_view value = column->bytes(row);
        std::string& kept = values_[group];
        if (seen_[group] && !(kLeast ? value < kept : value > kept)) return;
        const std::size_t before = allocated(kept);
        kept.assign(value);
        text_ += allocated(kept) - before;
        seen_[group] = 1;
    }
    void write_state(std::size_t group, ArrayMaker& out) override {
        if (!seen_[group]) return out.append_null();
        out.append_text(values_[group]);
    }
    void write(Function, std::size_t group, const ArrayType&, ArrayMaker& out) override { write_state(group, out); }
    std::size_t bytes() const noexcept override {
        return values_.capacity() * sizeof(std::string) + text_ + seen_.capacity();
    }

   private:
    // Bytes outside of a string, with those that the allocator adds.
    static std::size_t allocated(const std::string& text) noexcept {
        return text.capacity() < sizeof(std::string) / 2 ? 0 : text.capacity() + 32;
    }

    std::vector<std::string> values_;
    std::vector<std::uint8_t> seen_;
    std::size_t text_ = 0;
};

// bool_and, bool_or, and min and max of booleans, which are the same.
template <bool kAnd>
class Booleans final : public ByRow<Booleans<kAnd>> {
   public:
    void resize(std::size_t groups) override { seen_.resize(groups); }
    void add(const ArrayView* column, std::size_t row, std::uint32_t group) noexcept {
        seen_[group] |= column->bit(row) ? 2 : 1;
    }
    void write_state(std::size_t group, ArrayMaker& out) override {
        if (seen_[group] == 0) return out.append_null();
        out.append_bool(kAnd ? seen_[group] == 2 : seen_[group] >= 2);
    }
    void write(Function, std::size_t group, const ArrayType&, ArrayMaker& out) override { write_state(group, out); }
    std::size_t bytes() const noexcept override { return seen_.capacity(); }

   private:
    std::vector<std::uint8_t> seen_;  // 1: false, 2: true, 3: both
};

template <class T>
class Bits final : public Adding<Bits<T>, T, T> {
   public:
    explicit Bits(Function function) : function_(function) {}

    void resize(std::size_t groups) override {
        values_.resize(groups, function_ == Function::kBitAnd ? static_cast<T>(-1) : T{0});
        seen_.resize(groups);
    }
    auto adder() noexcept {
        return [this](T value, std::uint32_t group) {
            T& kept = values_[group];
            seen_[group] = 1;
            switch (function_) {
                case Function::kBitAnd: kept = static_cast<T>(kept & value); break;
                case Function::kBitOr: kept = static_cast<T>(kept | value); break;
                default: kept = static_cast<T>(kept ^ value);
            }
        };
    }
    auto state_adder() noexcept { return adder(); }
    void write_state(std::size_t group, ArrayMaker& out) override {
        if (!seen_[group]) return out.append_null();
        out.append(values_[group]);
    }
    void write(Function, std::size_t group, const ArrayType&, ArrayMaker& out) override { write_state(group, out); }
    std::size_t bytes() const noexcept override { return values_.capacity() * sizeof(T) + seen_.capacity(); }

   private:
    Function function_;
    std::vector<T> values_;
    std::vector<std::uint8_t> seen_;
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
    return for_number(type.layout, [](auto value) { return std::make_unique<Extremes<decltype(value), kLeast>>(); });
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
            case Function::kMin: made = extremes<true>(*type); break;
            case Function::kMax: made = extremes<false>(*type); break;
            case Function::kBoolAnd: case Function::kBoolOr:
                if (type->layout != Layout::kBool) break;
                if (function == Function::kBoolAnd) made = std::make_unique<Booleans<true>>();
                else made = std::make_unique<Booleans<false>>();
                break;
            default:
                made = for_integer(type->layout, [&](auto value) {
                    return std::make_unique<Bits<decltype(value)>>(function);
                });
        }
    }
    if (made == nullptr) throw std::invalid_argument("the aggregator does not know this function of this type");
    return made;
}

}  // namespace mmflow
