#pragma once
#include <nanobind/nanobind.h>

namespace mmflow {

// Adds the class `Aggregator` to the module.
void add_aggregator(nanobind::module_& m);

}  // namespace mmflow
