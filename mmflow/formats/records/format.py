"""Fixed-width binary records: columns are fields at fixed offsets, gathered by stride."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.base import BadRecordPolicy, Scan, ScanReport, ScanRequest, checks_all
from mmflow.formats.compression import compressed_records_error, compression_suffix, refuse_compressed
from mmflow.formats.decoding.decoder import BadValue, Decoded
from mmflow.formats.decoding.reader import assemble, note_bad
from mmflow.formats.decoding.views import take_rows
from mmflow.formats.records.dtypes import dtype_layout
from mmflow.formats.records.gathering import FieldReader, fields_schema, gather_column
from mmflow.formats.records.header import check_header, cut_off
from mmflow.formats.records.layout import REST, Field, field_spec, record_fields
from mmflow.formats.records.variable import VariableFormat, open_variable
from mmflow.formats.row_groups import size_of
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["RecordsFormat", "misfit", "open_records"]

_WINDOW_ROWS = 64 << 10


@dataclass(frozen=True, slots=True)
class RecordsFormat:
    """Binary records of one layout. See `formats.Format`.

    Attributes:
        fields: Columns.
        size: Bytes of one record.
        header: Bytes of the file before the first record.
        footer: Bytes of the file behind the last record.
        check_all: Look at the text of all columns, whatever a query reads.
    """

    fields: tuple[Field, ...]
    size: int
    header: int = 0
    footer: int = 0
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    name: str = "records"
    record_oriented: bool = True
    one_nan: bool = False
    splittable: bool = True
    skips_holes: bool = False

    @property
    def schema(self) -> pa.Schema:
        return fields_schema(self.fields)

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records that `shard` owns. Takes and raises what `Format.scan` does."""
        if shard.begin == 0:
            refuse_compressed(file)
        return _FixedScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        """Check that the header fits the file, and that the file is not compressed.

        Raises:
            SourceError: The file ends inside its header, or is compressed.
        """
        refuse_compressed(file)
        check_header(file.path, file.size, self.header, self.footer)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        """Return no columns: the layout says those of every file."""
        del file
        return frozenset()

    def spec(self) -> dict[str, Any]:
        return {
            "format": "records",
            "layout": [field_spec(f) for f in self.fields],
            "record_size": self.size,
            "header_bytes": self.header,
            "footer_bytes": self.footer,
            "on_bad_record": self.on_bad_record,
            "validate": "all" if self.check_all else "projected",
        }


class _FixedScan:
    """Records at computable positions: nothing is guessed."""

    def __init__(self, form: RecordsFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()
        wanted = [f for name in request.columns for f in form.fields if f.name == name]
        checked = [f for f in form.fields if form.check_all and f.may_be_bad and f not in wanted]
        self._wanted = [*wanted, *checked]
        self._columns = len(wanted)
        self._schema = fields_schema(self._wanted)
        self._reader = FieldReader(self._wanted, form.size)
        self._end = file.size - form.footer

    def _number(self, offset: int) -> int:
        """Return the number of the first record that begins at or after a byte offset."""
        return max(0, -(-(offset - self._form.header) // self._form.size))

    def _place(self, number: int) -> int:
        """Return where a record begins; the end of the file where there is none of this number."""
        place = self._form.header + number * self._form.size
        return place if place < self._end else self._file.size

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        form, file, report = self._form, self._file, self.report
        form.check(file)
        whole = max(0, self._end - form.header) // form.size
        first, last = self._number(self._shard.begin), self._number(self._shard.end)
        report.first = self._place(first)
        window_sizes = file.window_sizes(min(_WINDOW_ROWS * form.size, self._request.window_bytes))
        number, following = first, next(window_sizes)
        while number < min(last, whole):
            count = min(max(1, following // form.size), min(last, whole) - number)
            following = next(window_sizes)
            base = form.header + number * form.size
            behind = base + count * form.size
            file.fetch([(behind, min(following, (min(last, whole) - number - count) * form.size))])
            window = file.window(base, count * form.size)
            batch = self._decoded(window.buffer, base, count)
            if report.error is not None:
                report.next = base
                yield batch
                return
            report.next = base + window.length
            report.records += count
            report.bytes_read += window.length
            yield batch
            file.evict_behind(base, window.length)
            number += count
        report.next = self._place(last)
        if first <= whole < last and form.header + whole * form.size < self._end:
            self._partial(form.header + whole * form.size)

    def _partial(self, base: int) -> None:
        """Return the error for a file that ends inside a record."""
        report, length = self.report, self._end - base
        data = self._file.window(base, length).buffer
        reason = cut_off(self._form.size, length, self._form.footer)
        bad = BadValue(0, length, 0, None, None, None, reason)
        note_bad(report, self._form.on_bad_record, self._file.path, data, base, bad)
        if report.error is None:
            report.records += 1

    def _decoded(self, data: pa.Buffer, base: int, count: int) -> pa.RecordBatch:
        """Decode `count` records; under `error`, those before the first bad one, which the report then has."""
        numbers = np.arange(count, dtype=np.int64)
        batch = self._reader.read(data, count)
        if batch is None:
            batch, numbers = self._invalid_rows(data, base, count)
        decoded = Decoded(
            # A select costs some microseconds, and pieces are many.
            batch if self._columns == len(self._wanted) else batch.select(range(self._columns)),
            data.size,
            count,
            0,
            numbers * self._form.size,
            np.zeros(len(numbers), np.int64),
        )
        return assemble(decoded, self._request, self._file.path, base, 0)

    def _invalid_rows(
        self, data: pa.Buffer, base: int, count: int
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
        """Return the rows where some text is not UTF-8, and the numbers of their records."""
        report, policy, size = self.report, self._form.on_bad_record, self._form.size
        gathered = [gather_column(data, f, size, count) for f in self._wanted]
        # Of several such fields of a record, the first in the layout, whatever the order in which they are wanted.
        order = self._form.fields.index
        found = sorted(zip(self._wanted, gathered, strict=True), key=lambda each: order(each[0]))
        wrong = {row: field for field, (_, rows) in reversed(found) for row in rows}
        keep = np.ones(count, np.bool_)
        for row in sorted(wrong):
            field = wrong[row]
            text = data.slice(row * size + field.offset, field.width).to_pybytes()
            value = text.decode(errors="replace")
            null = policy == "null"
            bad = BadValue(row * size, size, row, None, field.name, value, misfit(field), not null)
            note_bad(report, policy, self._file.path, data, base, bad)
            if report.error is not None:
                keep[row:] = False
                break
            keep[row] = null
        kept = np.flatnonzero(keep)
        arrays = [take_rows(array, pa.array(kept)) for array, _ in gathered]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema), kept


def misfit(field: Field) -> str:
    """Return why bytes are no value of a field."""
    return "not valid UTF-8" if field.is_plain else "not valid UTF-8, or a length beyond its field"


def open_records(
    paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None
) -> RecordsFormat | VariableFormat:
    """Bind a layout.

    Raises:
        ConfigError: No layout, or one that does not fit the record size.
        SourceError: A file is missing, compressed, or shorter than its header and footer.
    """
    del schema
    layout, dtype = options.get("layout"), options.get("dtype")
    if dtype is not None:
        if layout:
            raise ConfigError("layout and dtype both say what a record is; leave one of them out")
        layout = dtype_layout(dtype)
    if not layout:
        raise ConfigError(
            "binary records need layout=[{name, type, offset, order}, ...] and record_size=<bytes>, or dtype='<f4'; "
            "types are those of Arrow, char[n] and binary[n]"
        )
    fields = record_fields(layout)
    header, footer = options.get("header_bytes", 0), options.get("footer_bytes", 0)
    for path in paths:
        if compression_suffix(path):
            raise compressed_records_error(path)
        check_header(path, size_of(path), header, footer)
    policy, check_all = options.get("on_bad_record", "error"), checks_all(options)
    prefix, delimiter = options.get("record_length"), options.get("delimiter")
    if prefix is not None or delimiter is not None:
        if prefix is not None and delimiter is not None:
            raise ConfigError("record_length and delimiter both say where records end; leave one of them out")
        if "record_size" in options:
            raise ConfigError(
                "record_size is for records of one size; leave it out beside record_length or delimiter"
            )
        return open_variable(fields, prefix, delimiter, header, footer, policy, check_all)
    rest = next((f.name for f in fields if REST in (f.width, f.offset)), None)
    if rest is not None:
        raise ConfigError(
            f"field {rest!r} has no width; write char[n] or binary[n], or say where records end by record_length or "
            "delimiter"
        )
    end = max(f.offset + f.width for f in fields)
    size = options.get("record_size", end)
    for f in fields:
        if f.offset < 0 or f.offset + f.width > size:
            raise ConfigError(f"field {f.name!r} ends at byte {f.offset + f.width}, a record has {size}")
    return RecordsFormat(fields, size, header, footer, policy, check_all)
