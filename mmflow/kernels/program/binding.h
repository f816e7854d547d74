// Registration of programs in the Python module.
#pragma once
#include <nanobind/nanobind.h>

#include "program/program.h"

namespace mmflow::program {

void add_binding(nanobind::module_& m);

// Returns the program of a `RowProgram`. Throws std::bad_cast for other objects.
Program& program_of(nanobind::handle object);

}  // namespace mmflow::program
