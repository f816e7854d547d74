// Registration of the scan loop in the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace mmflow {

// Adds the class `RecordReader`, and `aggregate_records`.
void add_scan_loop(nanobind::module_& m);

}  // namespace mmflow
