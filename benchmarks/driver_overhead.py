"""What the scheduler costs per task: empty tasks through the driver alone, and through the local engine.

    python benchmarks/driver_overhead.py [TASKS]

Prints microseconds per task, and the memory that the driver holds, for a scan whose rows go straight to the
result and for one that feeds an exchange of 8 partitions.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.config import Settings
from mmflow.engines.driver import Driver, DriverOptions
from mmflow.engines.local import LocalEngine
from mmflow.engines.scans import ScanSource
from mmflow.exec.context import WorkerContext
from mmflow.exec.ranges import boundaries
from mmflow.exec.stage import ExchangeInput, Functions, Hash, Plan, Result, ScanInput, Source, Stage
from mmflow.exec.task import BlockRef, Done, Task, TaskResult
from mmflow.formats import ScanReport
from mmflow.formats.text import open_text
from mmflow.mapping import FileIdentity
from mmflow.shards import FileEntry, Shard

SCHEMA = pa.schema([("line", pa.string_view())])
STEP = 128 << 20


def scan() -> ScanInput:
    text: Any = open_text(["f"], {}, None)
    return ScanInput("t", Source(("f",), text, "bench"), ("line",))


def result_plan() -> Plan:
    return Plan((Stage(0, (scan(),), (), Result(), SCHEMA),))


def exchange_plan() -> Plan:
    return Plan(
        (
            Stage(0, (scan(),), (), Hash((0,), 8), SCHEMA),
            Stage(1, (ExchangeInput("x", (0,), "partition"),), (), Result(), SCHEMA),
        )
    )


def source(tasks: int) -> ScanSource:
    def groups() -> Iterator[tuple[Shard, ...]]:
        for i in range(tasks):
            yield (Shard(0, i * STEP, (i + 1) * STEP, fresh=i == 0),)

    return ScanSource([FileEntry("f", FileIdentity(0, 1, tasks * STEP, 0))], groups())


def empty(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
    """A task that does nothing but say that it read its shard."""
    reports: tuple[ScanReport, ...] = ()
    if task.shards is not None:
        (shard,) = task.shards.shards
        reports = (ScanReport(first=shard.begin, next=shard.end, records=1),)
    parts = task.stage.output.partitions if isinstance(task.stage.output, Hash) else 1
    return Done(task.id, task.attempt, tuple(BlockRef(-1, 1, 8) for _ in range(parts)), reports)


def drive(plan: Plan, tasks: int, engine: LocalEngine | None) -> None:
    driver = Driver(
        plan, {0: source(tasks)}, boundaries=boundaries, options=DriverOptions(), run="bench", now=0.0
    )
    while not driver.finished:
        new = driver.tasks(4 - driver.running, 0.0)
        if engine is None:
            for task in new:
                driver.on_result(empty(task, plan.functions, None), 0.0)  # type: ignore[arg-type]
        else:
            for task in new:
                engine.submit(task, plan.functions)
            for result in engine.poll(1.0):
                driver.on_result(result, 0.0)
        for released in driver.take_results():
            driver.consumed(released)
        driver.take_deletes()


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.load({"workers": 2, "memory": "64MiB", "spill_dir": Path(folder)}, env={})
        for title, make in (("scan to result", result_plan), ("scan to exchange", exchange_plan)):
            for engine in (None, LocalEngine(settings, "bench", work=empty)):
                clock = time.perf_counter()
                drive(make(), tasks, engine)
                took = time.perf_counter() - clock
                where = "driver alone" if engine is None else "local engine"
                print(f"{title:18} {where:13} {tasks:>9,} tasks  {took / tasks * 1e6:7.1f} µs each")
                if engine is not None:
                    engine.close()
            tracemalloc.start()
            drive(make(), tasks, None)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(f"{title:18} {'peak memory':13} {tasks:>9,} tasks  {peak / tasks:7.1f} bytes each")


if __name__ == "__main__":
    main()
