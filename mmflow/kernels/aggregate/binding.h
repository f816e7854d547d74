#pragma once
#include <nanobind/nanobind.h>

#include "aggregate/aggregator.h"

namespace mmflow {

// Adds the class `Aggregator` to the module.
void add_aggregator(nanobind::module_& m);

// Returns the aggregator of an `Aggregator`. Throws std::bad_cast for other objects.
Aggregator& aggregator_of(nanobind::handle object);

}  // namespace mmflow
