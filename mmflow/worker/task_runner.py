"""Execution of one task: read, execute, partition, put. Nothing here knows an engine.

Streaming steps run on pieces of bounded size, so a scan of any size needs the memory of one piece. Output is copied,
so that it does not hold windows of the input.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from mmflow.blocks.references import BlockRef
from mmflow.errors import EngineError, MmflowError, PlanError, SourceError, UserFunctionError
from mmflow.formats import NativeEnd, ScanReport, ScanRequest
from mmflow.formats.decoding.compact import cast_batch, compact, rename_columns
from mmflow.formats.rejects import REPORTED, rejects_batch
from mmflow.formats.schemas.schema import public_schema, type_text
from mmflow.mapping.system.limits import process_memory
from mmflow.plan.functions.base import PlanFunction
from mmflow.plan.stages import (
    AggregateStep,
    ExchangeInput,
    FilesInput,
    Forward,
    FragmentStep,
    Functions,
    Hash,
    MapStep,
    ProgramStep,
    Range,
    ScanInput,
    SortStep,
    SqlStep,
    Step,
    StreamStep,
    TableInput,
    WindowStep,
    Write,
)
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskMetrics, TaskResult
from mmflow.worker.aggregation import merge_states, partial_states, whole_results
from mmflow.worker.context import Cancelled as CancelSignal
from mmflow.worker.context import WorkerContext
from mmflow.worker.fragment import Fragment
from mmflow.worker.movement import running
from mmflow.worker.partition import Partitions, Places, place_by_hash
from mmflow.worker.range_partition import Sampler, place_by_range
from mmflow.worker.row_program import RowProgram
from mmflow.worker.scan import BatchPlaces, ShardStream
from mmflow.worker.user_functions import function_label, list_batches, user_function_errors

if TYPE_CHECKING:
    from mmflow.worker.direct_files import DirectFiles

__all__ = ["run_task"]

_Batches = Iterable[pa.RecordBatch]
_PIECE_BYTES = 32 << 20
#: Bytes of the first piece if few rows may be enough.
_FIRST_BYTES = 64 << 10
#: Batches of fewer rows are joined with their neighbours: each costs DataFusion about as much as a thousand rows.
_FEW_ROWS = 1 << 10
_MANY_ROWS = 1 << 13
_FEW_BYTES = 1 << 20
#: Bytes of columns that a scan feeds to native steps at once: they stay in a core's cache; and of one column, at least.
_CACHED_BYTES = 512 << 10
_CACHED_COLUMN = 32 << 10
#: Part of a task's memory for groups: tables are copied as they grow, and beside them there are rows and results.
_AGGREGATE_SHARE = 6
#: Numbers of rows have 63 bits: stage, task, and row.
_MOST_STAGES, _MOST_TASKS, _MOST_ROWS = 1 << 8, 1 << 20, 1 << 35


def run_task(task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
    """Run a task to its result. Errors of the data, the query or the machine are results, too.

    Args:
        task: Task to run.
        functions: UDFs of its fragments.
        context: Store, memory share, cancel flag of this worker.
    """
    try:
        made = _Run(task, functions, context)
        with running(task, made.count_movement):
            return made.run()
    except CancelSignal:
        return Cancelled(task.id, task.attempt)
    except MmflowError as error:
        return Failed(task.id, task.attempt, error)
    except MemoryError as error:
        return Failed(
            task.id, task.attempt, EngineError(f"out of memory: {error}; raise --memory", code="MMF-ENG-002")
        )
    except pa.ArrowInvalid as error:
        return Failed(task.id, task.attempt, PlanError(f"a value does not fit its type: {error}"))
    except OSError as error:
        return Failed(
            task.id, task.attempt, SourceError(f"{error.filename or 'I/O'}: {error.strerror or error}")
        )


def _page_faults() -> int:
    """Return the page faults of this thread so far."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt + usage.ru_majflt


class _Run:
    def __init__(self, task: Task, functions: Functions, context: WorkerContext) -> None:
        self.task = task
        self.stage = task.stage
        self.functions = functions
        self.context = context
        self.scan: ShardStream | None = None
        self.files_report: ScanReport | None = None
        self.end: NativeEnd | None = None
        self.end_step: AggregateStep | None = None
        self.kept = context.kept.of(task.stage)
        self.places = BatchPlaces()
        self.calls = 0  # of the user's functions, that have ended
        self.metrics = TaskMetrics(started=time.time(), worker=context.worker)

    def run(self) -> TaskResult:
        """Run the task to its result."""
        clock, faults = time.perf_counter(), _page_faults()
        done = self._output(self._limited(self._rows()))
        if self.scan is not None:
            self.metrics.rows_in += self.scan.rows + (self.end.rows if self.end is not None else 0)
            self.metrics.bytes_read += sum(r.bytes_read for r in self.scan.reports)
            self.metrics.cached = self.scan.cached
            self.metrics.fetched = self.scan.fetched
            self.metrics.from_cache = self.scan.from_cache
            self.metrics.reasons = tuple(self.scan.reasons)
            reports = tuple(self.scan.reports)
            done = replace(
                done, reports=reports, rejects=self._rejects(), resume_offset=self.scan.resume_offset
            )
        if self.files_report is not None:
            done = replace(done, reports=(self.files_report,))
        if self.task.checkpoint_path:
            self.metrics.anonymous = process_memory().anonymous
            from mmflow.blocks.checkpoints import write_checkpoint  # noqa: PLC0415  (slow: few tasks write)

            checkpoint = write_checkpoint(
                self.task.checkpoint_path, done.attempt, done.outputs, done.rejects, done.sample, self.stage.schema,
                self.context.store, self.context.spill,
            )  # fmt: skip
            done = replace(done, checkpoint=checkpoint)
        self.metrics.seconds = time.perf_counter() - clock
        self.metrics.faults = _page_faults() - faults
        return done

    def count_movement(self) -> int:
        """Return a count of rows and calls so far, for who looks whether the task moves."""
        counts, scan = self.calls + self.metrics.rows_in + self.metrics.rows_out, self.scan
        return counts + (0 if scan is None else scan.rows + len(scan.reports))

    # ---- rows ---------------------------------------------------------------------------------

    def _input(self, number: int) -> _Batches:
        source = self.stage.inputs[number]
        assert not isinstance(source, FilesInput)  # fragments read them (`_fragment`)
        match source:
            case ScanInput():
                if self.task.shards is None:
                    return ()
                self.scan = ShardStream(
                    source,
                    self.task.shards,
                    self.context,
                    self.places,
                    self.kept,
                    joins=not self._calls_user_code(),
                    run=self.task.run,
                )
                self.end = self.scan.end = self._native_end(self.scan.schema)
                return self.scan
            case ExchangeInput():
                refs = self.task.blocks.get(source.name, ())
                self.metrics.rows_in += sum(r.rows for r in refs)
                self.metrics.bytes_read += sum(r.nbytes for r in refs)
                batches = itertools.chain.from_iterable(map(self.context.store.get, refs))
                return _coalesced(batches, self.context.memory // 8)
            case TableInput():
                return source.table.to_batches()  # type: ignore[no-any-return]  # pyarrow has no types

    def _calls_user_code(self) -> bool:
        """Return whether a function of the user's sees rows: its errors name the file that they are of."""
        known = self.kept.calls_user_code
        if known is None:
            maps = any(isinstance(step, MapStep | StreamStep) for step in self.stage.steps)
            known = maps or any(not isinstance(f, PlanFunction) for f in self.functions.all)
            self.kept.calls_user_code = known
        return known

    def _native_end(self, given: pa.Schema) -> NativeEnd | None:
        """Return the native steps that a scan of such rows may feed as it decodes; None: they take its batches."""
        kept = self.kept
        if not kept.knows_end:
            kept.end, kept.knows_end = self._known_end(given), True
        if kept.end is None:
            return None
        end, self.end_step = kept.end
        return copy(end)

    def _known_end(self, given: pa.Schema) -> tuple[NativeEnd, AggregateStep] | None:
        steps, kernel = self.stage.steps, None
        made = given
        if steps and isinstance(steps[0], ProgramStep):
            program = self._row_program(steps[0])
            if not program.runs_alone(given):
                return None
            made, kernel = steps[0].schema, program.kernel
            steps = steps[1:]
        last = steps[0] if steps else None
        if not isinstance(last, AggregateStep) or last.phase == "final" or last.rows.types != made.types:
            return None
        empty = pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in given.types], schema=given)
        # As in batches of a scan, at most: many columns of few rows would cost more than their values.
        most = min(ScanRequest(()).batch_bytes, max(1 << 20, self.context.memory // 8))
        batch_bytes = min(most, max(_CACHED_BYTES, len(given) * _CACHED_COLUMN))
        return NativeEnd(given, kernel, self._group_memory(), batch_bytes, empty), last

    def _row_program(self, step: ProgramStep) -> RowProgram:
        """Return the program of a step, made once, since it learns."""
        programs = self.kept.programs
        known = programs.get(id(step))
        if known is None:
            ((_, given),) = step.fallback.inputs
            known = programs[id(step)] = RowProgram(step.program, given, step.schema)
        return known

    def _group_memory(self) -> int:
        """Return the bytes that groups may take."""
        return max(1 << 20, self.context.memory // _AGGREGATE_SHARE)

    def _rows(self) -> _Batches:
        inputs = self.stage.inputs
        flow: _Batches = self._input(0) if inputs and not isinstance(inputs[0], FilesInput) else ()
        sides = {s.name: n for n, s in enumerate(inputs) if n or isinstance(s, FilesInput)}
        for step in self.stage.steps:
            flow = self._step(step, flow, sides)
        return flow

    def _step(self, step: Step, flow: _Batches, sides: dict[str, int]) -> _Batches:
        match step:
            case FragmentStep() | SqlStep():
                return self._fragment(step, flow, sides)
            case ProgramStep():
                made = self._program(step, flow)
                # Few rows may be enough where there is a limit.
                return made if self.stage.limit is not None else _few_joined(made)
            case SortStep() | WindowStep():
                return self._ordered(step, flow)
            case MapStep():
                return self._map(step, flow)
            case StreamStep():
                return self._stream(step, flow)
            case AggregateStep():
                return self._aggregate(step, flow)

    def _fragment(
        self, step: FragmentStep | SqlStep, flow: _Batches, sides: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        named = {name for name, _ in step.inputs}
        direct = [i for i in self.stage.inputs if isinstance(i, FilesInput) and i.name in named]
        if direct:
            yield from self._over_files(step, direct, sides)
            return
        fragment = self._made(step)
        main = next((name for name, _ in step.inputs if name not in sides), None)
        for name, _ in step.inputs:
            if name in sides:
                fragment.bind(name, list(self._input(sides[name])))
        if main is None:
            yield from fragment.run({})
            return
        if not step.streaming:
            # The inputs of such steps are blocks: by reference in memory, or mapped from disk.
            yield from self._checked(fragment.run({main: list(flow)}))
            return
        most = min(_PIECE_BYTES, max(1 << 20, self.context.memory // 8))
        for piece in _pieces(flow, most, most if self.stage.limit is None else _FIRST_BYTES):
            self.places.take()
            try:
                yield from self._checked(fragment.run({main: piece}))
            except UserFunctionError as error:
                raise self.places.placed(error, 0) from error.__cause__

    def _made(self, step: FragmentStep | SqlStep, files: DirectFiles | None = None) -> Fragment:
        return Fragment(
            step,
            self.functions,
            memory=self.context.memory,
            given=self._given(step),
            spill=self.context.spill,
            files=files,
        )

    def _over_files(
        self, step: FragmentStep | SqlStep, inputs: Sequence[FilesInput], sides: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        """Run a step over files that DataFusion reads, and over its other inputs."""
        from mmflow.worker.direct_files import DirectFiles  # noqa: PLC0415  (slow: only Parquet needs it)

        with DirectFiles(inputs, self.context.check) as files:
            fragment = self._made(step, files)
            others = {name for name, _ in step.inputs} - {i.name for i in inputs}
            yield from self._checked(fragment.run({n: list(self._input(sides[n])) for n in others}))
            files.check_unchanged()
            self.files_report = files.report
            self.metrics.rows_in += files.report.records
            self.metrics.bytes_read += files.report.bytes_read
            from mmflow.worker.direct_files import REASON  # noqa: PLC0415  (slow: only Parquet needs it)

            self.metrics.reasons = (REASON,)

    def _program(self, step: ProgramStep, flow: _Batches) -> Iterator[pa.RecordBatch]:
        ((name, _),) = step.fallback.inputs
        program = self._row_program(step)
        fragment: Fragment | None = None
        for batch in flow:
            if self.end is not None and not batch.num_rows:  # rows were taken: it only says so
                yield batch
                continue
            self.context.check()
            self.places.take()
            made = program.run(batch)
            if made is None:
                fragment = fragment or self._made(step.fallback)
                yield from self._checked(fragment.run({name: [batch]}))
            elif made.num_rows:
                yield made

    def _ordered(self, step: WindowStep | SortStep, flow: _Batches) -> Iterator[pa.RecordBatch]:
        ((name, _),) = step.fallback.inputs

        def fall_back(rows: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return self._made(step.fallback).run({name: rows})

        if isinstance(step, WindowStep):
            from mmflow.worker.windows import add_windows  # noqa: PLC0415  (most queries have none)

            yield from self._checked(add_windows(step, list(flow), self.context.memory, fall_back))
        else:
            from mmflow.worker.sorting import sort_rows  # noqa: PLC0415  (most queries have none)

            yield from self._checked(sort_rows(step, list(flow), self.context.memory, fall_back))

    def _given(self, step: FragmentStep | SqlStep) -> int:
        """Return the bytes that a step gets at once; 0: it runs piece by piece, or they are unknown."""
        refs = itertools.chain.from_iterable(self.task.blocks.values())
        return 0 if step.streaming else sum(ref.nbytes for ref in refs)

    def _checked(self, batches: _Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.context.check()
            yield batch

    def _map(self, step: MapStep, flow: _Batches) -> Iterator[pa.RecordBatch]:
        for batch in flow:
            scanned = self.places.take()
            given = cast_batch(batch, step.input)
            size = step.batch_rows or max(1, given.num_rows)
            for start in range(0, given.num_rows, size):
                self.context.check()
                try:
                    made = self._call(step, given.slice(start, size))
                except UserFunctionError as error:
                    raise self.places.placed(error, start if scanned else 0) from error.__cause__
                yield from made

    def _stream(self, step: StreamStep, flow: _Batches) -> Iterator[pa.RecordBatch]:
        """Call a function of mmflow, with numbers for rows that grow with the stage, the task and the row."""
        task = self.task.id
        if task.stage >= _MOST_STAGES or task.number >= _MOST_TASKS:
            raise EngineError(
                f"a plan with row numbers has up to {_MOST_STAGES} stages of {_MOST_TASKS:,} tasks"
            )
        first = (task.stage * _MOST_TASKS + task.number) * _MOST_ROWS
        given = (cast_batch(batch, step.input) for batch in self._checked(flow))
        for batch in step.function(given, first):
            yield cast_batch(batch, step.schema)

    def _aggregate(self, step: AggregateStep, flow: _Batches) -> Iterator[pa.RecordBatch]:
        memory = self._group_memory()
        if step.phase == "final":
            states = list(flow)  # blocks: by reference in memory, or mapped from disk
            yield from merge_states(step, lambda: self._checked(states), memory)
            return
        rows, end = self._taken(flow), self.end if step is self.end_step else None
        if step.phase == "partial":
            yield from partial_states(step, rows, memory, end)
        else:
            yield from whole_results(step, rows, memory, self.context.store, end)

    def _taken(self, flow: _Batches) -> Iterator[pa.RecordBatch]:
        """Yield batches, and note for errors which one a step has now."""
        for batch in flow:
            self.places.take()
            self.context.check()
            yield batch

    def _call(self, step: MapStep, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        name = getattr(step.function, "__name__", "function")
        with user_function_errors(function_label(step.function), name, self.context.check):
            if step.processes and self.context.processes is not None:
                made = self.context.processes.apply(step.function, batch)
            else:
                made = list_batches(step.function(batch))
        self.calls += 1
        return [self._fitted(b, step, name) for b in made if b.num_rows]

    def _fitted(self, batch: pa.RecordBatch, step: MapStep, name: str) -> pa.RecordBatch:
        label = function_label(step.function)
        if batch.schema.names != step.schema.names:
            if sorted(batch.schema.names) != sorted(step.schema.names):
                raise UserFunctionError.at(
                    f"{label} returned columns {batch.schema.names}, expected {step.schema.names}; "
                    "pass schema= with what it returns",
                    function=name,
                )
            batch = batch.select(step.schema.names)
        try:
            return cast_batch(batch, step.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserFunctionError.at(
                f"{label} returned {_listed(batch.schema)}, which does not fit {_listed(step.schema)}: {error}",
                function=name,
            ) from error

    def _limited(self, rows: _Batches) -> Iterator[pa.RecordBatch]:
        left = self.stage.limit
        for batch in rows:
            if left is None:
                yield batch
                continue
            yield batch.slice(0, left)
            left -= batch.num_rows
            if left <= 0:
                return

    # ---- outputs --------------------------------------------------------------------------------

    def _output(self, rows: Iterator[pa.RecordBatch]) -> Done:
        output = self.stage.output
        done = partial(Done, self.task.id, self.task.attempt, metrics=self.metrics)
        match output:
            case Write():
                from mmflow.sinks import open_sink  # noqa: PLC0415  (slow: few tasks write)

                sink = open_sink(output.sink, self.context.spill, self.context.memory)
                task = self.task
                from mmflow.sinks import SinkAttempt  # noqa: PLC0415  (slow: few tasks write)

                attempt = SinkAttempt(task.run, task.id.stage, task.id.number, task.attempt, task.id.part)
                files = sink.write(self._counted(rows), self.stage.schema, attempt)
                return done(files=files)
            case Hash():
                return done(outputs=self._partitioned(rows, self._hashed, output.partitions))
            case Range():
                cuts = self.task.boundaries
                if cuts is None:
                    raise EngineError("bug: a range exchange without boundaries")
                by_range = partial(place_by_range, keys=output.keys, cuts=cuts)
                return done(outputs=self._partitioned(rows, by_range, cuts.num_rows + 1))
            case _:
                sampler = Sampler(output.sample) if isinstance(output, Forward) and output.sample else None
                made = self._put(compact(b) for b in self._counted(rows, sampler))
                sample = sampler.sample() if sampler is not None else None
                return done(outputs=(made,), sample=sample)

    def _hashed(self, batch: pa.RecordBatch) -> Places:
        """Place rows by the hash of their keys; without keys each task begins elsewhere, so that few rows spread."""
        assert isinstance(self.stage.output, Hash)
        before = self.task.id.number + sum(self.task.id.part) + self.metrics.rows_out - batch.num_rows
        return place_by_hash(batch, self.stage.output.keys, self.stage.output.partitions, before)

    def _counted(self, rows: _Batches, sampler: Sampler | None = None) -> Iterator[pa.RecordBatch]:
        for batch in rows:
            self.metrics.rows_out += batch.num_rows
            if sampler is not None:
                sampler.add(batch)
            yield batch

    def _put(self, batches: Iterable[pa.RecordBatch]) -> BlockRef | None:
        ref = self.context.store.put(batches, self.stage.schema)
        if not ref.rows:
            self.context.store.delete(ref)
            return None
        self.metrics.bytes_out += ref.nbytes
        return ref

    def _partitioned(
        self, rows: _Batches, place: Callable[[pa.RecordBatch], Places], n: int
    ) -> tuple[BlockRef | None, ...]:
        """Split batches into one block per partition."""
        parts = Partitions(self.stage.schema, n)
        early: list[list[BlockRef]] = [[] for _ in range(n)]
        for batch in self._counted(rows):
            if batch.num_rows:
                parts.add(batch, place(batch))
            if parts.nbytes > self.context.memory // 4:
                self._flush(parts, early)
        if any(early):
            self._flush(parts, early)
            return tuple(self._merged(refs) for refs in early)
        made = {number: self._put(part) for number, part in parts.take()}
        return tuple(made.get(number) for number in range(n))

    def _flush(self, parts: Partitions, early: list[list[BlockRef]]) -> None:
        """Put collected rows into the store, which spills blocks that don't fit in memory."""
        for number, part in parts.take():
            early[number].append(self.context.store.put(part, self.stage.schema))

    def _merged(self, refs: list[BlockRef]) -> BlockRef | None:
        if not refs:
            return None
        made = self._put(itertools.chain.from_iterable(self.context.store.get(r) for r in refs))
        for ref in refs:
            self.context.store.delete(ref)
        return made

    def _rejects(self) -> BlockRef | None:
        if self.scan is None or self.task.shards is None:
            return None
        files, shards = self.task.shards.files, self.task.shards.shards
        batches = [
            rejects_batch(files[s.file].path, r.first, r.rejects)
            for s, r in zip(shards, self.scan.reports, strict=False)
            if r.rejects
        ]
        return self.context.store.put(batches, REPORTED) if batches else None


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {type_text(f.type)}" for f in public_schema(schema))


def _pieces(rows: _Batches, nbytes: int, first: int) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches in pieces of about `first` bytes, growing up to `nbytes`; one empty piece if there is no batch.

    Pieces begin small where few rows may be enough, so that little more is read than they need.
    """
    piece: list[pa.RecordBatch] = []
    size, any_rows = 0, False
    for batch in rows:
        piece.append(batch)
        any_rows = True
        size += _row_bytes(batch)
        if size >= first:
            yield piece
            piece, size, first = [], 0, min(4 * first, nbytes)
    if piece or not any_rows:
        yield piece


def _few_joined(batches: _Batches) -> Iterator[pa.RecordBatch]:
    """Yield the same rows with tiny batches joined. They are copied: their views may hold a window each."""
    few: list[pa.RecordBatch] = []
    rows = nbytes = 0
    for batch in batches:
        if not batch.num_rows:  # says that its steps went on
            yield batch
            continue
        tiny = batch.num_rows < _FEW_ROWS and batch.num_columns
        if tiny:
            few.append(compact(batch))
            rows += batch.num_rows
            nbytes += few[-1].nbytes
            if rows < _MANY_ROWS and nbytes < _FEW_BYTES:
                continue
        if few:
            yield from _joined(few, few[0].schema)
            few, rows, nbytes = [], 0, 0
        if not tiny:
            yield batch
    if few:
        yield from _joined(few, few[0].schema)


def _coalesced(batches: _Batches, most: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows with tiny batches joined. An exchange of m by n partitions has many tiny ones.

    Args:
        batches: Batches of blocks, which are mapped or shared.
        most: Bytes that may be copied.
    """
    few: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        tiny = batch.num_rows < _FEW_ROWS and batch.num_columns and most > 0
        if tiny:
            few.append(batch)
            rows += batch.num_rows
            most -= batch.get_total_buffer_size()
            if rows < _MANY_ROWS:
                continue
        if few:
            yield from _joined(few, few[0].schema)
            few, rows = [], 0
        if not tiny:
            yield batch
    if few:
        yield from _joined(few, few[0].schema)


def _row_bytes(batch: pa.RecordBatch) -> int:
    """Return the bytes of the rows alone: views count their 16 bytes, not the window behind them."""
    total = 0
    for column in batch.columns:
        try:
            total += column.type.bit_width * len(column) // 8
        except ValueError:
            total += column.nbytes if pa.types.is_nested(column.type) else 32 * len(column)
    return total


def _joined(parts: Sequence[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Return many small batches as few large ones."""
    if len(parts) == 1:
        return list(parts)
    # Branches of a union may name their columns differently.
    parts = [rename_columns(part, parts[0].schema) for part in parts]
    return pa.Table.from_batches(parts).cast(schema).combine_chunks().to_batches()  # type: ignore[no-any-return]  # pyarrow has no types
