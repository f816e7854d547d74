// Binding of the inflater.
#pragma once
#include <nanobind/nanobind.h>

namespace mmflow {

void add_inflater(nanobind::module_& m);

}  // namespace mmflow
