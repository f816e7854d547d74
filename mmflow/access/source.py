"""The files of a source, and their rows as one run of numbers.

Invariant: a file that changes between its index and the last row read of it is an error, or read anew, never another
row.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.access.building import Building
from mmflow.access.computed import NpyRows, RecordRows
from mmflow.access.grouped import IpcRows, ParquetRows
from mmflow.access.rows import FileRows, StaleIndexError
from mmflow.access.scanned import IndexedRows
from mmflow.access.threads import in_order
from mmflow.config import Settings
from mmflow.errors import MmflowError, PlanError, SourceError
from mmflow.exec.stage import Source
from mmflow.formats import VIRTUAL_COLUMNS, Format
from mmflow.formats.arrow_ipc import ArrowIpcFormat
from mmflow.formats.carried import check_wanted, public_batch
from mmflow.formats.compressed import compression_of
from mmflow.formats.decoder import ScannedFormat
from mmflow.formats.npy import NpyFormat
from mmflow.formats.parquet import ParquetFormat
from mmflow.formats.records import RecordsFormat
from mmflow.formats.schema import public_schema
from mmflow.mapping import Access, Io, MappedFile
from mmflow.remote.opening import open_file
from mmflow.shards import FileEntry, entries

__all__ = ["Selection", "SourceRows", "read_source", "require_random_access", "why_not"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Columns of a source as it was read.

    Attributes:
        source: Files and format.
        columns: Name in the result, name in the source (or of a virtual column).
    """

    source: Source
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def all(cls, source: Source) -> Selection:
        """All columns of a source, no virtual ones."""
        return cls(source, tuple((n, n) for n in source.schema.names))

    def renamed(self, columns: tuple[tuple[str, str], ...]) -> Selection:
        """Other columns: name in the result, name in this result (or of a virtual column)."""
        inner = dict(self.columns)
        return Selection(self.source, tuple((new, inner.get(old, old)) for new, old in columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Columns to read, each once."""
        return tuple(dict.fromkeys(name for _, name in self.columns))

    @property
    def inside(self) -> tuple[str, ...]:
        """Return those of `names` that stand in the files, virtual ones among them."""
        hive = self.source.hive
        return self.names if hive is None else hive.inside(self.names)

    def whole(self, path: str, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Batches of `inside` of a file as batches of `names`, with public types."""
        hive = self.source.hive
        if hive is None or len(self.inside) == len(self.names):
            return batches
        return [public_batch(batch) for batch in map(hive.added(path, self.names), batches)]

    @property
    def schema(self) -> pa.Schema:
        """Of the result, as `to_arrow` has it."""
        fields = {n: pa.field(n, t) for n, t in VIRTUAL_COLUMNS.items()} | {
            f.name: f for f in self.source.schema
        }
        return public_schema(pa.schema([fields[name].with_name(new) for new, name in self.columns]))

    def table(self, batches: list[pa.RecordBatch]) -> pa.Table:
        """Batches of `names` as a table of `schema`."""
        schema = self.schema
        made = [
            public_batch(
                pa.RecordBatch.from_arrays([b.column(name) for _, name in self.columns], names=schema.names),
                schema,
            )
            for b in batches
        ]
        return pa.Table.from_batches(made, schema=schema)


def why_not(selection: Selection) -> str | None:
    """Why rows can't be found by number; None: they can."""
    source, form = selection.source, selection.source.format
    packed = next((p for p in source.files if form.record_oriented and compression_of(p)), None)
    if packed is not None and not isinstance(form, RecordsFormat):
        return f"{packed} is compressed, and can only be read from its start; decompress it, and read that"
    if isinstance(form, ArrowIpcFormat) and not form.splittable:
        return (
            f"{source.files[0]}: Arrow IPC streams can only be read from their start; write it as a file "
            "(ds.write_arrow('x.arrow')), and read that"
        )
    if isinstance(form, RecordsFormat) and form.on_bad_record in ("skip", "quarantine"):
        text = next((f.name for f in form.fields if f.is_text), None)
        if text is not None:
            return (
                f"{source.label}: records whose {text!r} is not UTF-8 are dropped (on_bad_record = "
                f"{form.on_bad_record}), so rows have no computable place; set it to null or error"
            )
    return None


def require_random_access(selection: Selection) -> None:
    """Check that rows can be found by number.

    Raises:
        PlanError: They can't, or one of the columns can't be carried.
    """
    check_wanted(f for f in selection.source.format.schema if f.name in selection.names)
    why = why_not(selection)
    if why is not None:
        raise PlanError(f"no random access: {why}")


def read_source(selection: Selection, settings: Settings, read: Callable[[SourceRows], pa.Table]) -> pa.Table:
    """What `read` makes of the rows of all files; once more, with a new index, where an index doesn't fit its file."""
    require_random_access(selection)
    for _ in range(2):
        try:
            with closing(SourceRows(selection, settings)) as rows:
                return read(rows)
        except StaleIndexError as error:
            path = str(error)
    raise SourceError(
        f"{path}: its records are not where they were a moment ago; the file was written to while it was read "
        "(run again), or its decoder lost its place (report it)",
        path=path,
    )


class SourceRows:
    """Rows of files that follow one another. One file is open at a time, and files are looked at as far as need be."""

    def __init__(self, selection: Selection, settings: Settings) -> None:
        self._selection = selection
        self._settings = settings
        self._paths = selection.source.files
        # Of the files that were looked at so far: as they were, rows that are known of, and whether these are all.
        self._entries: list[FileEntry] = []
        self._counts: list[tuple[int, bool]] = []
        self._open: tuple[int, MappedFile, FileRows] | None = None

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def count(self, upto: int) -> int:
        """How many rows there are, at least `upto` if there are so many."""
        total = 0
        for number in range(len(self._paths)):
            total += self._count(number, upto - total)
            if total >= upto:
                break
        return total

    def read(self, numbers: I64) -> list[pa.RecordBatch]:
        """The rows of these numbers, which exist: ascending, distinct.

        Raises:
            StaleIndexError: The index of a file, now dropped, does not fit it.
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
        _, rows = self._opened(number)
        known = rows.count(upto)
        self._counts[number:] = [(known, known < upto)]
        return known

    def _read(self, number: int, numbers: I64) -> list[pa.RecordBatch]:
        file, rows = self._opened(number)
        rows.count(int(numbers[-1]) + 1)
        batches: list[pa.RecordBatch] = []
        try:
            with closing(in_order(rows.jobs(numbers), self._settings.workers)) as results:
                for made in results:
                    batches += made
        except MmflowError:
            file.check_unchanged()  # else that is what is wrong
            raise
        except StaleIndexError:
            # Options of the format that find more to be wrong; or the file's time of modification was set back.
            file.check_unchanged()
            assert isinstance(rows, IndexedRows), "only these have an index"
            rows.forget()
            raise StaleIndexError(file.path) from None
        file.check_unchanged()
        return self._selection.whole(file.path, batches)

    def _opened(self, number: int) -> tuple[MappedFile, FileRows]:
        if self._open is None or self._open[0] != number:
            self.close()
            if number == len(self._entries):
                self._entries += entries([self._paths[number]], self._selection.source.storage)
            entry = self._entries[number]
            io = cast(Io, self._settings.io)
            reach = replace(self._settings.reach, storage=entry.storage)
            access = _access(self._selection.source.format)
            file = open_file(entry.path, io=io, access=access, expected=entry.identity, reach=reach)
            try:
                self._selection.source.format.check(file)
                self._open = number, file, self._rows(file, entry)
            except BaseException:
                file.close()
                raise
        return self._open[1], self._open[2]

    def _rows(self, file: MappedFile, entry: FileEntry) -> FileRows:
        form, columns, settings = self._selection.source.format, self._selection.inside, self._settings
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
                how = Building(file.decision.kind, settings.workers, settings.shard_size, settings.reach)
                return IndexedRows(file, entry, form, columns, how)
            case _:
                raise PlanError(f"no random access: not for format {form.name}")


def _access(form: Format) -> Access:
    """Parquet's column chunks are read whole, batches of IPC as they are touched; of others single rows are wanted."""
    if isinstance(form, ParquetFormat):
        return "sequential"
    return "any" if isinstance(form, ArrowIpcFormat) else "random"
