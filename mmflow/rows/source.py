"""Files of a source, their rows numbered consecutively.

Invariant: a file that changes between its index and the last row read from it gives an error or is read again, never a
wrong row.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.config import Settings
from mmflow.errors import MmflowError, PlanError, SourceError
from mmflow.formats import Format
from mmflow.formats.arrow_ipc.format import ArrowIpcFormat
from mmflow.formats.compression import compression_suffix, file_compression
from mmflow.formats.decoding.scan import ScannedFormat, contents_entry
from mmflow.formats.npy.format import NpyFormat
from mmflow.formats.parquet.format import ParquetFormat
from mmflow.formats.records.format import RecordsFormat
from mmflow.formats.records.variable import VariableFormat
from mmflow.formats.schemas.arrow_types import check_wanted
from mmflow.lazy import array_types as npt
from mmflow.mapping import Access, MappedFile
from mmflow.mapping.streams import stream_at
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.rows.base import FileRows, StaleIndexError
from mmflow.rows.fixed_stride import NpyRows, RecordRows
from mmflow.rows.index_builder import IndexOptions
from mmflow.rows.indexed import IndexedRows
from mmflow.rows.row_groups import IpcRows, ParquetRows
from mmflow.rows.selection import Selection
from mmflow.rows.threads import run_in_order
from mmflow.shards import FileEntry, identify_files
from mmflow.storage.url import is_url

__all__ = ["SourceRows", "random_access_problem", "read_rows", "require_random_access"]

I64 = npt.NDArray[np.int64]


def random_access_problem(selection: Selection, remote_options: RemoteOptions) -> str | None:
    """Return why rows can't be found by number; None where they can, as far as known.

    Of remote files only the first is opened, and those whose names suggest compression; others when they are read.
    """
    source, form = selection.source, selection.source.format
    if source.files and stream_at(source.files[0]) is not None:
        return f"{source.files[0]} is a stream, which is read once and in order; save it to a file, and read that"
    if isinstance(form, ScannedFormat) and form.encoding.stateful:
        return _stateful_problem(source.files[0] if source.files else source.label, form)
    if isinstance(form, ScannedFormat):
        for number, path in enumerate(source.files):
            if is_url(path) and number > 0 and compression_suffix(path) is None:
                continue
            with open_file(path, remote_options=replace(remote_options, storage=source.storage)) as file:
                if file.in_archive or (
                    file_compression(file) is not None and not _has_sections(form, file, remote_options)
                ):
                    return _compressed_problem(file)
    if isinstance(form, ArrowIpcFormat) and not form.splittable:
        return (
            f"{source.files[0]}: Arrow IPC streams can only be read from their start; write it as a file "
            "(ds.write_arrow('x.arrow')), and read that"
        )
    if isinstance(form, VariableFormat):
        return (
            f"{source.label}: where a record begins is known from the one before it; write it as Parquet or Arrow, and "
            "read that"
        )
    if isinstance(form, RecordsFormat) and form.on_bad_record in ("skip", "quarantine"):
        text = next((f.name for f in form.fields if f.may_be_bad), None)
        if text is not None:
            return (
                f"{source.label}: records whose {text!r} is not UTF-8 are dropped (on_bad_record = "
                f"{form.on_bad_record}), so positions of rows can't be computed; set it to null or error"
            )
    return None


def _has_sections(form: Format, file: MappedFile, cache: RemoteOptions) -> bool:
    return contents_entry(form, FileEntry(file.path, file.identity), cache).identity.is_contents


def _compressed_problem(file: MappedFile) -> str:
    what = "in an archive" if file.in_archive else "compressed"
    return f"{file.path} is {what}, and can only be read from its start; decompress it, and read that"


def require_random_access(selection: Selection, remote_options: RemoteOptions) -> None:
    """Check that rows can be found by number.

    Raises:
        PlanError: They can't, or one of the columns has an unsupported type.
    """
    check_wanted(f for f in selection.source.format.schema if f.name in selection.names)
    why = random_access_problem(selection, remote_options)
    if why is not None:
        raise PlanError(f"no random access: {why}")


def read_rows(selection: Selection, settings: Settings, read: Callable[[SourceRows], pa.Table]) -> pa.Table:
    """Return `read(rows)` for the rows of all files; run it again with a new index where an index doesn't fit its
    file.
    """
    require_random_access(selection, settings.remote_options)
    for _ in range(2):
        try:
            with closing(SourceRows(selection, settings)) as rows:
                return read(rows)
        except StaleIndexError as error:
            path = str(error)
    raise SourceError(
        f"{path}: its records are not where they were a moment ago; the file was written to while it was read "
        "(run again), or this is a bug of its decoder (report it)",
        path=path,
    )


class SourceRows:
    """Rows of consecutive files. One file is open at a time, and files are opened only as far as needed."""

    def __init__(self, selection: Selection, settings: Settings) -> None:
        self._selection = selection
        self._settings = settings
        self._paths = selection.source.files
        # For the files opened so far: their entries, and known rows with a flag that these are all.
        self._entries: list[FileEntry] = []
        self._counts: list[tuple[int, bool]] = []
        self._open: tuple[int, MappedFile, FileRows] | None = None

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def count(self, upto: int) -> int:
        """Return the number of rows, or at least `upto` if there are as many."""
        total = 0
        for number in range(len(self._paths)):
            total += self._count(number, upto - total)
            if total >= upto:
                break
        return total

    def read(self, numbers: I64) -> list[pa.RecordBatch]:
        """Read the rows of these existing numbers: ascending, distinct.

        Raises:
            StaleIndexError: The index of a file, now deleted, does not fit it.
            SourceChangedError: A file changed meanwhile.
        """
        batches: list[pa.RecordBatch] = []
        before = done = number = 0
        while done < len(numbers):
            count = self._count(number, int(numbers[-1]) + 1 - before)
            upto = int(np.searchsorted(numbers, before + count))
            if upto > done:
                batches += self._read(number, numbers[done:upto] - before)
            before, done, number = before + count, upto, number + 1
        return batches

    def _count(self, number: int, upto: int) -> int:
        known, every = self._counts[number] if number < len(self._counts) else (0, False)
        if every or known >= upto:
            return known
        _, rows = self._open_file(number)
        known = rows.count(upto)
        self._counts[number:] = [(known, known < upto)]
        return known

    def _read(self, number: int, numbers: I64) -> list[pa.RecordBatch]:
        file, rows = self._open_file(number)
        rows.count(int(numbers[-1]) + 1)
        batches: list[pa.RecordBatch] = []
        try:
            with closing(run_in_order(rows.jobs(numbers), self._settings.workers)) as results:
                for result in results:
                    batches += result
        except MmflowError:
            file.check_unchanged()  # a change of the file is the cause to report
            raise
        except StaleIndexError:
            # Options of the format reject more records, or the file's time of modification was set back.
            file.check_unchanged()
            assert isinstance(rows, IndexedRows), "only these have an index"
            rows.forget()
            raise StaleIndexError(file.path) from None
        file.check_unchanged()
        return self._selection.complete(file.path, batches)

    def _open_file(self, number: int) -> tuple[MappedFile, FileRows]:
        if self._open is None or self._open[0] != number:
            self.close()
            if number == len(self._entries):
                (entry,) = identify_files([self._paths[number]], self._selection.source.storage)
                self._entries.append(
                    contents_entry(self._selection.source.format, entry, self._settings.remote_options)
                )
            entry = self._entries[number]
            io = self._settings.io
            remote_options = replace(self._settings.remote_options, storage=entry.storage)
            access = _access(self._selection.source.format)
            file = open_file(
                entry.path, io=io, access=access, expected=entry.identity, remote_options=remote_options
            )
            try:
                self._selection.source.format.check(file)
                self._open = number, file, self._rows(file, entry)
            except BaseException:
                file.close()
                raise
        return self._open[1], self._open[2]

    def _rows(self, file: MappedFile, entry: FileEntry) -> FileRows:
        form, settings = self._selection.source.format, self._settings
        columns = self._selection.columns_in(file)
        match form:
            case RecordsFormat():
                return RecordRows(file, form, columns)
            case NpyFormat():
                return NpyRows(file, form, columns)
            case ParquetFormat():
                return ParquetRows(file, form, columns)
            case ArrowIpcFormat():
                return IpcRows(file, form, columns)
            case ScannedFormat():
                if form.encoding.stateful:
                    raise PlanError(f"no random access: {_stateful_problem(file.path, form)}")
                if file.in_archive or file_compression(file) is not None:
                    raise PlanError(f"no random access: {_compressed_problem(file)}")
                how = IndexOptions(
                    file.decision.kind, settings.workers, settings.shard_size, settings.remote_options
                )
                return IndexedRows(file, entry, form, columns, how)
            case _:
                raise PlanError(f"no random access: not for format {form.name}")


def _access(form: Format) -> Access:
    """Return the access pattern: Parquet's column chunks are read whole, IPC batches as they are touched, else
    single rows.
    """
    if isinstance(form, ParquetFormat):
        return "sequential"
    return "any" if isinstance(form, ArrowIpcFormat) else "random"


def _stateful_problem(path: str, form: ScannedFormat) -> str:
    return (
        f"{path} is {form.encoding.name}, which can only be read from its start; write it in another format "
        "(ds.write_parquet('x.parquet')), and read that"
    )
