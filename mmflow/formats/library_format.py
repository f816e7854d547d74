"""Common parts of formats that a library decodes: ORC, Avro and Excel.

Such a format says what a reader of one file is; the scan of a shard, the fit of columns and the checks are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.arrow_ipc.format import wanted_numbers
from mmflow.formats.base import Scan, ScanReport, ScanRequest
from mmflow.formats.row_groups import (
    GroupFormat,
    check_values,
    make_batch,
    slice_batch,
    translate_read_errors,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["LibraryFormat", "TableReader", "missing_library"]


class TableReader(Protocol):
    """Reader of one file.

    Attributes:
        schema: Columns as the file has them.
    """

    schema: pa.Schema

    def owned(self, shard: Shard) -> tuple[int, int]:
        """Return the first group that a shard owns, and the one after its last."""
        ...

    def read(
        self, first: int, behind: int, columns: Sequence[int]
    ) -> Iterator[tuple[int, pa.RecordBatch, int]]:
        """Yield groups `[first, behind)` in order.

        Yields:
            The number of a batch's first row (`ScanReport.row`), the columns of these numbers (without any: as many
            rows), and the bytes that were read for it.
        """
        ...


@dataclass(frozen=True, slots=True)
class LibraryFormat(GroupFormat):
    """Files of one schema that a library decodes."""

    #: Name for messages.
    kind: ClassVar[str] = ""

    def open_reader(self, file: MappedFile) -> TableReader:
        """Open a reader of a file.

        Raises:
            SourceError: It is damaged, or of another kind.
            ConfigError: The library is not installed.
        """
        raise NotImplementedError

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the rows that `shard` owns. Takes and raises what `Format.scan` does."""
        return _LibraryScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        with translate_read_errors(file.path, self.kind):
            names = self.open_reader(file).schema.names
        self.columns.check(file.path, names, self.schema.names)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        if self.columns.missing == "error":
            return frozenset()
        with translate_read_errors(file.path, self.kind):
            return self.columns.lacking(self.open_reader(file).schema.names, self.schema.names)


class _LibraryScan:
    """Scan of the groups of one shard."""

    def __init__(self, form: LibraryFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        form, path, report, names = self._form, self._file.path, self.report, self._request.columns
        with translate_read_errors(path, form.kind):
            reader = form.open_reader(self._file)
            form.columns.check(path, reader.schema.names, form.schema.names)
            numbers = wanted_numbers(reader.schema, path, names)
            report.first, report.next = reader.owned(self._shard)
            for row, batch, nbytes in reader.read(report.first, report.next, numbers):
                check_values(batch, path)
                report.records += batch.num_rows
                report.bytes_read += nbytes
                fitted = [form.convert(c, path, n) for c, n in zip(batch.columns, names, strict=True)]
                made = make_batch(fitted, names, batch.num_rows)
                yield from slice_batch(made, self._request.batch_rows, report, row)


def missing_library(path: str, kind: str, package: str, extra: str) -> ConfigError:
    """Return the error for a file whose library is not installed."""
    return ConfigError(
        f"{path} is {kind}, which is read by {package}, and that is not installed: "
        f"pip install 'mmflow-engine[{extra}]'",
        code="MMF-CFG-002",
    )
