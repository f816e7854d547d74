"""Loop of a run: it connects the scheduler, an engine and the clock.

    with execute(plan, settings, open_engine) as run:
        for batch in run: ...              # rows, in order, as they become final
        run.outcome                        # counts, files of a sink, quarantined records

Invariant: however it ends (exhausted, closed early, an error, Ctrl-C), the engine is closed, which stops all
tasks within a second and removes all blocks. Batches that were returned stay valid.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, cast

import pyarrow as pa

from mmflow.config import Settings
from mmflow.engines.protocol import Engine
from mmflow.errors import (
    BlockLostError,
    ConfigError,
    EngineError,
    MmflowError,
    PlanError,
    SilentServerWarning,
    StalledWarning,
)
from mmflow.formats.base import Format
from mmflow.formats.decoding.compact import rename_columns
from mmflow.formats.decoding.scan import (
    contents_entry,
    is_compressed_text,
    is_splittable,
    located_shards,
    look_at_head,
)
from mmflow.formats.rejects import locate_rejects
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.answering import FAIL_SECONDS, WARN_SECONDS, ServerProbe
from mmflow.mapping.system.forks import disown_in_children
from mmflow.plan.stages import FilesInput, Plan, ScanInput, Source, Write
from mmflow.scheduler.progress import Progress
from mmflow.scheduler.recorder import Recorder
from mmflow.scheduler.scans import ScanSource
from mmflow.scheduler.scheduler import Released, Scheduler, SchedulerOptions
from mmflow.scheduler.speculation import Patience
from mmflow.scheduler.stages import Attempt
from mmflow.scheduler.stream_feed import StreamFeed
from mmflow.scheduler.watchdog import Limits
from mmflow.shards import FileEntry, default_shard_size, group_shards, identify_files, plan_shards
from mmflow.sinks import StagedFile
from mmflow.storage.url import is_url
from mmflow.streams import StreamLimits, stream_of
from mmflow.worker.range_partition import boundaries

__all__ = ["Outcome", "Run", "execute", "plan_inputs", "plan_sources"]

Clock = Callable[[], float]

#: Small whole files that one task may take together.
_FILES_PER_TASK = 256
#: Bytes of compressed files that are one shard where no size of shards is set.
_SMALL = 1 << 20
_PROGRESS_SECONDS = 0.1
_WAIT_SECONDS = 0.1
_STREAM_SECONDS = 0.005
#: A task must take at least this long before it is helped (`scheduler.speculation`).
SLOW_SECONDS = 10.0
#: After so many seconds in which no task ended, the folders that they read and write are looked at.
QUIET_SECONDS = 20.0
#: The rest of a shard is cut into parts of at least so many bytes.
PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a run that reached its end, beside its rows.

    Attributes:
        progress: Last progress: all counts.
        files: Staged files of the attempts that count, to be committed, if the plan ends in Write.
        rejects: Quarantined records (`formats.rejects.SCHEMA`).
        inputs: Files that were read, with the identities that all tasks checked.
        reasons: Reasons why files were mapped or read.
    """

    progress: Progress
    files: tuple[StagedFile, ...]
    rejects: tuple[pa.RecordBatch, ...]
    inputs: tuple[FileEntry, ...]
    reasons: tuple[str, ...]


def execute(
    plan: Plan,
    settings: Settings,
    open_engine: Callable[[Settings, str], Engine],
    *,
    run: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    record: Recorder | None = None,
    clock: Clock = time.monotonic,
) -> Run:
    """Start a plan.

    Args:
        plan: Plan to run. The identities of its files are taken now.
        settings: Shard size, workers, memory, ...
        open_engine: Opens an engine for these settings and the name of the run; it is closed with the run.
        run: Its name, as staged files carry it; None: made up.
        on_progress: Called about ten times a second while rows are asked for, and at the end.
        record: Recorder of the run: tasks that it knows are not run.
        clock: Returns the time, in seconds, by which tasks pause after failures and count as slow.

    Returns:
        An iterator over the batches of the result; nothing runs until the first is asked for.

    Raises:
        SourceError: A file is missing.
        SourceChangedError: A recorded run continues, and a file has changed.
        EngineError: The engine can't be started.
    """
    import uuid  # noqa: PLC0415  (slow)

    name = run or uuid.uuid4().hex[:12]
    _check_streams(plan, settings)
    inputs = plan_inputs(plan)
    engine = open_engine(settings, name)
    resources = engine.resources()
    options = SchedulerOptions(
        ahead=4 * resources.slots + 4,
        unread=2 * resources.slots + 2,
        unread_bytes=resources.memory // 4,
        retries=settings.retries,
        patience=Patience(slow_seconds=SLOW_SECONDS, part_bytes=PART_BYTES),
        stalls=Limits(settings.named_after, settings.stall_timeout),
        max_bad_records=settings.max_bad_records,
    )

    feeds: list[StreamFeed] = []

    def new_scheduler() -> Scheduler:
        sources = plan_sources(plan, settings, inputs, streamed=record is None and settings.engine == "local")
        feeds.extend(source.stream for source in sources.values() if source.stream is not None)
        return Scheduler(
            plan,
            sources,
            boundaries=boundaries,
            options=options,
            run=name,
            now=clock(),
            record=record,
        )

    try:
        if record is not None:
            record.begin_plan(plan, name, _recorded(plan, inputs), resources.slots)
        after, files = settings.named_after, tuple(inputs.values())
        return Run(_Loop(plan, new_scheduler, engine, files, on_progress, record, clock, after, feeds))
    except BaseException:
        for feed in feeds:
            feed.close()
        engine.close()
        raise


def _scans(plan: Plan) -> Iterator[tuple[int, Source]]:
    """Yield the sources by stage, with the files that are read."""
    for stage in plan.stages:
        scan = stage.inputs[0] if stage.inputs else None
        if isinstance(scan, ScanInput):
            source, files = scan.source, scan.files
            yield stage.id, source if files is source.files else replace(source, files=files)


def _sources_read(plan: Plan) -> Iterator[Source]:
    """Yield all sources of files, with the files that are read."""
    yield from (source for _, source in _scans(plan))
    yield from (given.source for given in _files_inputs(plan))


def _files_inputs(plan: Plan) -> Iterator[FilesInput]:
    return (given for stage in plan.stages for given in stage.inputs if isinstance(given, FilesInput))


def plan_inputs(plan: Plan) -> dict[str, FileEntry]:
    """Return the files of all scans by path; a file that several read has one identity."""
    found = {entry.path: entry for given in _files_inputs(plan) for entry in given.files}
    for storage in dict.fromkeys(source.storage for _, source in _scans(plan)):
        several = (s.files for _, s in _scans(plan) if s.storage == storage)
        paths = [path for path in dict.fromkeys(itertools.chain.from_iterable(several)) if path not in found]
        found.update(zip(paths, identify_files(paths, storage), strict=True))
    return found


def _check_streams(plan: Plan, settings: Settings) -> None:
    """Check that the streams among the inputs can be read as the plan wants.

    Raises:
        ConfigError: A stream would be read by workers elsewhere.
        PlanError: A stream would be read twice.
    """
    paths = [path for _, source in _scans(plan) for path in source.files if stream_of(path) is not None]
    if paths and settings.engine != "local":
        raise ConfigError(
            f"{paths[0]} is a stream of this process, and the workers of engine {settings.engine} can't read it: use "
            "the local engine (--engine local), or save the stream to a file that all workers see"
        )
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise PlanError(
            f"the query reads {twice} {paths.count(twice)} times (a join with itself, several subqueries, or a UNION), "
            "and a stream is read once: save it to a file first (`cat > data.csv`), and query that"
        )


def _recorded(plan: Plan, inputs: Mapping[str, FileEntry]) -> tuple[FileEntry, ...]:
    """Return the files that must not have changed when the run is resumed."""
    found: dict[str, FileEntry] = {}
    for source in _sources_read(plan):
        if source.stands_for is None:
            found |= {path: inputs[path] for path in source.files}
        else:
            found |= zip(source.stands_for, identify_files(source.stands_for), strict=True)
    return tuple(found.values())


def plan_sources(
    plan: Plan, settings: Settings, inputs: Mapping[str, FileEntry], *, streamed: bool = False
) -> dict[int, ScanSource]:
    """Return the shards of all scans.

    Args:
        plan: The plan.
        settings: Shard size, workers, memory, ...
        inputs: Files by path.
        streamed: Whether tasks run in this process, and no later run needs the same shards, so that the contents of a
            compressed file may be a stream.
    """
    sources: dict[int, ScanSource] = {}
    alone = sum(1 for _ in _scans(plan)) == 1
    for stage, source in _scans(plan):
        files = [inputs[p] for p in source.files]
        scan = cast(ScanInput, plan.stages[stage].inputs[0])
        made = source.format
        stream = stream_of(source.files[0]) if source.files else None
        if stream is not None:
            limits = StreamLimits.of(settings.memory, settings.workers, settings.shard_size)
            feed = StreamFeed(stream, limits, whole=not made.record_oriented)
            sources[stage] = ScanSource(files, (), stream=feed)
            continue
        files = [
            contents_entry(made, entry, settings.remote_options, settings.shard_size or _SMALL, here=streamed)
            for entry in files
        ]
        pruned, skipped = len(scan.source.files) - len(files), len(scan.source.skipped)
        if (
            streamed
            and alone
            and settings.workers > 1
            and len(files) == 1
            and is_compressed_text(made, *files)
        ):
            writes = any(isinstance(other.output, Write) for other in plan.stages)
            sources[stage] = replace(
                _contents_source(made, files[0], settings, writes=writes), pruned=pruned, skipped=skipped
            )
            continue
        nbytes = sum(entry.identity.size for entry in files)
        size = settings.shard_size or default_shard_size(nbytes, settings.workers)
        shards = itertools.chain.from_iterable(
            located_shards(
                made,
                entry,
                plan_shards(
                    entry,
                    number,
                    shard_size=size,
                    splittable=is_splittable(made, entry, size, settings.remote_options),
                    skips_holes=made.skips_holes,
                ),
                settings.remote_options,
            )
            for number, entry in enumerate(files)
        )
        groups = group_shards(shards, files, target_bytes=size, max_shards=_FILES_PER_TASK)
        sources[stage] = ScanSource(files, groups, size, pruned, skipped)
    return sources


def _contents_source(form: Format, entry: FileEntry, settings: Settings, *, writes: bool) -> ScanSource:
    """Return a compressed file as a stream of its contents. Where tasks write files, blocks are as large as may be."""
    from mmflow.streams.contents import (  # noqa: PLC0415  (most files are plain)
        WRITTEN_BLOCK,
        ContentsStream,
    )

    most = WRITTEN_BLOCK if writes else StreamLimits.BLOCK
    limits = StreamLimits.of(settings.memory, settings.workers, settings.shard_size, most)
    contents = ContentsStream(entry.path, entry.identity, grows=not writes)
    try:
        look_at_head(form, contents.open())
    except BaseException:
        contents.close()
        raise
    feed = StreamFeed(contents, limits, whole=False)
    return ScanSource([FileEntry(entry.path, contents.identity)], (), stream=feed)


class Run:
    """Running plan: an iterator over its batches, and a context manager that closes it."""

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
        """Stop, and free everything but the batches that were returned. Idempotent."""
        self._rows.close()
        self._loop.close()  # a generator that was never started runs no `finally`

    @property
    def outcome(self) -> Outcome:
        """Outcome of the run, beside its rows.

        Raises:
            EngineError: It has not reached its end.
        """
        if self._loop.outcome is None:
            raise EngineError("the run has not reached its end: read all its batches first")
        return self._loop.outcome

    @property
    def rejects(self) -> tuple[pa.RecordBatch, ...]:
        """Quarantined records of a run that has ended, also one that failed (`formats.rejects.SCHEMA`)."""
        return self._loop.rejects


class _Loop:
    """Loop that joins scheduler, engine and clock. Knows no `Run`, so one that is dropped is closed at once."""

    def __init__(
        self,
        plan: Plan,
        new_scheduler: Callable[[], Scheduler],
        engine: Engine,
        inputs: tuple[FileEntry, ...],
        on_progress: Callable[[Progress], None] | None,
        record: Recorder | None,
        clock: Clock,
        stall_after: float,
        feeds: Sequence[StreamFeed],
    ) -> None:
        self.plan = plan
        self.engine = engine
        self.inputs = inputs
        self.outcome: Outcome | None = None
        self.rejects: tuple[pa.RecordBatch, ...] = ()
        self._new_scheduler = new_scheduler
        self._scheduler = new_scheduler()
        self._on_progress = on_progress
        self._record = record
        self._clock = clock
        self._reported = 0.0
        self._stall_after = stall_after
        self._stalled: list[Attempt] = []
        self._quiet = _Quiet(_touched(plan), clock)
        self._limit = plan.stages[-1].limit
        self._rows_returned = False
        self._feeds = feeds
        self._streams = tuple(filter(None, (stream_of(entry.path) for entry in inputs)))
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
            for stream in self._streams:  # which tasks may wait for
                stream.close()
            for feed in self._feeds:
                feed.close()
            self.engine.close()

    def progress(self) -> Progress:
        return self._scheduler.progress(self._clock())

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
            self._report_progress(last=True)
        except MmflowError:
            with contextlib.suppress(MmflowError):
                self.rejects = self._rejects()
            with contextlib.suppress(MmflowError):  # `error` says better what ended the run
                self._report_progress(last=True)
            raise
        finally:
            if not self._foreign:
                self._scheduler.abort()
            self.close()

    def _driven(self) -> Iterator[pa.RecordBatch]:
        scheduler = self._scheduler
        while not scheduler.finished:
            for released in scheduler.take_results():
                yield from self._rows(released)
                scheduler.consumed(released)
                self._step(0.0)
            if not scheduler.finished:
                self._step(self._pause())

    def _restarted(self, error: BlockLostError) -> bool:
        """Continue from the record without the lost file; not if rows were returned, which would come again."""
        lost = error.context.get("lost_file")
        if (
            self._record is None
            or lost is None
            or self._rows_returned
            or not self._record.record_restart(lost, str(error))
        ):
            return False
        self._scheduler.abort()
        self._pass_decisions()
        self._scheduler = self._new_scheduler()
        return True

    def _rows(self, released: Released) -> Iterator[pa.RecordBatch]:
        if released.block is not None:
            for batch in self.engine.store().get(released.block):
                wanted = batch if self._limit is None else batch.slice(0, self._limit)
                if self._limit is not None:
                    self._limit -= wanted.num_rows
                if wanted.num_rows:
                    self._rows_returned = True
                    yield rename_columns(wanted, self.plan.schema)
                    self._report_progress()

    def _step(self, timeout: float) -> None:
        """Submit what may start, and take in what has ended; waits for up to `timeout` seconds for it."""
        scheduler = self._scheduler
        # More than run at once, so that workers don't wait while rows are being read.
        resources = self.engine.resources()
        slots = resources.slots
        self._watch(slots)
        silent = {*self.engine.silent(), *self._stalled}  # on workers that are none of the slots
        running = scheduler.running - len(silent)
        ahead = slots * (1 + (1 if scheduler.eager else resources.queued))
        made = scheduler.tasks(ahead - running, self._clock(), idle=slots - running, silent=silent)
        for task in made:
            self.engine.submit(task, self.plan.functions)
        if not made and scheduler.stuck:
            raise EngineError(f"bug: the run can't continue: {self.progress()}; please report it")
        if scheduler.running or scheduler.next_due() is not None:
            # Fewer would leave workers without a task soon.
            enough = 1 if scheduler.eager else max(1, scheduler.running - len(silent) - slots - 1)
            results = self.engine.poll(timeout, enough)
            for result in results:
                scheduler.on_result(result, self._clock())
            message = self._quiet.step(bool(results) or not scheduler.running)
            if message and self._record is not None:
                self._record.event("warning", message=message)
        elif scheduler.streams:
            scheduler.streams[0].wait(timeout)
        self._pass_decisions()
        if self._scheduler.error is not None:
            raise self._scheduler.error
        self._report_progress()

    def _watch(self, slots: int) -> None:
        """Look now and then whether the tasks move, and warn of those that don't."""
        scheduler, now = self._scheduler, self._clock()
        if scheduler.watches(now):
            for message in scheduler.on_movement(self.engine.movement(self._stall_after), now, slots):
                warnings.warn(message, StalledWarning, stacklevel=2)
            # No more, lest functions that wait for minutes each are all run twice.
            self._stalled = list(itertools.islice(scheduler.stalled, slots))
        elif self._stalled:
            self._stalled = [attempt for attempt in self._stalled if attempt in scheduler.stalled]

    def _pass_decisions(self) -> None:
        for task, attempt in self._scheduler.take_cancels():
            self.engine.cancel(task, attempt)
        for task, attempt in self._scheduler.take_stop_requests():
            self.engine.request_stop(task, attempt)
        for ref in self._scheduler.take_deletes():
            self.engine.store().delete(ref)

    def _pause(self) -> float:
        # Not longer, since a signal that another thread was given doesn't wake a waiting main thread.
        due = self._scheduler.next_due()
        # Neither does a block of a stream wake one that waits for tasks.
        longest = _STREAM_SECONDS if self._scheduler.running and self._scheduler.streams else _WAIT_SECONDS
        return longest if due is None else min(longest, max(0.0, due - self._clock()))

    def _report_progress(self, *, last: bool = False) -> None:
        if self._on_progress is None and self._record is None:
            return
        now = self._clock()
        if last or now - self._reported >= _PROGRESS_SECONDS:
            self._reported = now
            progress = self._scheduler.progress(now)
            if self._on_progress is not None:
                self._on_progress(progress)
            if self._record is not None:
                self._record.report_progress(progress, last=last)

    def _finished(self) -> Outcome:
        self.rejects = self._rejects()
        return Outcome(
            progress=self.progress(),
            files=tuple(self._scheduler.files),
            rejects=self.rejects,
            inputs=self.inputs,
            reasons=tuple(self._scheduler.totals.reasons),
        )

    def _rejects(self) -> tuple[pa.RecordBatch, ...]:
        store = self.engine.store()
        every = self._scheduler.totals.quarantined
        return tuple(b for q in every for b in locate_rejects(store.get(q.block), q.before))


def _touched(plan: Plan) -> list[str]:
    """Return local paths that tasks of a plan read and write."""
    found = [path for source in _sources_read(plan) for path in source.files]
    output = plan.stages[-1].output
    if isinstance(output, Write):
        found.insert(0, output.sink.path)
    return [path for path in found if not is_url(path) and stream_of(path) is None]


class _Quiet:
    """Time in which no task ended, and the search for a file server that does not answer."""

    def __init__(self, paths: Sequence[str], clock: Clock) -> None:
        self._paths = paths
        self._clock = clock
        self._since = clock()
        self._probe: ServerProbe | None = None
        self._said = False

    def step(self, ended: bool) -> str:
        """Record whether a task ended just now; return a warning that was given, "" if none was.

        Raises:
            SourceUnreachableError: None did, and a file server has not answered for a minute.
        """
        now = self._clock()
        if ended:
            self._since, self._probe, self._said = now, None, False
        elif self._probe is not None:
            silent = self._probe.silent_seconds()
            if not silent:
                self._since, self._probe = now, None
            elif silent > FAIL_SECONDS:
                raise self._probe.error()
            elif silent > WARN_SECONDS and not self._said:
                self._said = True
                warnings.warn(self._probe.warning(), SilentServerWarning, stacklevel=2)
                return self._probe.warning()
        elif self._paths and now - self._since > QUIET_SECONDS:
            self._probe = ServerProbe(self._paths)
        return ""
