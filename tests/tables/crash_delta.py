"""A run that writes a Delta table, and dies without any clean-up at the n-th failpoint of its commit.

Arguments: DESTINATION RUN IF_EXISTS VALUE DIE_AT. Its two tasks write a file each, in partition k=VALUE. Prints the
failpoints that were reached.
"""

from __future__ import annotations

import os
import signal

import pyarrow as pa

import mmflow.sinks.commit.delta_commit as delta_module
import mmflow.sinks.commit.protocol as common_module
from mmflow.sinks import SinkAttempt, open_commit, open_sink, sink_spec


def main(destination: str, run: str, if_exists: str, value: str, die_at: str) -> None:
    reached = 0

    def failpoint(step: str) -> None:
        nonlocal reached
        reached += 1
        print(step, flush=True)
        if reached == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (common_module, delta_module):
        vars(module)["failpoint"] = failpoint
    write(destination, run, if_exists, value, failpoint)


def write(destination: str, run: str, if_exists: str, value: str, failpoint: object = None) -> bool:
    """Write as a run that may be resumed; return whether it had committed before."""
    spec = sink_spec(destination, "delta", if_exists=if_exists, partition_by="k")  # type: ignore[arg-type]  # of str
    reach = failpoint if callable(failpoint) else (lambda _: None)
    batches = [pa.RecordBatch.from_pydict({"k": [value], "n": [number]}) for number in (1, 2)]
    with open_commit(spec, run, resumable=True) as commit:
        commit.prepare((), batches[0].schema)
        before = commit.done
        reach("prepared")
        sink = open_sink(spec)
        staged = [] if before else [
            sink.write([batch], batch.schema, SinkAttempt(run, 0, n, 0)) for n, batch in enumerate(batches)
        ]  # fmt: skip
        reach("staged")
        result = commit.commit([file for files in staged for file in files], batches[0].schema)
        assert (result.files, result.rows) == (2, 2)
    return before
