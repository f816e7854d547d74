"""Sink of all formats to local paths: one task's rows into staging files.

Invariant: after `write` returns, the files are complete and durable; after it raises, its attempt has left
nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.lazy.dataclasses import dataclass
from mmflow.sinks.base import SUFFIXES, SinkAttempt, SinkSpec, StagedFile
from mmflow.sinks.commit.staging import attempt_folder, destination
from mmflow.sinks.partition import split
from mmflow.sinks.spec import check_sink
from mmflow.sinks.writers import columnar, npy, rows
from mmflow.sinks.writers.base import Writer
from mmflow.storage import disk
from mmflow.storage.os_errors import write_error, write_errors
from mmflow.storage.url import is_url

__all__ = ["DEFAULT_MEMORY", "FileSink", "write_files"]

_OPEN: Mapping[str, Callable[[str, pa.Schema, Mapping[str, Any]], Writer]] = {
    "parquet": columnar.open_parquet,
    "arrow": columnar.open_arrow,
    "csv": rows.open_csv,
    "ndjson": rows.open_ndjson,
    "npy": npy.open_npy,
}
#: Memory of a task that has no limit of its own, in bytes.
DEFAULT_MEMORY = 1 << 30
#: Limit of the rows that wait until their partition has enough of them for a write of its own, in bytes.
_MAX_PENDING_BYTES = 64 << 20
_MAX_OPEN_FILES = 64
_SMALL_ROWS = 4096
#: Threads that fsync files: a file system writes its journal once for all callers that wait. 2,000 files took 20 s
#: one after the other, and 1 s with this many threads.
_SYNC_THREADS = 16


class FileSink:
    """Writer of Parquet, Arrow IPC, CSV, NDJSON or npy files into a local staging folder."""

    def __init__(self, spec: SinkSpec, memory: int = DEFAULT_MEMORY) -> None:
        self.spec = spec
        self._memory = memory

    def write(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, attempt: SinkAttempt
    ) -> tuple[StagedFile, ...]:
        """Write one attempt's rows; a task without rows writes a file only if it is number 0.

        Raises:
            SinkError: As in `Sink.write`; also if the run was aborted meanwhile (its staging is deleted).
        """
        spec = self.spec
        check_sink(spec, schema)
        folder = attempt_folder(spec, attempt)
        self._make(folder)
        try:
            with _FileSyncer(spec.path) as syncer:
                unique = spec.keeps_files
                return write_files(
                    spec, batches, schema, attempt, folder, syncer.keep, self._memory, unique=unique
                )
        except BaseException:  # also Ctrl-C: no half-written file may stay
            disk.remove_tree(folder)
            raise

    def _make(self, folder: Path) -> None:
        with write_errors(self.spec.path):
            try:
                disk.mkdir(folder)
            except FileNotFoundError:
                raise SinkError(
                    f"can't write {self.spec.path}: the run's staging folder {folder.parent} is not there; "
                    "either the run was stopped, or this worker doesn't share the destination's file system",
                    path=self.spec.path,
                ) from None


class _FileSyncer:
    """Background fsync of complete files while others are written; `__exit__` waits for all of them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._first: Path | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def keep(self, file: Path, path: str) -> str:
        """Schedule the fsync of a complete file and return its staged path."""
        del path
        if self._pool is None and self._first is None:
            self._first = file  # usually the only one, which needs no thread
        else:
            self._pool = self._pool or ThreadPoolExecutor(_SYNC_THREADS, "mmflow-sync")
            self._pending.append(self._pool.submit(disk.sync_file, file))
        return str(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            with write_errors(self._path):
                if self._first is not None:
                    disk.sync_file(self._first)
                for done in self._pending:
                    done.result()


def write_files(
    spec: SinkSpec,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    attempt: SinkAttempt,
    folder: Path,
    keep: Callable[[Path, str], str],
    memory: int,
    *,
    unique: bool,
    token: str = "",
) -> tuple[StagedFile, ...]:
    """Write one task's rows to files of a folder.

    Args:
        attempt: Attempt that writes; without rows, only task number 0 writes a file.
        folder: An existing folder; after an error the caller deletes its content.
        keep: Called with each complete file and its path in the destination; returns where it is staged.
        memory: Bytes that the task may use: at most a quarter of them, and 64 MiB, buffers rows.
        unique: Whether names of files differ from those of other runs.
        token: End of the names, where they must differ from those of other executions of the task, too.

    Raises:
        SinkError: As in `Sink.write`.
    """
    # "_" sorts behind the "." of a suffix.
    task = f"{attempt.number:05d}" + "".join(f"_{p:03d}" for p in attempt.part)
    stem = (f"part-{attempt.run}-{task}" if unique else f"part-{task}") + (token and f"-{token}")
    files = _AttemptFiles(spec, schema, folder, stem, keep)
    target: _Target
    max_pending = min(_MAX_PENDING_BYTES, memory // 4)
    if spec.partition_by:
        target = _PartitionedFiles(files, spec.partition_by, max_pending)
    else:
        first = attempt.number == 0 and not attempt.part
        target = _SingleFile(files, max_pending, create=not spec.is_folder or first)
    try:
        for batch in batches:  # errors of the input are not ours
            with files.failing():
                target.write(batch)
        with files.failing():
            target.finish()
    except BaseException:  # whatever it was, also Ctrl-C
        files.discard()
        raise
    return tuple(files.staged)


class _Target(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None: ...


@dataclass(slots=True)
class _OpenFile:
    writer: Writer
    staged: Path
    path: str
    rows: int = 0


class _AttemptFiles:
    """Open and complete files of one attempt."""

    def __init__(
        self, spec: SinkSpec, schema: pa.Schema, folder: Path, stem: str, keep: Callable[[Path, str], str]
    ) -> None:
        self.staged: list[StagedFile] = []
        self._spec = spec
        self._schema = pa.schema([f for f in schema if f.name not in spec.partition_by])
        self._folder = folder
        self._stem = stem
        self._keep = keep
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._count: dict[str, int] = {}
        self._created = 0

    def failing(self) -> Any:
        """Turn errors of the block into SinkErrors that say how much was written."""
        return _WriteErrors(self)

    def writer(self, folder: str) -> _OpenFile:
        """Return the open file of a partition ("" for none)."""
        opened = self._open.get(folder)
        if opened is None:
            if len(self._open) >= _MAX_OPEN_FILES:
                self._complete(next(iter(self._open)))
            opened = self._open[folder] = self._create(folder)
        self._open.move_to_end(folder)
        return opened

    def write(self, folder: str, batch: pa.RecordBatch) -> Writer | None:
        """Write rows to the file of a partition, and to further ones where it is full.

        Returns:
            Writer of the open file; None: the last one was complete.
        """
        spec, opened = self._spec, None
        if spec.approximate_bytes_per_file is not None:
            pieces = max(1, -(-4 * batch.nbytes // spec.approximate_bytes_per_file))
            step = max(1, batch.num_rows // pieces)
        else:
            step = batch.num_rows
        while batch.num_rows:
            opened = self.writer(folder)
            room = step if spec.max_rows_per_file is None else spec.max_rows_per_file - opened.rows
            part = batch.slice(0, min(step, room))
            batch = batch.slice(part.num_rows)
            opened.writer.write(part)
            opened.rows += part.num_rows
            if self._is_full(opened):
                self._complete(folder)
                opened = None
        return None if opened is None else opened.writer

    def _is_full(self, opened: _OpenFile) -> bool:
        most = self._spec.approximate_bytes_per_file
        if most is not None and not opened.writer.pending:
            opened.writer.flush()  # what lies in buffers has no size yet
        if most is not None and opened.staged.stat().st_size + opened.writer.pending >= most:
            return True
        return opened.rows == self._spec.max_rows_per_file

    def _create(self, folder: str) -> _OpenFile:
        number = self._count.get(folder, 0)
        self._count[folder] = number + 1
        # Sorts behind the file before, and before what the remainder of the task's shard gives ("_001").
        suffix = SUFFIXES[self._spec.format][0]
        if self._spec.format in ("csv", "ndjson"):  # of the others, what is inside is compressed
            suffix += rows.COMPRESSIONS[self._spec.options.get("compression", "none")]
        name = self._stem + (f"_{number:09d}" if number else "") + suffix
        if not self._spec.is_folder:
            name = destination(self._spec).name
        path = f"{folder}/{name}" if folder else name
        # Beside each other: a folder for each partition costs more than its file, to make and to delete.
        self._created += 1
        staged = self._folder / (f"{self._created:06d}-{name}" if folder else name)
        options = self._spec.options | {"sorted_by": self._spec.sorted_by}
        writer = _OPEN[self._spec.format](str(staged), self._schema, options)
        return _OpenFile(writer, staged, path)

    def _complete(self, folder: str) -> None:
        opened = self._open[folder]
        opened.writer.close()
        nbytes = opened.staged.stat().st_size
        del self._open[folder]
        staged = self._keep(opened.staged, opened.path)
        self.staged.append(StagedFile(staged, opened.path, opened.rows, nbytes))

    def complete(self) -> None:
        for folder in list(self._open):
            self._complete(folder)

    def discard(self) -> None:
        for opened in self._open.values():
            opened.writer.discard()
        self._open.clear()

    def written(self) -> int:
        """Return the bytes in this attempt's files so far."""
        return sum(f.stat().st_size for f in self._folder.rglob("*") if f.is_file())

    @property
    def path(self) -> str:
        """Path that an error such as a full disk is reported for."""
        return str(self._folder) if is_url(self._spec.path) else self._spec.path


class _WriteErrors:
    def __init__(self, files: _AttemptFiles) -> None:
        self._files = files

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise write_error(self._files.path, error, written=self._files.written()) from error
        if isinstance(error, pa.ArrowInvalid | pa.ArrowNotImplementedError):
            raise SinkError(f"can't write {self._files.path}: {error}", path=self._files.path) from error


class _SingleFile:
    """Target of all rows in one file; without rows the file is written only if `create`."""

    def __init__(self, files: _AttemptFiles, max_pending: int, *, create: bool) -> None:
        self._files = files
        self._max_pending = max_pending
        self._create = create

    def write(self, batch: pa.RecordBatch) -> None:
        writer = self._files.write("", batch)
        if writer is not None and writer.pending > self._max_pending:
            writer.flush()

    def finish(self) -> None:
        if self._create and not self._files.staged:
            self._files.writer("")
        self._files.complete()


class _PartitionedFiles:
    """Target of partitioned rows: they wait in memory, and the largest partitions are written at the limit.

    Rows wait as slices, which keep their whole input batches alive. So when some partitions are written, the slices of
    the others are copied; `_total` is the bytes of all slices.
    """

    def __init__(self, files: _AttemptFiles, columns: tuple[str, ...], max_pending: int) -> None:
        self._files = files
        self._max_pending = max_pending
        self._columns = columns
        self._pending: dict[str, list[pa.RecordBatch]] = {}
        self._nbytes: dict[str, int] = {}
        self._total = 0

    def write(self, batch: pa.RecordBatch) -> None:
        width = None
        for folder, part in split(batch, self._columns):
            width = _row_bytes(part.schema) if width is None else width
            nbytes = part.num_rows * width or part.nbytes
            self._pending.setdefault(folder, []).append(part)
            self._nbytes[folder] = self._nbytes.get(folder, 0) + nbytes
            self._total += nbytes
        if self._total > self._max_pending:
            for folder in sorted(self._nbytes, key=self._nbytes.__getitem__, reverse=True):
                self._put(folder)
                if self._total <= self._max_pending // 2:
                    break
            self._pending = {folder: [_concatenated(parts)] for folder, parts in self._pending.items()}

    def _put(self, folder: str) -> None:
        self._total -= self._nbytes.pop(folder)
        parts, writer = self._pending.pop(folder), None
        # Writing small parts one by one costs more than their rows do.
        for part in (
            parts
            if sum(part.num_rows for part in parts) > len(parts) * _SMALL_ROWS
            else [_concatenated(parts)]
        ):
            writer = self._files.write(folder, part)
        if writer is not None:
            writer.flush()

    def finish(self) -> None:
        for folder in sorted(self._pending):
            self._put(folder)
        self._files.complete()


def _row_bytes(schema: pa.Schema) -> int:
    """Return the bytes of a row of numbers; 0: other columns have rows of their own size."""
    try:
        return int(sum(kind.bit_width for kind in schema.types)) // 8
    except ValueError:
        return 0


def _concatenated(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of all parts in buffers of their own."""
    return pa.concat_batches([*parts, parts[0].slice(0, 0)])
