// Programs for Python.
#include "program/binding.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "common/python.h"
#include "program/program.h"

namespace nb = nanobind;

namespace mmflow::program {
namespace {

std::vector<ColumnSpec> column_specs(const nb::list& items) {
    std::vector<ColumnSpec> made;
    for (nb::handle item : items) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        made.push_back({static_cast<Layout>(nb::cast<int>(t[0])), nb::cast<std::size_t>(t[1])});
    }
    return made;
}

std::vector<Node> node_list(const nb::list& items) {
    std::vector<Node> made;
    for (nb::handle item : items) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        const nb::bytes bytes = nb::cast<nb::bytes>(t[6]);
        made.push_back({static_cast<Op>(nb::cast<int>(t[0])), static_cast<Form>(nb::cast<int>(t[1])),
                        nb::cast<std::vector<int>>(t[2]), nb::cast<std::int64_t>(t[3]), nb::cast<int>(t[4]),
                        nb::cast<bool>(t[5]), std::string(bytes.c_str(), bytes.size())});
    }
    return made;
}

std::vector<Conjunct> conjunct_list(const nb::list& items) {
    std::vector<Conjunct> made;
    for (nb::handle item : items) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        made.push_back({nb::cast<int>(t[0]), nb::cast<bool>(t[1])});
    }
    return made;
}

std::vector<OutputSpec> output_list(const nb::list& items) {
    std::vector<OutputSpec> made;
    for (nb::handle item : items) {
        const nb::tuple t = nb::cast<nb::tuple>(item);
        made.push_back({nb::cast<int>(t[0]), nb::cast<int>(t[1])});
    }
    return made;
}

class RowProgram {
   public:
    RowProgram(const std::string& instruction_set, const nb::list& columns, const nb::list& nodes,
               const nb::list& conjuncts, const nb::list& outputs)
        : program_(column_specs(columns), node_list(nodes), conjunct_list(conjuncts), output_list(outputs),
                   instruction_set.c_str()) {}

    // Returns status, rows, whether every row is left, and the array of the result's columns.
    nb::tuple run(const nb::capsule& batch, std::size_t rows) {
        auto* array = static_cast<ArrowArray*>(PyCapsule_GetPointer(batch.ptr(), "arrow_array"));
        if (array == nullptr) throw nb::python_error();
        Result result;
        {
            const Unlocked gil;
            result = program_.run(*array, rows, Passed::kLeft);
        }
        if (result.status == Status::kNoMemory) throw std::bad_alloc();
        nb::object made = nb::none();
        if (result.array != nullptr) made = array_capsule(result.array);
        return nb::make_tuple(static_cast<int>(result.status), result.rows, result.whole, made);
    }

    Program& kernel() { return program_; }

   private:
    Program program_;
};

}  // namespace

Program& program_of(nb::handle object) { return nb::cast<RowProgram&>(object).kernel(); }

void add_binding(nb::module_& m) {
    nb::class_<RowProgram>(m, "RowProgram")
        .def(nb::init<const std::string&, const nb::list&, const nb::list&, const nb::list&, const nb::list&>(),
             nb::arg("instruction_set"), nb::arg("columns"), nb::arg("nodes"), nb::arg("conjuncts"), nb::arg("outputs"))
        .def("run", &RowProgram::run, nb::arg("batch"), nb::arg("rows"),
             "Return status, rows, whether every row is left, and the array of the result's columns.");
}

}  // namespace mmflow::program
