// The aggregator as a class of the Python module.
#include "aggregate/binding.h"

#include <nanobind/stl/vector.h>
#include <nanobind/stl/tuple.h>

#include <tuple>

#include "aggregate/aggregator.h"
#include "common/python.h"

namespace mmflow {

namespace nb = nanobind;

std::vector<ArrayType> types_of(const nb::object& schema) {
    const auto& all = in_capsule<ArrowSchema>(schema, "arrow_schema");
    std::vector<ArrayType> made;
    for (std::int64_t i = 0; i < all.n_children; ++i) {
        if (all.children[i]->dictionary != nullptr) throw nb::value_error("kernels take no dictionaries");
        made.push_back(array_type(all.children[i]->format));
    }
    return made;
}

namespace {

using MeasureSpec = std::tuple<int, int, int>;

// Not thread-safe.
class BoundAggregator {
   public:
    BoundAggregator(const nb::object& rows, std::vector<int> keys, const std::vector<MeasureSpec>& measures,
                    const nb::object& results, const nb::object& states)
        : types_(types_of(rows)), aggregator_(types_, std::move(keys), listed(measures), types_of(results)),
          state_types_(aggregator_.state_types()) {
        check(states, state_types_);
    }

    BoundAggregator(const BoundAggregator&) = delete;
    BoundAggregator& operator=(const BoundAggregator&) = delete;

    void update(const nb::object& schema, const nb::object& array) {
        check(schema, types_);
        const auto& rows = in_capsule<ArrowArray>(array, "arrow_array");
        const Unlocked gil;
        aggregator_.update(rows);
    }

    void merge(const nb::object& schema, const nb::object& array) {
        check(schema, state_types_);
        const auto& rows = in_capsule<ArrowArray>(array, "arrow_array");
        const Unlocked gil;
        aggregator_.merge(rows);
    }

    Aggregator& kernel() { return aggregator_; }
    std::size_t groups() const { return aggregator_.groups(); }
    std::size_t bytes() const { return aggregator_.bytes(); }

    nb::object states(std::size_t begin, std::size_t end) {
        check_range(begin, end);
        ArrowArray* made;
        {
            const Unlocked gil;
            made = aggregator_.states(begin, end);
        }
        return array_capsule(made);
    }

    nb::object results(std::size_t begin, std::size_t end) {
        check_range(begin, end);
        ArrowArray* made = nullptr;
        std::string overflow;
        {
            const Unlocked gil;
            try {
                made = aggregator_.results(begin, end);
            } catch (const TotalOverflow& error) {
                overflow = error.what();
            }
        }
        if (made != nullptr) return array_capsule(made);
        const nb::tuple told = nb::make_tuple(aggregator_.current(), nb::str(overflow.c_str()));
        PyErr_SetObject(PyExc_OverflowError, told.ptr());
        throw nb::python_error();
    }

   private:
    static std::vector<Measure> listed(const std::vector<MeasureSpec>& measures) {
        std::vector<Measure> made;
        for (const auto& [function, column, filter] : measures)
            made.push_back({static_cast<Function>(function), column, filter});
        return made;
    }

    static void check(const nb::object& schema, const std::vector<ArrayType>& types) {
        const auto& all = in_capsule<ArrowSchema>(schema, "arrow_schema");
        bool same = static_cast<std::size_t>(all.n_children) == types.size();
        for (std::size_t i = 0; same && i < types.size(); ++i) same = types[i].format == all.children[i]->format;
        if (!same) throw nb::value_error("rows of other types than the aggregation's");
    }

    void check_range(std::size_t begin, std::size_t end) const {
        if (begin > end || end > aggregator_.groups()) throw nb::index_error("no such groups");
    }

    std::vector<ArrayType> types_;
    Aggregator aggregator_;
    std::vector<ArrayType> state_types_;
};

}  // namespace

Aggregator& aggregator_of(nb::handle object) { return nb::cast<BoundAggregator&>(object).kernel(); }

void add_aggregator(nb::module_& m) {
    nb::class_<BoundAggregator>(m, "Aggregator")
        .def(nb::init<const nb::object&, std::vector<int>, const std::vector<MeasureSpec>&, const nb::object&,
                      const nb::object&>(),
             nb::arg("rows"), nb::arg("keys"), nb::arg("measures"), nb::arg("results"), nb::arg("states"))
        .def("update", &BoundAggregator::update, nb::arg("schema"), nb::arg("array"), "Take rows.")
        .def("merge", &BoundAggregator::merge, nb::arg("schema"), nb::arg("array"),
             "Take the states of another aggregation.")
        .def("groups", &BoundAggregator::groups)
        .def("bytes", &BoundAggregator::bytes)
        .def("states", &BoundAggregator::states, nb::arg("begin"), nb::arg("end"))
        .def("results", &BoundAggregator::results, nb::arg("begin"), nb::arg("end"),
             "Return keys and measures; OverflowError(measure, digits) where a total does not fit.");
}

}  // namespace mmflow
