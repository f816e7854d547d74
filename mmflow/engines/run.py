"""Running a plan: the loop between the driver, an engine and the clock.

    with execute(plan, settings) as run:
        for batch in run: ...              # rows, in order, as they become final
        run.outcome                        # counts, files of a sink, bad records set aside

Invariant: however it ends (exhausted, closed early, an error, Ctrl-C), the engine is closed, which stops all
tasks within a second and removes all blocks. Batches that were handed out stay valid.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, cast

import pyarrow as pa

from mmflow.config import Settings
from mmflow.engines.base import Engine
from mmflow.engines.driver import Driver, DriverOptions, Released
from mmflow.engines.local import LocalEngine
from mmflow.engines.progress import Progress
from mmflow.engines.recording import Recorder
from mmflow.engines.rejects import located
from mmflow.engines.scans import ScanSource
from mmflow.engines.stragglers import Patience
from mmflow.errors import BlockLostError, ConfigError, EngineError, MmflowError
from mmflow.exec.compact import renamed
from mmflow.exec.kept import block
from mmflow.exec.ranges import boundaries
from mmflow.exec.stage import Plan, ScanInput, Source
from mmflow.mapping.forks import disown_in_children
from mmflow.shards import FileEntry, default_shard_size, entries, group_shards, plan_shards
from mmflow.sinks import StagedFile

__all__ = ["Outcome", "Run", "execute", "open_engine"]

#: Small whole files that one task may take together.
_FILES_PER_TASK = 256
_PROGRESS_SECONDS = 0.1
_WAIT_SECONDS = 0.1
#: A task must take at least this long before it is helped (`engines.stragglers`).
SLOW_SECONDS = 10.0
#: The rest of a shard is cut into parts of at least so many bytes.
PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run that reached its end leaves beside its rows.

    Attributes:
        progress: The last one: all counts.
        files: Of a plan that ends in Write: staged files of the attempts that count, to be committed.
        rejects: Bad records that `quarantine` set aside (`engines.rejects.SCHEMA`).
        inputs: The files that were read, with the identities that all tasks checked.
        reasons: Why files were mapped or read.
    """

    progress: Progress
    files: tuple[StagedFile, ...]
    rejects: tuple[pa.RecordBatch, ...]
    inputs: tuple[FileEntry, ...]
    reasons: tuple[str, ...]


def open_engine(settings: Settings, run: str) -> Engine:
    """The engine that `settings.engine` names, for one run.

    Raises:
        ConfigError: What it needs is not installed.
        EngineError: It can't be started.
    """
    if settings.engine == "local":
        return LocalEngine(settings, run)
    if settings.engine == "ray":
        with _installed("ray", "Ray"):
            from mmflow.engines.ray import RayEngine  # noqa: PLC0415  (only who asks for Ray needs it)
        return RayEngine(settings, run)
    with _installed("dask", "Dask"):
        from mmflow.engines.dask import DaskEngine  # noqa: PLC0415  (only who asks for Dask needs it)
    return DaskEngine(settings, run)


@contextlib.contextmanager
def _installed(extra: str, name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"engine {extra} needs {name}: pip install 'mmflow[{extra}]' ({error})") from error


def execute(
    plan: Plan,
    settings: Settings,
    *,
    engine: Engine | None = None,
    run: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    record: Recorder | None = None,
) -> Run:
    """Start a plan.

    Args:
        plan: What to run. The identities of its files are taken now.
        settings: Shard size, workers, memory, ...
        engine: Serves this run only, and is closed with it; None: the one of `settings`.
        run: Its name, as staged files carry it; None: made up.
        on_progress: Called about ten times a second while rows are asked for, and at the end.
        record: Keeps what is done, and knows what was: tasks that it knows are not run.

    Returns:
        An iterator over the batches of the result; nothing runs until the first is asked for.

    Raises:
        SourceError: A file is missing.
        SourceChangedError: A recorded run goes on, and a file is not what it was.
        EngineError: The engine can't be started.
    """
    name = run or uuid.uuid4().hex[:12]
    inputs = _inputs(plan)
    opened = engine or open_engine(settings, name)
    resources = opened.resources()
    options = DriverOptions(
        ahead=4 * resources.slots + 4,
        unread=2 * resources.slots + 2,
        unread_bytes=resources.memory // 4,
        retries=settings.retries,
        patience=Patience(slow_seconds=SLOW_SECONDS, part_bytes=PART_BYTES),
        max_bad_records=settings.max_bad_records,
    )

    def drive() -> Driver:
        return Driver(
            plan,
            _sources(plan, settings, inputs),
            boundaries=boundaries,
            options=options,
            run=name,
            now=time.monotonic(),
            record=record,
        )

    try:
        if record is not None:
            record.started(plan, name, _recorded(plan, inputs), resources.slots)
        return Run(_Loop(plan, drive, opened, tuple(inputs.values()), on_progress, record))
    except BaseException:
        opened.close()
        raise


def _scans(plan: Plan) -> Iterator[tuple[int, Source]]:
    """Sources by stage, of the files that are read."""
    for stage in plan.stages:
        scan = stage.inputs[0] if stage.inputs else None
        if isinstance(scan, ScanInput):
            yield stage.id, replace(scan.source, files=scan.files)


def _inputs(plan: Plan) -> dict[str, FileEntry]:
    """The files of all scans by path; a file that several read has one identity."""
    found: dict[str, FileEntry] = {}
    for storage in dict.fromkeys(source.storage for _, source in _scans(plan)):
        several = (s.files for _, s in _scans(plan) if s.storage == storage)
        paths = [path for path in dict.fromkeys(itertools.chain.from_iterable(several)) if path not in found]
        found.update(zip(paths, entries(paths, storage), strict=True))
    return found


def _recorded(plan: Plan, inputs: Mapping[str, FileEntry]) -> tuple[FileEntry, ...]:
    """The files that must be what they were when the run goes on."""
    found: dict[str, FileEntry] = {}
    for _, source in _scans(plan):
        if source.stands_for is None:
            found |= {path: inputs[path] for path in source.files}
        else:
            found |= zip(source.stands_for, entries(source.stands_for), strict=True)
    return tuple(found.values())


def _sources(plan: Plan, settings: Settings, inputs: Mapping[str, FileEntry]) -> dict[int, ScanSource]:
    """The shards of all scans."""
    sources: dict[int, ScanSource] = {}
    for stage, source in _scans(plan):
        files = [inputs[p] for p in source.files]
        scan = cast(ScanInput, plan.stages[stage].inputs[0])
        made = source.format
        nbytes = sum(entry.identity.size for entry in files)
        size = settings.shard_size or default_shard_size(nbytes, settings.workers)
        shards = itertools.chain.from_iterable(
            plan_shards(
                entry,
                number,
                shard_size=size,
                splittable=made.splittable,
                skips_holes=made.skips_holes,
            )
            for number, entry in enumerate(files)
        )
        groups = group_shards(shards, files, target_bytes=size, max_shards=_FILES_PER_TASK)
        sources[stage] = ScanSource(files, groups, size, len(scan.source.files) - len(files))
    return sources


class Run:
    """A plan that runs while its batches are asked for. An iterator, and a context manager that closes."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._rows = loop.batches()
        self.schema: pa.Schema = loop.plan.schema
        self.inputs = loop.inputs

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        self._loop.check_owner()
        return next(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and free everything but the batches that were handed out. Idempotent."""
        self._rows.close()
        self._loop.close()  # a generator that was never started runs no `finally`

    @property
    def outcome(self) -> Outcome:
        """What the run leaves beside its rows.

        Raises:
            EngineError: It has not reached its end.
        """
        if self._loop.outcome is None:
            raise EngineError("the run has not reached its end: read all its batches first")
        return self._loop.outcome

    @property
    def progress(self) -> Progress:
        """Where it stands."""
        return self._loop.progress()

    @property
    def rejects(self) -> tuple[pa.RecordBatch, ...]:
        """Bad records that were set aside, by a run that has ended, also one that failed (`engines.rejects.SCHEMA`)."""
        return self._loop.rejects

    def finish(self) -> Outcome:
        """Run to the end, dropping rows: for plans that write."""
        for _ in self:
            pass
        return self.outcome


class _Loop:
    """Joins driver, engine and clock. Knows no `Run`: one that is dropped is freed, and closed, at once."""

    def __init__(
        self,
        plan: Plan,
        drive: Callable[[], Driver],
        engine: Engine,
        inputs: tuple[FileEntry, ...],
        on_progress: Callable[[Progress], None] | None,
        record: Recorder | None,
    ) -> None:
        self.plan = plan
        self.engine = engine
        self.inputs = inputs
        self.outcome: Outcome | None = None
        self.rejects: tuple[pa.RecordBatch, ...] = ()
        self._drive = drive
        self._driver = drive()
        self._on_progress = on_progress
        self._record = record
        self._told = 0.0
        self._limit = plan.stages[-1].limit
        self._given = False
        self._foreign = False  # this process is a fork of the one that runs the plan
        disown_in_children(self)

    def disown(self) -> None:
        """Leave the run to the process that started it: its threads, clients and folders are not a forked child's."""
        self._foreign = True

    def check_owner(self) -> None:
        """Check that this process started the run.

        Raises:
            EngineError: It is a fork of the one that did.
        """
        if self._foreign:
            raise EngineError(
                "this run belongs to the process that forked this one; read its rows there, or start a run here in a "
                "process that was started with spawn"
            )

    def close(self) -> None:
        """Stop the engine, and free what it holds. Idempotent."""
        if not self._foreign:
            self.engine.close()

    def progress(self) -> Progress:
        return self._driver.progress(time.monotonic())

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Run the plan."""
        try:
            while self.outcome is None:
                try:
                    yield from self._driven()
                    self.outcome = self._finished()
                except BlockLostError as error:
                    if not self._restarted(error):
                        raise
            self._tell(last=True)
        except MmflowError:
            with contextlib.suppress(MmflowError):
                self.rejects = self._rejects()
            with contextlib.suppress(MmflowError):  # `error` says better what ended the run
                self._tell(last=True)
            raise
        finally:
            if not self._foreign:
                self._driver.abort()
            self.close()

    def _driven(self) -> Iterator[pa.RecordBatch]:
        driver = self._driver
        while not driver.finished:
            for released in driver.take_results():
                yield from self._rows(released)
                driver.consumed(released)
                self._step(0.0)
            if not driver.finished:
                self._step(self._pause())

    def _restarted(self, error: BlockLostError) -> bool:
        """Go on from the record, without what was lost; not if rows were given away, that would come again."""
        lost = error.context.get("kept")
        if (
            self._record is None
            or lost is None
            or self._given
            or not self._record.restarting(lost, str(error))
        ):
            return False
        self._driver.abort()
        self._let_go()
        self._driver = self._drive()
        return True

    def _rows(self, released: Released) -> Iterator[pa.RecordBatch]:
        if released.block is not None:
            for batch in block(self.engine.store(), released.block):
                wanted = batch if self._limit is None else batch.slice(0, self._limit)
                if self._limit is not None:
                    self._limit -= wanted.num_rows
                if wanted.num_rows:
                    self._given = True
                    yield renamed(wanted, self.plan.schema)
                    self._tell()

    def _step(self, timeout: float) -> None:
        """Submit what may start, and take in what has ended; waits for up to `timeout` seconds for it."""
        driver = self._driver
        # Twice as many as run at once, so that workers don't wait while rows are being read.
        slots = self.engine.resources().slots
        made = driver.tasks(2 * slots - driver.running, time.monotonic(), idle=slots - driver.running)
        for task in made:
            self.engine.submit(task, self.plan.functions)
        if not made and driver.stuck:
            raise EngineError(f"bug: the run can't go on: {self.progress()}; please report it")
        if driver.running or driver.next_due() is not None:
            for result in self.engine.poll(timeout):
                driver.on_result(result, time.monotonic())
        self._tidy()
        self._tell()

    def _tidy(self) -> None:
        self._let_go()
        if self._record is not None:
            for event, facts in self._driver.notes.take_events():
                self._record.event(event, **facts)
            finished, read = self._driver.notes.take_finished()
            for task in finished:
                self._record.finished(task)
            for stage in read:
                self._record.read(stage)
        if self._driver.error is not None:
            raise self._driver.error

    def _let_go(self) -> None:
        for task, attempt in self._driver.take_cancels():
            self.engine.cancel(task, attempt)
        for task, attempt in self._driver.take_hand_ins():
            self.engine.hand_in(task, attempt)
        for ref in self._driver.take_deletes():
            self.engine.store().delete(ref)

    def _pause(self) -> float:
        # Not longer, since a signal that another thread was given doesn't wake a waiting main thread.
        due = self._driver.next_due()
        return _WAIT_SECONDS if due is None else min(_WAIT_SECONDS, max(0.0, due - time.monotonic()))

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            progress = self._driver.progress(now)
            if self._on_progress is not None:
                self._on_progress(progress)
            if self._record is not None:
                self._record.tick(progress, last=last)

    def _finished(self) -> Outcome:
        self.rejects = self._rejects()
        return Outcome(
            progress=self.progress(),
            files=tuple(self._driver.files),
            rejects=self.rejects,
            inputs=self.inputs,
            reasons=tuple(self._driver.totals.reasons),
        )

    def _rejects(self) -> tuple[pa.RecordBatch, ...]:
        store = self.engine.store()
        every = self._driver.totals.quarantined
        return tuple(b for q in every for b in located(block(store, q.block), q.before))
