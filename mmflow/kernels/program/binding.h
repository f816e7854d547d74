// Registration of programs in the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace mmflow::program {

void add_binding(nanobind::module_& m);

}  // namespace mmflow::program
