// Python's view of the kernels: the only file that knows of Python.
#include <nanobind/nanobind.h>

#include "guard.h"

namespace nb = nanobind;

NB_MODULE(_kernels, m) {
    m.doc() = "mmflow's native kernels.";
    m.def("guard_install", &mmflow::guard_install, "Install the SIGBUS handler; 0, or an errno.");
    m.def("guard_register", &mmflow::guard_register, nb::arg("address"), nb::arg("length"),
          "Watch a mapped range; a token, or -1 if no more can be watched.");
    m.def("guard_release", &mmflow::guard_release, nb::arg("token"), "Stop watching; before the range is unmapped.");
    m.def("guard_hit", &mmflow::guard_hit, nb::arg("token"), "Was a fault in the range papered over?");
    m.def("guard_count", &mmflow::guard_count, "Ranges being watched.");
}
