"""An engine of the world: each attempt is a process, which reads toy files and writes real staging files and checkpoints."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from mmflow.blocks.checkpoints import read_checkpoint, write_checkpoint
from mmflow.blocks.references import BlockRef, CheckpointBlock, LocalBlock
from mmflow.engines.protocol import Resources
from mmflow.errors import EngineError, MmflowError, SourceChangedError, WorkerLostError
from mmflow.plan.stages import ExchangeInput, Forward, Functions, ScanInput, Write
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost
from mmflow.sinks import SinkAttempt, open_sink
from tests.scheduler import toy
from tests.simulation.world import Process, Thread, World

__all__ = ["Files", "SimulatedEngine"]

_SLOTS = 2
#: A worker that is silent for so long is killed, as engines do it with processes that are stopped.
_SILENT_SECONDS, _KILLED_SECONDS = 20.0, 60.0


class Files:
    """Toy files, in the versions that were on disk."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], toy.ToyFile] = {}

    def put(self, file: toy.ToyFile, version: int) -> None:
        """Write a version of a file."""
        with open(file.path, "wb", buffering=0) as out:
            out.write(bytes(file.size))
        os.utime(file.path, ns=(version, version))
        self._versions[file.path, version] = file

    def now(self, path: str) -> toy.ToyFile:
        return self._versions[path, os.stat(path).st_mtime_ns]


class Blocks:
    """`BlockStore` of rows in memory, each deleted once; those of a worker that dies before it answers go with it."""

    def __init__(self, world: World) -> None:
        self.rows: dict[int, list[int]] = {}
        self._world = world
        self._made = 0
        self._unanswered: dict[Process, list[int]] = {}

    def put_rows(self, rows: list[int]) -> BlockRef | None:
        if not rows:
            return None
        self._made += 1
        self.rows[self._made] = rows
        self._unanswered.setdefault(self._world.current(), []).append(self._made)
        return LocalBlock(self._made, len(rows), 8 * len(rows))

    def rows_of(self, ref: BlockRef) -> list[int]:
        if isinstance(ref, CheckpointBlock):
            return [row for batch in read_checkpoint(ref) for row in batch.column(0).to_pylist()]
        number = cast(LocalBlock, ref).number
        if number not in self.rows:  # a late attempt, whose inputs are read already
            raise EngineError(f"block {number} is gone")
        return self.rows[number]

    def put(self, batches: Any, schema: pa.Schema) -> BlockRef:
        raise NotImplementedError

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        return [_batch(self.rows_of(ref))]

    def delete(self, ref: BlockRef) -> None:
        # What a killed worker did here, in the blocks that it unwinds through, no real worker would do.
        if not isinstance(ref, CheckpointBlock) and self._world.current().alive:
            del self.rows[cast(LocalBlock, ref).number]  # KeyError: deleted twice

    def answered(self, worker: Process) -> None:
        """Leave the blocks of a worker to whoever takes its answer."""
        self._unanswered.pop(worker, None)

    def lose(self, worker: Process) -> None:
        """Drop the blocks of a worker that died before it answered."""
        for number in self._unanswered.pop(worker, ()):
            self.rows.pop(number, None)  # it may have deleted some of them


def _batch(rows: list[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(rows, pa.int64())], schema=toy.ROWS)


class SimulatedEngine:
    """`Engine` whose workers are processes of a world.

    Args:
        cluster: Whether workers outlive a driver that dies, as those of clusters do for a while.
        leaves: Whether workers leave, after their tasks have stopped early.
    """

    def __init__(self, world: World, files: Files, *, cluster: bool, leaves: bool = False) -> None:
        self._world = world
        self._files = files
        self._cluster = cluster
        self._leaves = leaves
        self._driver = world.current()
        self._waiting: Thread | None = None
        self._results: list[TaskResult] = []
        self._workers: dict[tuple[TaskId, int], Process] = {}
        self._uncounted: list[Process] = []
        self._began: dict[tuple[TaskId, int], float] = {}
        self._stops: set[tuple[TaskId, int]] = set()
        self._blocks = Blocks(world)
        self._closed = False

    def resources(self) -> Resources:
        return Resources(_SLOTS, 1 << 26)

    def submit(self, task: Task, functions: Functions) -> None:
        del functions
        key = (task.id, task.attempt)
        assert key not in self._workers, "an attempt is submitted once"
        suffers = self._world.enter("task", "submit", f"{task.id.stage}/{task.id.label}-a{task.attempt}")
        self._start(task, 0.0)
        if suffers == "twice":  # the engine takes its worker for dead, and runs the attempt again
            self._start(task, 0.6 * self._world.random.random(), counts=self._world.random.random() < 0.5)

    def _start(self, task: Task, after: float, *, counts: bool = True) -> None:
        key = (task.id, task.attempt)
        self._began[key] = self._world.now
        owner = None if self._cluster else self._driver
        worker = self._world.start(
            f"{self._driver.name}.{task.id.stage}.{task.id.label}.{task.attempt}",
            lambda: self._work(worker, task),
            at=after,
            host=self._driver.host,
            owner=owner,
        )
        if counts:
            if key in self._workers:  # it goes on, and nobody waits for it
                self._uncounted.append(self._workers[key])
            self._workers[key] = worker
        else:
            self._uncounted.append(worker)
        worker.on_death = lambda: self._lost(worker, key)

    def _lost(self, worker: Process, key: tuple[TaskId, int]) -> None:
        self._blocks.lose(worker)
        if self._workers.get(key) is worker:
            del self._workers[key]
            self._answer(WorkerLost(*key, "killed"))

    def _answer(self, result: TaskResult) -> None:
        self._results.append(result)
        if self._waiting is not None and self._driver.alive:
            self._world.wake(self._waiting)

    def poll(self, timeout: float, enough: int = 1) -> Sequence[TaskResult]:
        self._world.enter("task", "poll")
        self._kill_silent()
        if not self._results and timeout > 0:
            self._waiting = self._driver.threads[0]
            self._world.wait(timeout, "poll")
            self._waiting = None
            self._kill_silent()
        results, self._results = self._results, []
        return results

    def _kill_silent(self) -> None:
        for key, worker in list(self._workers.items()):
            if self._world.now - self._began[key] > _KILLED_SECONDS:
                self._world.kill(worker, "is silent")

    def cancel(self, task: TaskId, attempt: int) -> None:
        worker = self._workers.pop((task, attempt), None)
        if worker is not None:
            self._world.kill(worker, "cancelled")
            self._answer(Cancelled(task, attempt))

    def request_stop(self, task: TaskId, attempt: int) -> None:
        self._stops.add((task, attempt))

    def silent(self) -> Collection[tuple[TaskId, int]]:
        return [key for key in self._workers if self._world.now - self._began[key] > _SILENT_SECONDS]

    def movement(self, after: float) -> Mapping[tuple[TaskId, int], None]:
        del after  # stalls are injected into real engines (tests/engines/test_engines_stalls.py)
        return dict.fromkeys(self._workers)

    def store(self) -> Blocks:
        return self._blocks

    def blocks_left(self) -> int:
        """Return the number of blocks that nobody has deleted, once all workers have ended."""
        busy = any(worker.alive for worker in (*self._workers.values(), *self._uncounted))
        return 0 if busy else len(self._blocks.rows)

    def close(self) -> None:
        if self._closed or not self._driver.alive:
            return
        self._closed = True
        for worker in list(self._workers.values()):
            self._world.kill(worker, "closed")
        self._workers.clear()

    # ---- workers ------------------------------------------------------------------------------------------

    def _work(self, worker: Process, task: Task) -> None:
        key = (task.id, task.attempt)
        luck = zlib.crc32(repr((worker.name, self._world.random.random())).encode()) % 1000 / 1000
        self._world.wait(0.01 + 0.5 * luck, "work")
        try:
            self._world.enter("task", "run", worker.name)
            stops = key in self._stops or (self._leaves and task.stops_on_drain and luck % 0.1 < 0.03)
            result = self._run(task, key, stops=stops)
        except MmflowError as error:
            result = Failed(*key, error)
        except OSError as error:
            result = Failed(*key, WorkerLostError(f"the worker failed: {error}"))
        self._blocks.answered(worker)
        if self._workers.get(key) is worker:
            del self._workers[key]
            self._answer(result)
        elif isinstance(result, Done):  # an engine drops what it does not wait for
            for ref in result.blocks:
                self._blocks.delete(ref)

    def _run(self, task: Task, key: tuple[TaskId, int], *, stops: bool) -> TaskResult:
        rows, reports, resume = self._read(task, stops=stops)
        if isinstance(rows, MmflowError):
            return Failed(*key, rows)
        if isinstance(task.stage.output, Write):
            spec = task.stage.output.sink
            attempt = SinkAttempt(task.run, task.id.stage, task.id.number, task.attempt, task.id.part)
            sink = open_sink(spec, self._world.root, 1 << 20)
            files = sink.write(self._batches(rows), toy.ROWS, attempt)
            outputs: tuple[BlockRef | None, ...] = ()
        else:
            files = ()
            outputs = tuple(self._blocks.put_rows(part) for part in toy.split(rows, task))
        try:
            sample = toy.sample(rows) if isinstance(task.stage.output, Forward) and rows else None
            checkpoint = None
            if task.checkpoint_path:
                checkpoint = write_checkpoint(
                    task.checkpoint_path,
                    task.attempt,
                    outputs,
                    None,
                    sample,
                    toy.ROWS,
                    self._blocks,
                    self._world.root,
                )
        except BaseException:
            for ref in outputs:
                if ref is not None:
                    self._blocks.delete(ref)
            raise
        return Done(
            *key,
            outputs,
            tuple(reports),
            sample=sample,
            files=files,
            checkpoint=checkpoint,
            resume_offset=resume,
        )

    def _batches(self, rows: list[int]) -> Iterator[pa.RecordBatch]:
        for begin in range(0, len(rows), 4):
            self._world.enter("task", "batch")
            yield _batch(rows[begin : begin + 4])

    def _read(self, task: Task, *, stops: bool) -> tuple[Any, list[Any], int | None]:
        first = task.stage.inputs[0]
        reports: list[Any] = []
        rows: list[int] = []
        resume: int | None = None
        if not isinstance(first, ScanInput):
            assert isinstance(first, ExchangeInput)
            return (
                [row for ref in task.blocks[first.name] for row in self._blocks.rows_of(ref)],
                reports,
                None,
            )
        assert task.shards is not None
        for shard in task.shards.shards:
            entry = task.shards.files[shard.file]
            try:
                status = os.stat(entry.path)
            except OSError as error:
                raise SourceChangedError(f"{entry.path} is gone", path=entry.path) from error
            if (status.st_size, status.st_mtime_ns) != (entry.identity.size, entry.identity.mtime_ns):
                raise SourceChangedError(f"{entry.path} changed", path=entry.path, errno=errno.ESTALE)
            most = 1 if stops and len(task.shards.shards) == 1 else None
            found, report = toy.read(self._files.now(entry.path), shard, None, most)
            if report is None:
                return WorkerLostError("garbage does not fit its type"), [], None
            rows += found
            reports.append(report)
            if report.error is not None:
                break
            if most is not None and report.records == most and report.next < shard.end:
                resume = report.next
        return rows, reports, resume
