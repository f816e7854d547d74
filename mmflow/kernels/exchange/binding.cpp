#include "exchange/binding.h"

#include "aggregate/binding.h"
#include "common/python.h"
#include "exchange/partitions.h"

namespace mmflow {
namespace {

namespace nb = nanobind;

// Not thread-safe.
class BoundPartitions {
   public:
    BoundPartitions(const nb::object& schema, std::size_t count) : types_(types_of(schema)), partitions_(types_, count) {}

    BoundPartitions(const BoundPartitions&) = delete;
    BoundPartitions& operator=(const BoundPartitions&) = delete;

    // `order` and `bounds` are addresses of int64[rows] and int64[partitions + 1].
    void append(const nb::object& schema, const nb::object& array, std::uintptr_t order, std::uintptr_t bounds) {
        const auto& given = in_capsule<ArrowSchema>(schema, "arrow_schema");
        bool same = static_cast<std::size_t>(given.n_children) == types_.size();
        for (std::size_t i = 0; same && i < types_.size(); ++i) same = types_[i].format == given.children[i]->format;
        if (!same) throw nb::value_error("rows of other types than the exchange's");
        const auto& rows = in_capsule<ArrowArray>(array, "arrow_array");
        const Unlocked gil;
        partitions_.append(rows, reinterpret_cast<const std::int64_t*>(order), reinterpret_cast<const std::int64_t*>(bounds));
    }

    std::size_t bytes() const { return partitions_.bytes(); }

    std::size_t rows(std::size_t partition) const {
        check(partition);
        return partitions_.rows(partition);
    }

    nb::object take(std::size_t partition) {
        check(partition);
        return array_capsule(partitions_.take(partition));
    }

   private:
    void check(std::size_t partition) const {
        if (partition >= partitions_.count()) throw nb::index_error("no such partition");
    }

    std::vector<ArrayType> types_;
    Partitions partitions_;
};

}  // namespace

void add_partitions(nb::module_& m) {
    nb::class_<BoundPartitions>(m, "Partitions")
        .def(nb::init<const nb::object&, std::size_t>(), nb::arg("schema"), nb::arg("count"))
        .def("append", &BoundPartitions::append, nb::arg("schema"), nb::arg("array"), nb::arg("order"), nb::arg("bounds"),
             "Append rows order[bounds[p]..bounds[p + 1]) of a batch to partition p.")
        .def("bytes", &BoundPartitions::bytes)
        .def("rows", &BoundPartitions::rows, nb::arg("partition"))
        .def("take", &BoundPartitions::take, nb::arg("partition"), "Return the rows of a partition, and leave it empty.");
}

}  // namespace mmflow
