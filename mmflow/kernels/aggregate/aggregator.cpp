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
      key_columns_(std::move(keys)), measures_(std::move(measures)), keys_(key_types_) {
    if (result_types_.size() != measures_.size()) throw std::invalid_argument("as many results as measures");
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
        sources_.push_back(source);
        if (source < distinct_.size()) continue;
        const ArrayType* type = measure.column < 0 ? nullptr : &types_.at(static_cast<std::size_t>(measure.column));
        distinct_.push_back(measure);
        accumulators_.push_back(make_accumulator(measure.function, type));
        state_types_.push_back(state_type(measure.function, type));
    }
    for (std::size_t i = 0; i < key_types_.size(); ++i) state_keys_.push_back(static_cast<int>(i));
    for (const auto& accumulator : accumulators_) accumulator->resize(keys_.size());
}

void Aggregator::find_groups(const ArrowArray& rows, const std::vector<int>& columns) {
    std::vector<ArrayView> views;
    for (std::size_t i = 0; i < columns.size(); ++i)
        views.push_back(view_of(rows, *rows.children[columns[i]], key_types_[i]));
    row_groups_.resize(static_cast<std::size_t>(rows.length));
    const std::size_t before = keys_.size();
    keys_.find(views.data(), row_groups_.size(), row_groups_.data());
    if (keys_.size() == before) return;
    for (const auto& accumulator : accumulators_) accumulator->resize(keys_.size());
}

void Aggregator::update(const ArrowArray& rows) {
    check_columns(rows, types_.size());
    find_groups(rows, key_columns_);
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
        const Measure& measure = distinct_[i];
        const auto view = [&](int column) {
            return column < 0 ? ArrayView{} : view_of(rows, *rows.children[column], types_[static_cast<std::size_t>(column)]);
        };
        const ArrayView column = view(measure.column), filter = view(measure.filter);
        accumulators_[i]->update(measure.column < 0 ? nullptr : &column, measure.filter < 0 ? nullptr : &filter,
                                 row_groups_.data(), row_groups_.size());
    }
}

void Aggregator::merge(const ArrowArray& states) {
    check_columns(states, key_types_.size() + state_types_.size());
    find_groups(states, state_keys_);
    for (std::size_t i = 0; i < distinct_.size(); ++i) {
        const ArrayView view = view_of(states, *states.children[key_types_.size() + i], state_types_[i]);
        accumulators_[i]->merge(view, row_groups_.data(), row_groups_.size());
    }
}

std::size_t Aggregator::bytes() const noexcept {
    std::size_t total = keys_.bytes() + row_groups_.capacity() * 4;
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
        made.emplace_back(key_types_[i]);
        for (std::size_t group = begin; group < end; ++group) keys_.write(i, group, made.back());
    }
    return made;
}

ArrowArray* Aggregator::states(std::size_t begin, std::size_t end) {
    std::vector<ArrayMaker> made = key_columns(begin, end);
    for (std::size_t i = 0; i < accumulators_.size(); ++i) {
        made.emplace_back(state_types_[i]);
        for (std::size_t group = begin; group < end; ++group) accumulators_[i]->write_state(group, made.back());
    }
    return struct_array(made, end - begin);
}

ArrowArray* Aggregator::results(std::size_t begin, std::size_t end) {
    std::vector<ArrayMaker> made = key_columns(begin, end);
    for (current_ = 0; current_ < measures_.size(); ++current_) {
        const ArrayType& type = result_types_[current_];
        made.emplace_back(type);
        for (std::size_t group = begin; group < end; ++group)
            accumulators_[sources_[current_]]->write(measures_[current_].function, group, type, made.back());
    }
    return struct_array(made, end - begin);
}

}  // namespace mmflow
