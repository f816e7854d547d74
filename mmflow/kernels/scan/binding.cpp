// The scan loop for Python.
#include "scan/binding.h"

#include "aggregate/binding.h"
#include "common/python.h"
#include "program/binding.h"
#include "scan/loop.h"

namespace mmflow {
namespace {

namespace nb = nanobind;

// Returns (consumed, records, lines, rows, known).
nb::tuple bound_aggregate_records(RecordReader& reader, nb::handle program, nb::handle aggregator, std::uintptr_t address,
                                  std::size_t size, std::size_t stop, bool final, std::size_t batch_bytes,
                                  std::size_t group_bytes) {
    program::Program* steps = program.is_none() ? nullptr : &program::program_of(program);
    Aggregator& groups = aggregator_of(aggregator);
    const LoopText text{reinterpret_cast<const std::uint8_t*>(address), size, stop, final};
    LoopResult r;
    {
        const Unlocked gil;
        r = aggregate_records(reader, steps, groups, text, {batch_bytes, group_bytes});
    }
    return nb::make_tuple(r.consumed, r.records, r.lines, r.rows, r.known);
}

}  // namespace

void add_scan_loop(nb::module_& m) {
    nb::class_<RecordReader>(m, "RecordReader");
    m.def("aggregate_records", &bound_aggregate_records, nb::arg("reader"), nb::arg("program").none(),
          nb::arg("aggregator"), nb::arg("address"), nb::arg("size"), nb::arg("stop"), nb::arg("final"),
          nb::arg("batch_bytes"), nb::arg("group_bytes"), "Aggregate records; return (consumed, records, lines, rows, known).");
}

}  // namespace mmflow
