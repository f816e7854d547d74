"""A run in a process of its own that dies, without any clean-up, at the n-th checkpoint of its commit.

    python crash_commit.py DESTINATION RUN IF_EXISTS VALUE DIE_AT [noswap]

Writes two part files (one file if DESTINATION ends in .csv) that hold VALUE. Prints the name of each
checkpoint that was reached.
"""

from __future__ import annotations

import os
import signal
import sys

import pyarrow as pa

import mmflow.sinks.commit as commit_module
from mmflow.sinks import Commit, open_sink, sink_spec


def main(destination: str, run: str, if_exists: str, value: str, die_at: str, *more: str) -> None:
    reached = 0

    def checkpoint(step: str) -> None:
        nonlocal reached
        reached += 1
        print(step, flush=True)
        if reached == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    vars(commit_module)["checkpoint"] = checkpoint
    if "noswap" in more:
        vars(commit_module)["swap"] = lambda source, target: False  # what NFS says

    spec = sink_spec(destination, "csv", if_exists=if_exists)  # type: ignore[arg-type]
    batch = pa.RecordBatch.from_pydict({"v": [value]})
    with Commit(spec, run) as commit:
        commit.prepare()
        checkpoint("prepared")
        sink = open_sink(spec)
        tasks = range(2 if spec.is_folder else 1)
        staged = [sink.write([batch], batch.schema, run=run, stage=0, number=n, attempt=0) for n in tasks]
        checkpoint("staged")
        commit.commit([file for files in staged for file in files], batch.schema)


if __name__ == "__main__":
    main(*sys.argv[1:])
