#include "sort/binding.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "aggregate/binding.h"
#include "common/python.h"
#include "sort/row_order.h"

namespace mmflow {
namespace {

namespace nb = nanobind;

class BoundRowOrder {
   public:
    BoundRowOrder(const nb::object& schema, nb::list batches, const std::vector<std::pair<bool, bool>>& directions)
        : batches_(std::move(batches)) {
        std::vector<const ArrowArray*> arrays;
        for (nb::handle batch : batches_) arrays.push_back(&in_capsule<ArrowArray>(nb::borrow(batch), "arrow_array"));
        std::vector<Direction> listed;
        for (const auto& [descending, nulls_first] : directions) listed.push_back({descending, nulls_first});
        auto types = types_of(schema);
        const Unlocked gil;
        order_.emplace(std::move(types), listed, arrays);
    }

    BoundRowOrder(const BoundRowOrder&) = delete;
    BoundRowOrder& operator=(const BoundRowOrder&) = delete;

    std::size_t rows() const { return order_->rows(); }

    void order(std::uintptr_t out) const {
        if (rows()) std::memcpy(reinterpret_cast<void*>(out), order_->order(), rows() * sizeof(std::uint32_t));
    }

    void windows(std::size_t partition_keys, std::size_t keys,
                 const std::vector<std::tuple<int, std::int64_t, std::uintptr_t>>& calls) const {
        std::vector<WindowCall> listed;
        for (const auto& [function, distance, out] : calls) {
            if (function < 0 || function >= static_cast<int>(WindowFunction::kCount)) throw nb::index_error("no such function");
            listed.push_back({static_cast<WindowFunction>(function), distance, reinterpret_cast<void*>(out)});
        }
        const Unlocked gil;
        compute_windows(*order_, partition_keys, keys, listed);
    }

   private:
    nb::list batches_;  // capsules, which own the text that the order compares
    std::optional<RowOrder> order_;
};

}  // namespace

void add_row_order(nb::module_& m) {
    nb::class_<BoundRowOrder>(m, "RowOrder")
        .def(nb::init<const nb::object&, nb::list, const std::vector<std::pair<bool, bool>>&>(), nb::arg("schema"),
             nb::arg("batches"), nb::arg("directions"))
        .def("rows", &BoundRowOrder::rows)
        .def("order", &BoundRowOrder::order, nb::arg("out"), "Write the numbers of the rows in their order, uint32[rows].")
        .def("windows", &BoundRowOrder::windows, nb::arg("partition_keys"), nb::arg("keys"), nb::arg("calls"),
             "Compute functions, each (number, distance, address of its results by row).");
}

}  // namespace mmflow
