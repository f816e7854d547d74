"""Costs of the scheduler per task: the scheduler alone, the local engine, Ray and Dask; and a walk over a petabyte.

    python benchmarks/driver_overhead.py [--tasks 10000] [--engines local,ray,dask] [--walk 8000000]

Empty tasks say that they read their shard, and do nothing: through the scheduler alone, and through the
local engine's threads. Page tasks take the whole way of a real one, on every engine, with nearly no work: each maps
one page of a sparse file, gathers the one number in it, and puts that as its block. Prints microseconds per task and
the memory that the scheduler holds, for a scan whose rows go straight to the result and for one that feeds an
exchange of 8 partitions. Clusters have two cores, and have run some such tasks before.

The walk plans so many shards of 128 MiB, in files of 8 TiB that need not exist, and drives them as empty tasks: its
memory must not depend on their number.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from local_clusters import CORES, dask_cluster, ray_cluster

from mmflow.blocks.references import LocalBlock
from mmflow.config import Settings
from mmflow.engines.local import LocalEngine
from mmflow.engines.loop import execute
from mmflow.engines.opening import open_engine
from mmflow.engines.protocol import Engine
from mmflow.formats import ScanReport, open_format
from mmflow.mapping import FileIdentity
from mmflow.plan.stages import ExchangeInput, Functions, Hash, Plan, Result, ScanInput, Source, Stage
from mmflow.plan.tasks import Done, Task, TaskResult
from mmflow.scheduler.scans import ScanSource
from mmflow.scheduler.scheduler import Scheduler, SchedulerOptions
from mmflow.shards import FileEntry, Shard, group_shards, plan_shards
from mmflow.worker.context import WorkerContext
from mmflow.worker.range_partition import boundaries

SCHEMA = pa.schema([("id", pa.int64())])
PAGE = 4096
STEP = 128 << 20
FILE = 8 << 40
WARM_UP = 200


def scan(path: str) -> ScanInput:
    layout = [{"name": "id", "type": "int64", "offset": 0, "order": "little"}]
    records = open_format("records", [path], layout=layout, record_size=PAGE)
    return ScanInput("t", Source((path,), records, "bench"), ("id",))


def result_plan(path: str = __file__) -> Plan:
    return Plan((Stage(0, (scan(path),), (), Result(), SCHEMA),))


def exchange_plan(path: str = __file__) -> Plan:
    return Plan(
        (
            Stage(0, (scan(path),), (), Hash((0,), 8), SCHEMA),
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
    return Done(task.id, task.attempt, tuple(LocalBlock(-1, 1, 8) for _ in range(parts)), reports)


def new_scheduler(plan: Plan, shards: ScanSource, engine: LocalEngine | None) -> None:
    scheduler = Scheduler(
        plan, {0: shards}, boundaries=boundaries, options=SchedulerOptions(), run="bench", now=0.0
    )
    while not scheduler.finished:
        new = scheduler.tasks(4 - scheduler.running, 0.0)
        if engine is None:
            for task in new:
                scheduler.on_result(empty(task, plan.functions, None), 0.0)  # type: ignore[arg-type]  # no engine: it is not used
        else:
            for task in new:
                engine.submit(task, plan.functions)
            for result in engine.poll(1.0):
                scheduler.on_result(result, 0.0)
        for released in scheduler.take_results():
            scheduler.consumed(released)
        scheduler.take_deletes()


def pages(make: Callable[[str], Plan], path: Path, tasks: int, settings: Settings, engine: Engine) -> None:
    """Run page tasks on an engine, which is closed."""
    with path.open("wb") as file:
        file.truncate(tasks * PAGE)  # records of zeros: nothing is written, and holes are data to this format
    with execute(make(str(path)), settings, lambda *_: engine) as run:
        rows = sum(batch.num_rows for batch in run)
    if rows != tasks:
        raise AssertionError(f"{rows:,} rows of {tasks:,} tasks")


@contextlib.contextmanager
def cluster(engine: str) -> Iterator[str | None]:
    """The address of a cluster for an engine; none for the local one."""
    with {"local": contextlib.nullcontext, "ray": ray_cluster, "dask": dask_cluster}[engine]() as address:
        yield address


def report(title: str, where: str, tasks: int, seconds: float) -> None:
    print(f"{title:18} {where:26} {tasks:>9,} tasks  {seconds / tasks * 1e6:8.1f} µs each", flush=True)


PLANS = {"scan to result": result_plan, "scan to exchange": exchange_plan}


def empty_tasks(tasks: int, settings: Settings) -> None:
    for title, make in PLANS.items():
        for engine in (None, LocalEngine(settings, "bench", work=empty)):
            clock = time.perf_counter()
            new_scheduler(make(), source(tasks), engine)
            where = "empty, scheduler alone" if engine is None else "empty, local engine"
            report(title, where, tasks, time.perf_counter() - clock)
            if engine is not None:
                engine.close()
        tracemalloc.start()
        new_scheduler(make(), source(tasks), None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"{title:18} {'scheduler alone, peak memory':26} {tasks:>9,} tasks  {peak / tasks:8.1f} bytes each"
        )


def page_tasks(name: str, tasks: int, settings: dict[str, Any], folder: Path) -> None:
    with cluster(name) as address:
        loaded = Settings.load({**settings, "engine": name, "address": address, "shard_size": PAGE}, env={})
        for title, make in PLANS.items():
            for count in (min(WARM_UP, tasks), tasks):
                engine = open_engine(loaded, f"bench-{count}")
                clock = time.perf_counter()
                pages(make, folder / f"pages-{count}.bin", count, loaded, engine)
                seconds = time.perf_counter() - clock
            report(title, f"page, {name} engine", tasks, seconds)


def shards_of(count: int) -> ScanSource:
    """The plan of so many shards, as `engines.loop` makes it."""
    whole, rest = divmod(count * STEP, FILE)
    sizes = [FILE] * whole + [rest] * bool(rest)
    files = [FileEntry(f"f{i}", FileIdentity(0, i + 1, size, 0)) for i, size in enumerate(sizes)]

    def shards() -> Iterator[Shard]:
        for number, entry in enumerate(files):
            yield from plan_shards(entry, number, shard_size=STEP, splittable=True, skips_holes=False)

    return ScanSource(files, group_shards(shards(), files, target_bytes=STEP, max_shards=256))


def most_memory() -> int:
    """Bytes of memory that this process had at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def walk(count: int) -> None:
    """Plan and drive very many shards. Tracing makes everything slower, so that it is done on a part of them."""
    title = "walk"
    clock = time.perf_counter()
    planned = sum(len(group) for group in shards_of(count).groups)
    report(title, "planned alone", planned, time.perf_counter() - clock)
    before = most_memory()
    clock = time.perf_counter()
    new_scheduler(result_plan(), shards_of(count), None)
    report(title, "planned and driven", count, time.perf_counter() - clock)
    print(
        f"{title:18} {'peak memory of all':26} {count:>9,} tasks  {(most_memory() - before) / 1e6:8.1f} MB more"
    )
    for part in (count // 80, count // 8):
        tracemalloc.start()
        new_scheduler(result_plan(), shards_of(part), None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"{title:18} {'driven, traced peak':26} {part:>9,} tasks  {peak / 1e3:8.1f} kB in all", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--engines", default="local,ray,dask")
    parser.add_argument("--walk", type=int, default=8_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"workers": CORES, "memory": "256MiB", "spill_dir": folder}
        if options.walk:
            walk(options.walk)  # before anything else has needed more memory than it may
        empty_tasks(options.tasks, Settings.load(settings, env={}))
        for engine in filter(None, options.engines.split(",")):
            page_tasks(engine, options.tasks, settings, folder)


if __name__ == "__main__":
    main()
