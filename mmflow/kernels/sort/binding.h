#pragma once
#include <nanobind/nanobind.h>

namespace mmflow {

// Adds the class `RowOrder` to the module.
void add_row_order(nanobind::module_& m);

}  // namespace mmflow
