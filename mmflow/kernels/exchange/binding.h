// The partitions of an exchange as a class of the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace mmflow {

void add_partitions(nanobind::module_& m);

}  // namespace mmflow
