"""A run in a process of its own that dies, without any clean-up, at the n-th failpoint of its commit.

    python crash_commit.py DESTINATION RUN IF_EXISTS VALUE DIE_AT [noswap]
    python crash_commit.py serve

`serve` does the same again and again: a line of JSON on standard input holds the environment and the arguments.

Writes two part files (one file if DESTINATION ends in .csv) that hold VALUE. Prints the name of each
failpoint that was reached.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

import pyarrow as pa

import mmflow.sinks.commit.local as local_module
import mmflow.sinks.commit.protocol as common_module
from mmflow.sinks import SinkAttempt, open_commit, open_sink, sink_spec


def main(destination: str, run: str, if_exists: str, value: str, die_at: str, *more: str) -> None:
    reached = 0

    def failpoint(step: str) -> None:
        nonlocal reached
        reached += 1
        print(step, flush=True)
        if reached == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (common_module, local_module):
        vars(module)["failpoint"] = failpoint
    if "://" in destination:
        import mmflow.sinks.commit.object_commit as object_module
        import mmflow.sinks.commit.object_lock as lock_module

        vars(object_module)["failpoint"] = failpoint
        vars(lock_module)["SETTLE_SECONDS"] = 0.01
    if "noswap" in more:
        vars(local_module)["swap"] = lambda source, target: False  # what NFS says

    spec = sink_spec(destination, "csv", if_exists=if_exists)  # type: ignore[arg-type]  # of str
    batch = pa.RecordBatch.from_pydict({"v": [value]})
    with open_commit(spec, run) as commit:
        commit.prepare()
        failpoint("prepared")
        sink = open_sink(spec)
        tasks = range(0 if commit.done else 2 if spec.is_folder else 1)
        staged = [sink.write([batch], batch.schema, SinkAttempt(run, 0, n, 0)) for n in tasks]
        failpoint("staged")
        if "hold" in more:
            signal.pause()
        commit.commit([file for files in staged for file in files], batch.schema)


def serve() -> None:
    """A process that has imported everything forks one for each line: a start costs little, and leaves no thread."""
    import s3fs  # noqa: F401  (imported before the fork)

    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(writing, 1)
            os.close(reading)
            os.close(writing)
            try:
                environment, arguments = json.loads(line)
                os.environ.update(environment)
                main(*arguments)
            except BaseException:  # whatever it was: the parent's loop must not go on in here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writing)
        with open(reading) as output:
            steps = output.read().split()
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), steps]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        main(*sys.argv[1:])
