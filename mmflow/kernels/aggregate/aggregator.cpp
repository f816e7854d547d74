#include "aggregate/aggregator.h"

#include <stdexcept>

namespace mmflow {
namespace {

std::vector<ArrayType> chosen(const std::vector<ArrayType>& types, const std::vector<int>& columns) {
    std::vector<ArrayType> made;
    for (const int column : columns) made.push_back(types.at(static_cast<std::size_t>(column)));
    return made;
}

// The type of a function's states.
ArrayType state_type(Function function, const ArrayType* type) {
    switch (function) {
        case Function::kCount: return array_type("l");
        case Function::kSum: case Function::kAvg: return array_type(type->real() ? "z" : "w:32");
        case Function::kVar: case Function::kVarPop: case Function::kStddev: case Function::kStddevPop:
            return array_type("z");
        default: return *type;
    }
}

void check_columns(const ArrowArray& rows, std::size_t wanted) {
    if (static_cast<std::size_t>(rows.n_children) != wanted) throw std::invalid_argument("rows of another width");
}

}  // namespace

Aggregator::Aggregator(std::vector<ArrayType> types, std::vector<int> keys, std::vector<Measure> measures,
                       std::vector<ArrayType> results)
    : types_(std::move(types)), key_types_(chosen(types_, keys)), result_types_(std::move(results)),
      key_columns_(std::move(keys)), measures_(std::move(measures)) {
    if (result_types_.size() != measures_.size()) throw std::invalid_argument("as many results as measures");
    std::vector<std::uint64_t> state;
    for (const Measure& measure : measures_) {
        if (measure.filter >= 0 && types_.at(static_cast<std::size_t>(measure.filter)).layout != Layout::kBool)
            throw std::invalid_argument("a filter is not boolean");
        std::size_t source = 0;
        for (; source < distinct_.size(); ++source) {
            const Measure& other = distinct_[source];
            if (same_state(measure.function, other.function) && measure.column == other.column &&
                measure.filter == other.filter)
                break;
        }
        key_measured_ |= !key_columns_.empty() && measure.column == key_columns_[0];
        sources_.push_back(source);
        if (source < distinct_.size()) continue;
        const ArrayType* type = measure.column < 0 ? nullptr : &types_.at(static_cast<std::size_t>(measure.column));
        distinct_.push_back(measure);
        accumulators_.push_back(make_accumulator(measure.function, type));
        state_types_.push_back(state_type(measure.function, type));
        places_.push_back(state.size());
        const std::vector<std::uint64_t> first = accumulators_.back()->first();
        state.insert(state.end(), first.begin(), first.end());
    }
    for (std::size_t i = 0; i < key_types_.size(); ++i) state_keys_.push_back(static_cast<int>(i));
    keys_ = std::make_unique<Keys>(key_types_, state);
    join_float_measures();
}

// Finds the measures of the same column of doubles and the same filter.
void Aggregator::join_float_measures() {
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
        const Measure& measure = distinct_[i];
        joined_.push_back(-1);
        if (measure.column < 0 || types_[static_cast<std::size_t>(measure.column)].layout != Layout::kFloat64) continue;
        std::size_t FloatMeasures::*place = nullptr;
        switch (measure.function) {
            case Function::kCount: place = &FloatMeasures::count; break;
            case Function::kSum: case Function::kAvg: place = &FloatMeasures::sum; break;
            case Function::kMin: place = &FloatMeasures::least; break;
            case Function::kMax: place = &FloatMeasures::greatest; break;
            default: continue;
        }
        std::size_t number = 0;
        while (number < float_measures_.size() && (float_measures_[number].column != measure.column ||
                                                   float_measures_[number].filter != measure.filter))
            ++number;
        if (number == float_measures_.size()) float_measures_.push_back({measure.column, measure.filter});
        float_measures_[number].*place = places_[i];
        if (FloatSums* const sums = accumulators_[i]->float_sums()) float_measures_[number].sums = sums;
        joined_[i] = static_cast<int>(number);
    }
}

std::vector<ArrayView> Aggregator::key_views(const ArrowArray& rows, const std::vector<int>& columns) const {
    std::vector<ArrayView> views;
    for (std::size_t i = 0; i < columns.size(); ++i)
        views.push_back(view_of(rows, *rows.children[columns[i]], key_types_[i]));
    return views;
}

Grouped Aggregator::grouped(std::size_t accumulator, const std::uint32_t* numbers, std::size_t rows) const {
    return {numbers, rows, keys_->states(places_[accumulator]), keys_->size()};
}

// Calls `take(numbers, rows)` with the groups of rows that are looked up at once, whose records are in the cache then.
template <class Take>
void Aggregator::each_piece(std::vector<ArrayView> keys, std::size_t rows, Take&& take) {
    std::uint32_t numbers[Keys::kPiece];
    for (std::size_t begin = 0; begin < rows; begin += Keys::kPiece) {
        const std::size_t count = rows - begin < Keys::kPiece ? rows - begin : Keys::kPiece;
        keys_->find(keys.data(), count, numbers);
        take(numbers, count);
        for (ArrayView& key : keys) key.offset += count;
    }
}

void Aggregator::update(const ArrowArray& rows) {
    check_columns(rows, types_.size());
    std::vector<Argument> arguments;
    const auto view = [&](int column) {
        return column < 0 ? ArrayView{} : view_of(rows, *rows.children[column], types_[static_cast<std::size_t>(column)]);
    };
    for (const Measure& measure : distinct_) arguments.push_back({view(measure.column), view(measure.filter)});
    each_piece(key_views(rows, key_columns_), static_cast<std::size_t>(rows.length),
               [&](const std::uint32_t* numbers, std::size_t count) { measure(arguments, numbers, count); });
}

void Aggregator::update_known(const std::uint32_t* groups, const std::vector<const std::uint8_t*>& values, std::size_t rows) {
    std::vector<Argument> arguments;
    for (const Measure& measure : distinct_) {
        const auto column = static_cast<std::size_t>(measure.column);
        arguments.push_back({measure.column < 0 ? ArrayView{} : ArrayView{&types_[column], nullptr, values[column]}, {}});
    }
    measure(arguments, groups, rows);
}

// Takes the next rows of the arguments.
void Aggregator::measure(std::vector<Argument>& arguments, const std::uint32_t* numbers, std::size_t rows) {
    int joined = -1;  // the last that were updated together: the first of them updates all
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
        auto& [column, filter] = arguments[i];
        const ArrayView* const chosen = distinct_[i].filter < 0 ? nullptr : &filter;
        if (joined_[i] > joined && float_measures_[joined_[i]].pays(keys_->size())) {
            joined = joined_[i];
            float_measures_[joined].update(column, chosen, numbers, rows, keys_->states(0));
        } else if (joined_[i] < 0 || !float_measures_[joined_[i]].pays(keys_->size())) {
            accumulators_[i]->update(distinct_[i].column < 0 ? nullptr : &column, chosen, grouped(i, numbers, rows));
        }
        column.offset += rows;
        filter.offset += rows;
    }
}

void Aggregator::merge(const ArrowArray& states) {
    check_columns(states, key_types_.size() + state_types_.size());
    std::vector<ArrayView> columns;
    for (std::size_t i = 0; i < distinct_.size(); ++i)
        columns.push_back(view_of(states, *states.children[key_types_.size() + i], state_types_[i]));
    each_piece(key_views(states, state_keys_), static_cast<std::size_t>(states.length),
               [&](const std::uint32_t* numbers, std::size_t count) {
        for (std::size_t i = 0; i < distinct_.size(); ++i) {
            accumulators_[i]->merge(columns[i], grouped(i, numbers, count));
            columns[i].offset += count;
        }
    });
}

std::size_t Aggregator::bytes() const noexcept {
    std::size_t total = keys_->bytes();
    for (const auto& accumulator : accumulators_) total += accumulator->bytes();
    return total;
}

std::vector<ArrayType> Aggregator::state_types() const {
    std::vector<ArrayType> made = key_types_;
    made.insert(made.end(), state_types_.begin(), state_types_.end());
    return made;
}

std::vector<ArrayMaker> Aggregator::key_columns(std::size_t begin, std::size_t end) const {
    std::vector<ArrayMaker> made;
    for (std::size_t i = 0; i < key_types_.size(); ++i) {
        made.emplace_back(key_types_[i], end - begin);
        keys_->write(i, begin, end, made.back());
    }
    return made;
}

ArrowArray* Aggregator::states(std::size_t begin, std::size_t end) {
    std::vector<ArrayMaker> made = key_columns(begin, end);
    for (std::size_t i = 0; i < accumulators_.size(); ++i) {
        made.emplace_back(state_types_[i], end - begin);
        accumulators_[i]->write_states(grouped(i, nullptr, 0), begin, end, made.back());
    }
    return struct_array(made, end - begin);
}

ArrowArray* Aggregator::results(std::size_t begin, std::size_t end) {
    std::vector<ArrayMaker> made = key_columns(begin, end);
    for (current_ = 0; current_ < measures_.size(); ++current_) {
        const ArrayType& type = result_types_[current_];
        const std::size_t source = sources_[current_];
        made.emplace_back(type, end - begin);
        accumulators_[source]->write(measures_[current_].function, grouped(source, nullptr, 0), begin, end, type,
                                     made.back());
    }
    return struct_array(made, end - begin);
}

}  // namespace mmflow
