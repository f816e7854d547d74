#pragma once
#include <nanobind/nanobind.h>

#include "aggregate/aggregator.h"

namespace mmflow {

// Types of the columns of a capsule of a schema. Throws std::invalid_argument for those that are not in `Layout`.
std::vector<ArrayType> types_of(const nanobind::object& schema);

// Adds the class `Aggregator` to the module.
void add_aggregator(nanobind::module_& m);

// Returns the aggregator of an `Aggregator`. Throws std::bad_cast for other objects.
Aggregator& aggregator_of(nanobind::handle object);

}  // namespace mmflow
