"""Shards of a task as one stream of batches, with their reports.

The identity of a file is checked when it is opened and after its shard was read, so that rows of a file that changed
in between are never used.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mmflow.errors import UserFunctionError
from mmflow.formats import PLACE, VIRTUAL_COLUMNS, NativeEnd, Scan, ScanReport, ScanRequest
from mmflow.formats.decoding.compact import cast_batch
from mmflow.formats.decoding.joined import scan_joined
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.schemas.file_columns import with_nulls
from mmflow.lazy import array_types as npt
from mmflow.mapping import MappedFile
from mmflow.plan.stages import ScanInput, Source
from mmflow.plan.tasks import ShardTask
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.shards import FileEntry, Shard
from mmflow.worker.context import WorkerContext
from mmflow.worker.hashing import hash_columns, mixed
from mmflow.worker.kept import StageKept

if TYPE_CHECKING:
    from mmflow.worker.column_cache import CachedScan, ShardColumns

__all__ = ["ShardStream", "place_of"]

_DEFAULTS = ScanRequest(())


class BatchPlaces:
    """Places in the input of the batches that a task is at, for errors of functions that are called with them.

    Steps pull batches in turn, so what was scanned since the last `take` is what the step has now.
    """

    def __init__(self) -> None:
        self._scanned: tuple[str, int] | None = None
        self._current: tuple[str, int] | None = None

    def add(self, path: str, record: int) -> None:
        """Note a batch that is scanned, and the number of its first record in its shard."""
        if self._scanned is None:
            self._scanned = path, record

    def take(self) -> bool:
        """Make what was scanned since the last call the current place. Returns whether there was any."""
        if self._scanned is None:
            return False
        self._current, self._scanned = self._scanned, None
        return True

    def placed(self, error: UserFunctionError, rows: int) -> UserFunctionError:
        """Return the error of a function with the place of its batch, `rows` behind the current one."""
        if self._current is None:
            return error
        path, record = self._current
        return error.from_batch(path, record + rows)


class ShardStream:
    """Stream of the batches of all shards of a task, in order. `reports` holds one report per finished shard.

    `joins`: small files are read together, so that batches are not of one file.
    `cached`: bytes read that were in the page cache before.
    `fetched`: bytes of remote files that came over the network for them.
    `from_cache`: bytes of columns that came from the cache, instead of the text.
    `resume_offset`: byte offset of the next record, where it stopped early by request; None: it read all.
    `schema`: names and types of the batches.
    `end`: native steps that may take rows, which then don't come as batches; None: all come.
    """

    def __init__(
        self,
        scan: ScanInput,
        shards: ShardTask,
        context: WorkerContext,
        places: BatchPlaces,
        kept: StageKept,
        *,
        joins: bool = False,
        run: str = "",
    ) -> None:
        self._places = places
        self._joins = joins
        self._run = run
        self._kept = kept
        self._scan = scan
        self._shards = shards
        self._context = context
        if kept.schema is None:
            kept.schema = _schema(scan)
        self.schema = kept.schema
        self._placed = PLACE in scan.columns and scan.source.schema.get_field_index(PLACE) < 0
        self.reports: list[ScanReport] = []
        self.reasons: list[str] = []
        self.rows = 0
        self.cached = 0
        self.fetched = 0
        self.from_cache = 0
        self.resume_offset: int | None = None
        self.end: NativeEnd | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        hive, columns, prune = self._scan.source.hive, self._scan.columns, self._scan.prune
        if hive is not None:
            prune = tuple(c for c in prune if c.column not in hive.names)
        request = ScanRequest(
            columns=self._asked(),
            prune=prune,
            window_bytes=self._window_bytes(_DEFAULTS.window_bytes),
            batch_bytes=max(1 << 20, min(_DEFAULTS.batch_bytes, self._context.memory // 8)),
            decoders=self._kept.decoders,
            end=self.end,
        )
        remote_options = self._context.remote_options
        shards, number = self._shards.shards, 0
        while number < len(shards):
            shard = shards[number]
            entry = self._shards.files[shard.file]
            if entry.storage != remote_options.storage:
                remote_options = replace(remote_options, storage=entry.storage)
            with self._open(entry, remote_options) as file:
                if file.decision.reason not in self.reasons:
                    self.reasons.append(file.decision.reason)
                wanted, filled = _without(request, self._scan.source, self._scan.source.format.lacks(file))
                kept = self._kept_columns(file, shard, wanted)
                from_cache = None if kept is None else kept.scan(wanted)
                resident = 0 if from_cache is not None else file.resident(shard.begin, shard.end)
                others = tuple(c for c in columns if c != PLACE) if self._placed else columns
                add = None if hive is None else hive.added(entry.path, others)
                joined = self._joined(file, number, wanted)
                if joined is not None:
                    for batch in joined[0]:
                        self._context.check()
                        self.rows += batch.num_rows
                        made = batch if filled is None else filled(batch)
                        yield cast_batch(made if add is None else add(made), self.schema)
                    self._note_joined(joined[1], resident / max(1, shard.end))
                    number += len(joined[1])
                    continue
                scan: Scan
                batches: Iterable[pa.RecordBatch]
                keeps = from_cache is None and kept is not None and kept.keeping()
                if from_cache is not None:
                    batches = scan = from_cache
                    self._note_cached(from_cache)
                elif kept is not None and keeps:
                    whole = replace(wanted, prune=(), end=None, decoders=self._kept.whole_decoders)
                    scan = self._scan.source.format.scan(file, shard, whole)
                    batches = kept.keep(scan)
                else:
                    batches = scan = self._scan.source.format.scan(file, shard, wanted)
                records = 0  # before the batch, in its shard
                for batch in batches:
                    self._context.check()
                    self.rows += batch.num_rows
                    self._places.add(entry.path, records)
                    # Bad records that were dropped are counted where the report is true at each batch.
                    by_report = self._scan.source.format.record_oriented
                    records = scan.report.records if by_report else records + batch.num_rows
                    made = batch if filled is None else filled(batch)
                    made = made if add is None else add(made)
                    if self._placed:
                        made = self._with_places(made, batch, entry.path, scan.report.row)
                    yield cast_batch(made, self.schema)
                    report = scan.report
                    # What is kept is a whole shard; the remainder of one that stopped is never cut so again.
                    stops = self._context.stop_requested() and not keeps
                    if stops and report.error is None and report.next < shard.end:
                        self.resume_offset = report.next
                        break
                file.check_unchanged()
                self.fetched += file.fetched
            self.reports.append(scan.report)
            self.cached += _share(resident, shard.end - shard.begin, scan.report.bytes_read)
            if scan.report.error is not None:
                return
            number += 1

    @contextmanager
    def _open(self, entry: FileEntry, remote_options: RemoteOptions) -> Iterator[MappedFile]:
        """Give the file of a shard, which stays open for the next task of the thread; closed after an error."""
        file = self._kept.take_file()
        try:
            if file is not None and (file.path, file.identity) == (entry.path, entry.identity):
                file.identity.check(file.path)  # another one may stand there by now
            else:
                if file is not None:
                    file.close()
                file = open_file(
                    entry.path, io=self._context.io, expected=entry.identity, remote_options=remote_options
                )
            yield file
        except BaseException:
            if file is not None:
                file.close()
            raise
        self._kept.keep_file(file)

    def _kept_columns(self, file: MappedFile, shard: Shard, wanted: ScanRequest) -> ShardColumns | None:
        """Return the wanted columns of a shard in the cache; None where none are kept."""
        form, options = self._scan.source.format, self._context.remote_options
        if options.columns == "off" or not isinstance(form, ScannedFormat):
            return None
        if self._kept.column_cache is None or self._kept.column_cache.run != self._run:
            from mmflow.worker.column_cache import ColumnCache  # noqa: PLC0415  (only where columns are kept)

            self._kept.column_cache = ColumnCache(form, options, self._run, self._context.memory // 4)
        return self._kept.column_cache.of(file, shard, wanted.columns)

    def _note_cached(self, scan: CachedScan) -> None:
        self.from_cache += scan.nbytes
        reason = f"{', '.join(scan.columns)}: columns from the cache"
        if reason not in self.reasons:
            self.reasons.append(reason)

    def _joined(
        self, file: MappedFile, number: int, wanted: ScanRequest
    ) -> tuple[list[pa.RecordBatch], list[ScanReport]] | None:
        """Read a small file together with those behind it; None where it has to be read alone.

        Args:
            file: File of the shard, open.
            number: Number of the shard.
            wanted: Columns that the file has, and conditions.
        """
        form, shards, files = self._scan.source.format, self._shards.shards, self._shards.files
        if (
            not self._joins
            or not file.whole
            or number + 1 == len(shards)
            or not isinstance(form, ScannedFormat)
        ):
            return None
        if not VIRTUAL_COLUMNS.keys().isdisjoint(wanted.columns):
            return None
        folder = file.path.rpartition("/")[0]
        following: Iterator[FileEntry] = (files[shard.file] for shard in shards[number + 1 :])
        if self._scan.source.hive is not None:  # whose values are those of the folder
            following = itertools.takewhile(lambda e: e.path.rpartition("/")[0] == folder, following)
        alike = ((entry.path, entry.identity) for entry in following)
        return scan_joined(form, file, alike, replace(wanted, prune=(), decoders=self._kept.joined_decoders))

    def _note_joined(self, reports: list[ScanReport], cached: float) -> None:
        """Keep the reports of small files, of which as much was cached as of the first one."""
        self.reports += reports
        self.cached += int(cached * sum(report.bytes_read for report in reports))

    def _asked(self) -> tuple[str, ...]:
        """Return the columns to read from the files."""
        source, columns = self._scan.source, self._scan.columns
        if self._placed:
            columns = tuple(c for c in columns if c != PLACE)
            if source.format.record_oriented and "_offset" not in columns:
                columns = (*columns, "_offset")
        return columns if source.hive is None else source.hive.inside(columns)

    def _with_places(
        self, batch: pa.RecordBatch, read: pa.RecordBatch, path: str, first: int
    ) -> pa.RecordBatch:
        """Return the wanted columns with `PLACE`. Without offsets, rows of `read` are numbered from `first`."""
        if self._scan.source.format.record_oriented:
            numbers = read.column("_offset")
        else:
            numbers = pa.array(np.arange(first, first + read.num_rows))
        places = pa.array(place_of(path, numbers))
        arrays = [places if c == PLACE else batch.column(c) for c in self._scan.columns]
        return pa.RecordBatch.from_arrays(arrays, names=list(self._scan.columns))

    def _window_bytes(self, most: int) -> int:
        """Return the bytes of a window: at most a quarter of the task's share, since pread needs anonymous memory."""
        return max(1 << 20, min(most, self._context.memory // 4))


def _schema(scan: ScanInput) -> pa.Schema:
    """Return the names and types of the batches of a scan."""
    schema, virtual = scan.source.schema, VIRTUAL_COLUMNS | {PLACE: pa.int64()}
    # By name: of 20,000 columns, two are soon asked for.
    numbers = {c: schema.get_field_index(c) for c in scan.columns}
    return pa.schema([(c, schema.field(n).type if n >= 0 else virtual[c]) for c, n in numbers.items()])


def _without(
    request: ScanRequest, source: Source, lacks: frozenset[str]
) -> tuple[ScanRequest, Callable[[pa.RecordBatch], pa.RecordBatch] | None]:
    """Return a request without the columns that a file lacks, and what adds them to its batches; None: it has all."""
    if lacks.isdisjoint(request.columns) and not any(c.column in lacks for c in request.prune):
        return request, None
    columns = tuple(name for name in request.columns if name not in lacks)
    prune = tuple(c for c in request.prune if c.column not in lacks)
    return replace(request, columns=columns, prune=prune), with_nulls(source.format.schema, request.columns)


def _share(resident: int, length: int, read: int) -> int:
    """Return the resident part of the bytes read, in proportion to that of the shard.

    A shard is read in part if it ends at a limit or a bad record, or has other columns.
    """
    return min(read, resident * read // max(1, length))


def place_of(path: str, numbers: pa.Array) -> npt.NDArray[np.int64]:
    """Return `PLACE` of rows of a file, from their offsets or other unique numbers. Shape (rows,)."""
    names = pa.array([os.fsencode(path)], pa.binary())
    # As the hash of both columns, without hashing the path for each row.
    state = np.repeat(hash_columns([names]), len(numbers))
    return mixed(state, numbers).view(np.int64)
