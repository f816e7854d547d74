"""The sink of all formats to local paths: one task's rows into staging files.

Invariant: after `write` returned, the files are complete and on the disk; after it raised, its attempt has
left nothing.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.remote.url import is_url
from mmflow.sinks import columnar, npy, rows
from mmflow.sinks.base import SUFFIXES, SinkSpec, StagedFile
from mmflow.sinks.failures import sink_failure, writing
from mmflow.sinks.partition import split
from mmflow.sinks.spec import check_sink
from mmflow.sinks.staging import attempt_folder, destination
from mmflow.sinks.writer import Writer

__all__ = ["AMPLE", "FileSink", "write_files"]

_OPEN: Mapping[str, Callable[[str, pa.Schema, Mapping[str, Any]], Writer]] = {
    "parquet": columnar.open_parquet,
    "arrow": columnar.open_arrow,
    "csv": rows.open_csv,
    "ndjson": rows.open_ndjson,
    "npy": npy.open_npy,
}
#: Memory of a task that need not think of it.
AMPLE = 1 << 30
#: Rows that wait until their partition has enough of them for a write of its own.
_WAITING_BYTES = 64 << 20
_MOST_OPEN = 64
_SMALL_ROWS = 4096
#: Files that are brought to the disk at once: a file system writes its journal once for all that wait for it. 2,000
#: one after the other took 20 s, by so many 1.
_SYNCING = 16


class FileSink:
    """Writes Parquet, Arrow IPC, CSV, NDJSON or npy files; see `sinks.base.Sink`."""

    def __init__(self, spec: SinkSpec, memory: int = AMPLE) -> None:
        self.spec = spec
        self._memory = memory

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        *,
        run: str,
        stage: int,
        number: int,
        attempt: int,
        part: tuple[int, ...] = (),
    ) -> tuple[StagedFile, ...]:
        """Write one attempt's rows; a task without rows writes a file only if it is number 0.

        Raises:
            SinkError: See `Sink.write`; also if the run was aborted meanwhile (its staging is gone).
        """
        spec = self.spec
        check_sink(spec, schema)
        folder = attempt_folder(spec, run, stage=stage, number=number, attempt=attempt, part=part)
        self._make(folder)
        stem = f"part-{run}-{number:05d}" if spec.if_exists == "append" else f"part-{number:05d}"
        try:
            with _Syncing(spec.path) as syncing:
                return write_files(
                    spec,
                    batches,
                    schema,
                    folder=folder,
                    stem=stem,
                    number=number,
                    part=part,
                    keep=syncing.keep,
                    memory=self._memory,
                )
        except BaseException:  # whatever it was, also Ctrl-C: no half-written file may stay
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _make(self, folder: Path) -> None:
        with writing(self.spec.path):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir()
            except FileNotFoundError:
                raise SinkError(
                    f"can't write {self.spec.path}: the run's staging folder {folder.parent} is not there; "
                    "either the run was stopped, or this worker doesn't share the destination's file system",
                    path=self.spec.path,
                ) from None


class _Syncing:
    """Brings files to the disk while others are written; its end waits for all of them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._first: Path | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: list[Future[None]] = []

    def keep(self, file: Path, path: str) -> str:
        """Take a complete file; see `write_files`."""
        del path
        if self._pool is None and self._first is None:
            self._first = file  # mostly the only one, which needs no thread
        else:
            self._pool = self._pool or ThreadPoolExecutor(_SYNCING, "mmflow-sync")
            self._waiting.append(self._pool.submit(_sync, file))
        return str(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            with writing(self._path):
                if self._first is not None:
                    _sync(self._first)
                for done in self._waiting:
                    done.result()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_files(
    spec: SinkSpec,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    folder: Path,
    stem: str,
    number: int,
    part: tuple[int, ...],
    keep: Callable[[Path, str], str],
    memory: int = AMPLE,
) -> tuple[StagedFile, ...]:
    """Write one task's rows to files of a folder.

    Args:
        folder: Exists; what is in it after an error is the caller's to delete.
        stem: Of part files' names.
        number, part: Of the task; without rows, only number 0 writes a file.
        keep: Is given each file when it is complete, and its path in the destination; says where it is staged.
        memory: Bytes that the task may use: a quarter of them holds rows that are not written yet, at most 64 MiB.

    Raises:
        SinkError: See `Sink.write`.
    """
    stem += "".join(f"_{p:03d}" for p in part)  # "_" sorts behind the "." of a suffix
    files = _Files(spec, schema, folder, stem, keep)
    target: _Target
    most = min(_WAITING_BYTES, memory // 4)
    if spec.partition_by:
        target = _Partitioned(files, spec.partition_by, most)
    else:
        target = _Whole(files, most, create=not spec.is_folder or (number == 0 and not part))
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
class _Opened:
    writer: Writer
    staged: Path
    path: str
    rows: int = 0


class _Files:
    """Opens and completes the files of one attempt."""

    def __init__(
        self, spec: SinkSpec, schema: pa.Schema, folder: Path, stem: str, keep: Callable[[Path, str], str]
    ) -> None:
        self.staged: list[StagedFile] = []
        self._spec = spec
        self._schema = pa.schema([f for f in schema if f.name not in spec.partition_by])
        self._folder = folder
        self._stem = stem
        self._keep = keep
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._count: dict[str, int] = {}

    def failing(self) -> Any:
        """Errors of the block as SinkErrors that know how much was written."""
        return _Failing(self)

    def writer(self, folder: str) -> _Opened:
        """The open file of a partition ("" for none)."""
        opened = self._open.get(folder)
        if opened is None:
            if len(self._open) >= _MOST_OPEN:
                self._complete(next(iter(self._open)))
            opened = self._open[folder] = self._create(folder)
        self._open.move_to_end(folder)
        return opened

    def _create(self, folder: str) -> _Opened:
        again = self._count.get(folder, 0)
        self._count[folder] = again + 1
        name = self._stem + (f"-{again}" if again else "") + SUFFIXES[self._spec.format][0]
        if not self._spec.is_folder:
            name = destination(self._spec).name
        path = f"{folder}/{name}" if folder else name
        staged = self._folder / path
        staged.parent.mkdir(parents=True, exist_ok=True)
        writer = _OPEN[self._spec.format](str(staged), self._schema, self._spec.options)
        return _Opened(writer, staged, path)

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
        """Bytes in this attempt's files so far."""
        return sum(f.stat().st_size for f in self._folder.rglob("*") if f.is_file())

    @property
    def path(self) -> str:
        """What a full disk or the like is said of."""
        return str(self._folder) if is_url(self._spec.path) else self._spec.path


class _Failing:
    def __init__(self, files: _Files) -> None:
        self._files = files

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise sink_failure(self._files.path, error, written=self._files.written()) from error
        if isinstance(error, pa.ArrowInvalid | pa.ArrowNotImplementedError):
            raise SinkError(f"can't write {self._files.path}: {error}", path=self._files.path) from error


class _Whole:
    """All rows in one file; without rows there is one only if `create`."""

    def __init__(self, files: _Files, most: int, *, create: bool) -> None:
        self._files = files
        self._most = most
        self._create = create

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            opened = self._files.writer("")
            opened.writer.write(batch)
            opened.rows += batch.num_rows
            if opened.writer.pending > self._most:
                opened.writer.flush()

    def finish(self) -> None:
        if self._create:
            self._files.writer("")
        self._files.complete()


class _Partitioned:
    """Rows wait in memory, by partition; the largest are written when they grow too much.

    What waits are slices of the batches that came, which stay as long as one of their slices does. So when some are
    written, the others are copied together; `_total` is what all take.
    """

    def __init__(self, files: _Files, columns: tuple[str, ...], most: int) -> None:
        self._files = files
        self._most = most
        self._columns = columns
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._nbytes: dict[str, int] = {}
        self._total = 0

    def write(self, batch: pa.RecordBatch) -> None:
        for folder, part in split(batch, self._columns):
            nbytes = part.nbytes
            self._waiting.setdefault(folder, []).append(part)
            self._nbytes[folder] = self._nbytes.get(folder, 0) + nbytes
            self._total += nbytes
        if self._total > self._most:
            for folder in sorted(self._nbytes, key=self._nbytes.__getitem__, reverse=True):
                self._put(folder)
                if self._total <= self._most // 2:
                    break
            self._waiting = {folder: [_together(parts)] for folder, parts in self._waiting.items()}

    def _put(self, folder: str) -> None:
        self._total -= self._nbytes.pop(folder)
        opened = self._files.writer(folder)
        parts = self._waiting.pop(folder)
        # Small parts one by one would cost the writer more than their rows do.
        for part in (
            parts if sum(part.num_rows for part in parts) > len(parts) * _SMALL_ROWS else [_together(parts)]
        ):
            opened.writer.write(part)
            opened.rows += part.num_rows
        opened.writer.flush()

    def finish(self) -> None:
        for folder in sorted(self._waiting):
            self._put(folder)
        self._files.complete()


def _together(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of all parts, in buffers of their own."""
    return pa.concat_batches([*parts, parts[0].slice(0, 0)])
