"""Fixed-width binary records: columns are fields at fixed offsets, gathered by stride."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Scan, ScanReport, ScanRequest, checks_all
from mmflow.formats.compression import compressed_records_error, compression_suffix, refuse_compressed
from mmflow.formats.decoding.decoder import BadValue, Decoded
from mmflow.formats.decoding.kernel_types import import_batch
from mmflow.formats.decoding.reader import assemble, note_bad
from mmflow.formats.decoding.views import set_nulls, take_rows, views_over
from mmflow.formats.row_groups import size_of
from mmflow.formats.schemas.schema import parse_type
from mmflow.kernels import kernels
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["Field", "RecordsFormat", "open_records"]

_CHARS = re.compile(r"char\[(\d+)\]")
_WINDOW_ROWS = 64 << 10


@dataclass(frozen=True, slots=True)
class Field:
    """Column of a record.

    Attributes:
        name: Name of the column.
        type: Arrow type; string_view for text of `width` bytes, padded with NULs or spaces.
        offset: Offset of its first byte in the record.
        width: Its bytes.
        big_endian: Byte order of numbers.
    """

    name: str
    type: pa.DataType
    offset: int
    width: int
    big_endian: bool = False

    @property
    def is_text(self) -> bool:
        return bool(pa.types.is_string_view(self.type))


@dataclass(frozen=True, slots=True)
class RecordsFormat:
    """Binary records of one layout. See `formats.Format`.

    Attributes:
        fields: Columns.
        size: Bytes of one record.
        header: Bytes of the file before the first record.
        check_all: Look at the text of all columns, whatever a query reads.
    """

    fields: tuple[Field, ...]
    size: int
    header: int = 0
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    name: str = "records"
    record_oriented: bool = True
    one_nan: bool = False
    splittable: bool = True
    skips_holes: bool = False

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(f.name, f.type) for f in self.fields])

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
        check_header(file.path, file.size, self.header)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        """Return no columns: the layout says those of every file."""
        del file
        return frozenset()

    def spec(self) -> dict[str, Any]:
        layout = [
            {
                "name": f.name,
                "type": f"char[{f.width}]" if pa.types.is_string_view(f.type) else str(f.type),
                "offset": f.offset,
                "order": "big" if f.big_endian else "little",
            }
            for f in self.fields
        ]
        return {
            "format": "records",
            "layout": layout,
            "record_size": self.size,
            "header_bytes": self.header,
            "on_bad_record": self.on_bad_record,
            "validate": "all" if self.check_all else "projected",
        }


class _FixedScan:
    """Records at computable positions: nothing is guessed."""

    def __init__(self, form: RecordsFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()
        wanted = [f for name in request.columns for f in form.fields if f.name == name]
        checked = [f for f in form.fields if form.check_all and f.is_text and f not in wanted]
        self._wanted = [*wanted, *checked]
        self._columns = len(wanted)
        self._schema = pa.schema([pa.field(f.name, f.type) for f in self._wanted])
        self._reader = kernels().RecordsReader([kernel_field(f) for f in self._wanted], form.size)

    def _number(self, offset: int) -> int:
        """Return the number of the first record that begins at or after a byte offset."""
        return max(0, -(-(offset - self._form.header) // self._form.size))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        form, file, report = self._form, self._file, self.report
        form.check(file)
        whole = max(0, file.size - form.header) // form.size
        first, last = self._number(self._shard.begin), self._number(self._shard.end)
        report.first = min(form.header + first * form.size, file.size)
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
        report.next = min(form.header + last * form.size, file.size)
        if first <= whole < last and form.header + whole * form.size < file.size:
            self._partial(form.header + whole * form.size)

    def _partial(self, base: int) -> None:
        """Return the error for a file that ends inside a record."""
        report, length = self.report, self._file.size - base
        data = self._file.window(base, length).buffer
        reason = f"expected {self._form.size:,} bytes, the file ends after {length:,}"
        bad = BadValue(0, length, 0, 0, None, None, reason)
        note_bad(report, self._form.on_bad_record, self._file.path, data, base, bad)
        if report.error is None:
            report.records += 1

    def _decoded(self, data: pa.Buffer, base: int, count: int) -> pa.RecordBatch:
        """Decode `count` records; under `error`, those before the first bad one, which the report then has."""
        numbers = np.arange(count, dtype=np.int64)
        status, _, _, rows, _, capsule, _ = self._reader.decode(data.address, count, data)
        if status:
            batch, numbers = self._invalid_rows(data, base, count)
        else:
            batch = import_batch(self._schema, capsule, rows)
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
        gathered = [gather(data, f, size, count) for f in self._wanted]
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
            bad = BadValue(row * size, size, row, 0, field.name, value, "not valid UTF-8", not null)
            note_bad(report, policy, self._file.path, data, base, bad)
            if report.error is not None:
                keep[row:] = False
                break
            keep[row] = null
        kept = np.flatnonzero(keep)
        arrays = [take_rows(array, pa.array(kept)) for array, _ in gathered]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema), kept


def gather(data: pa.Buffer, field: Field, size: int, count: int) -> tuple[pa.Array, list[int]]:
    """Gather one field of `count` records of `size` bytes as a column, and the rows whose text is not UTF-8: null.

    The reference of the kernel.
    """
    raw = np.frombuffer(data, np.uint8)
    cells = np.lib.stride_tricks.as_strided(raw[field.offset :], (count, field.width), (size, 1))
    if pa.types.is_string_view(field.type):
        used = (cells != 0) & (cells != 32)
        lengths = np.where(used.any(axis=1), field.width - used[:, ::-1].argmax(axis=1), 0).astype(np.int64)
        starts = np.arange(count, dtype=np.int64) * size + field.offset
        wrong = [i for i in range(count) if not _is_text(cells[i, : lengths[i]].tobytes())]
        array = views_over(data, starts, lengths, pa.string_view())
        return set_nulls(array, np.isin(np.arange(count), wrong)), wrong
    packed = np.ascontiguousarray(cells)
    if pa.types.is_fixed_size_binary(field.type):
        return pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(packed)]), []
    if pa.types.is_boolean(field.type):
        return pa.array(packed[:, 0] != 0), []
    if field.big_endian and field.width > 1:
        packed = np.ascontiguousarray(packed[:, ::-1])
    return pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(packed)]), []


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def kernel_field(field: Field) -> tuple[int, int, int]:
    """Return a field as the kernel takes it: offset, width, form (RecordField in gather.h)."""
    if pa.types.is_string_view(field.type):
        form = 3
    elif pa.types.is_boolean(field.type):
        form = 2
    else:
        form = 1 if field.big_endian and not pa.types.is_fixed_size_binary(field.type) else 0
    return field.offset, field.width, form


def record_field(item: Mapping[str, Any]) -> Field:
    unknown = set(item) - {"name", "type", "offset", "order"}
    if unknown or not {"name", "type", "offset"} <= set(item):
        raise ConfigError(f"a field of a record layout has name, type, offset and order, not {sorted(item)}")
    order = item.get("order", "little")
    if order not in ("little", "big"):
        raise ConfigError(f"field {item['name']!r}: order is little or big, not {order!r}")
    chars = _CHARS.fullmatch(str(item["type"]))
    if chars:
        return Field(item["name"], pa.string_view(), int(item["offset"]), int(chars[1]))
    kind = parse_type(item["type"])
    if pa.types.is_boolean(kind):
        width = 1
    elif pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
    elif pa.types.is_primitive(kind):
        width = kind.bit_width // 8
    else:
        raise ConfigError(f"field {item['name']!r}: {kind} has no fixed width; write char[n] or binary[n]")
    return Field(item["name"], kind, int(item["offset"]), width, order == "big")


def check_header(path: str, size: int, header: int) -> None:
    """Check that a file of `size` bytes is not shorter than its header.

    Raises:
        SourceError: It is.
    """
    if size < header:
        raise SourceError(
            f"can't read {path}: it has {size:,} bytes, and header_bytes is {header:,}; the file was cut short, or "
            "header_bytes is wrong",
            path=path,
        )


def open_records(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> RecordsFormat:
    """Bind a layout.

    Raises:
        ConfigError: No layout, or one that does not fit the record size.
        SourceError: A file is missing, compressed, or shorter than its header.
    """
    del schema
    layout = options.get("layout")
    if not layout:
        raise ConfigError(
            "binary records need layout=[{name, type, offset, order}, ...] and record_size=<bytes>; "
            "types are those of Arrow, char[n] and binary[n]"
        )
    fields = tuple(record_field(item) for item in layout)
    end = max(f.offset + f.width for f in fields)
    size, header = options.get("record_size", end), options.get("header_bytes", 0)
    names = [f.name for f in fields]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(f"two fields of the layout are called {twice!r}; give them different names")
    for f in fields:
        if f.offset < 0 or f.offset + f.width > size:
            raise ConfigError(f"field {f.name!r} ends at byte {f.offset + f.width}, a record has {size}")
    for path in paths:
        if compression_suffix(path):
            raise compressed_records_error(path)
        check_header(path, size_of(path), header)
    return RecordsFormat(
        fields,
        size,
        header,
        options.get("on_bad_record", "error"),
        checks_all(options),
    )
