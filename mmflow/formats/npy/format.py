"""npy arrays as tables: rows by their place in the file, columns by stride.

    1-D             column `value`
    2-D             columns `c0`, `c1`, ...; beyond 1,000 of them one list column `value` (C order only)
    structured      its fields

A row begins where its first byte lies, so a shard's rows are computed, not searched. In Fortran order a row
lies in pieces; there the rows are shared out evenly over the file.

No copy: 1-D arrays and columns in Fortran order, where they are little-endian, aligned and no booleans;
`S` text longer than 12 bytes. `S` and `U` are text; trailing NULs are padding, as numpy has it. NaT is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import Scan, ScanReport, ScanRequest
from mmflow.formats.decoding.views import views_over
from mmflow.formats.npy.archive import InflatedArray, open_array
from mmflow.formats.npy.header import ArrayBytes, NpyHeader
from mmflow.formats.row_groups import (
    GroupFormat,
    group_source,
    make_batch,
    owned_evenly,
    slice_batch,
)
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["Column", "NpyFormat", "make_column", "open_npy", "wanted_columns"]

_MOST_COLUMNS = 1000
_LAST_CHARACTER = 0x10FFFF
_ARROW_UNITS = ("s", "ms", "us", "ns")
_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class NpyFormat(GroupFormat):
    """npy files, or arrays of npz archives, of one schema.

    Attributes:
        array: Name of the array in archives; None: each has one.
    """

    name: str = "npy"
    array: str | None = None

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the rows that `shard` owns. Takes and raises what `Format.scan` does."""
        return _NpyScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        self.check_header(file.path, open_array(file, self.array)[1])

    def check_header(self, path: str, header: NpyHeader) -> None:
        """Check a file whose header was read."""
        names = [c.name for c in _columns(header)]
        self.columns.check(path, names, self.schema.names, declarable=False)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        if self.columns.missing == "error":
            return frozenset()
        return self.columns.lacking(
            [c.name for c in _columns(open_array(file, self.array)[1])], self.schema.names
        )

    def spec(self) -> dict[str, Any]:
        return {**GroupFormat.spec(self), "array": self.array}


def open_npy(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> NpyFormat:
    """Open npy files as one source; the first one's layout gives the columns.

    Raises:
        SourceError: Missing, empty, damaged, not npy, of Python objects, or of types that Arrow lacks.
        ConfigError: A schema was given; the files say theirs.
    """
    if schema is not None:
        raise ConfigError("npy files say their own types; leave schema= out, and cast")
    array = options.get("array")
    whole = True

    def read_schema(file: MappedFile) -> pa.Schema:
        nonlocal whole
        data, header = open_array(file, array)
        whole = whole and not isinstance(data, InflatedArray)
        return _schema(file.path, header)

    found, columns = group_source(paths, "npy", None, read_schema, options)
    return NpyFormat(found, columns=columns, splittable=whole, array=array)


def _schema(path: str, header: NpyHeader) -> pa.Schema:
    columns = _columns(header)
    return pa.schema([pa.field(c.name, _arrow_type(c.dtype, path)) for c in columns])


# ---- layout -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """Column of an array: `dtype` may have a subshape (a list), `pick` gets it out of a block of rows."""

    name: str
    dtype: np.dtype[Any]
    pick: Callable[[_Array], _Array]


def _columns(header: NpyHeader) -> list[Column]:
    dtype = header.dtype
    if dtype.names is not None:
        return [Column(name, dtype[name], itemgetter(name)) for name in dtype.names]
    if len(header.shape) == 1:
        return [Column("value", dtype, lambda rows: rows)]
    width = header.shape[1]
    if width <= _MOST_COLUMNS:
        return [Column(f"c{i}", dtype, itemgetter((slice(None), i))) for i in range(width)]
    return [Column("value", np.dtype((dtype, (width,))), lambda rows: rows)]


def _arrow_type(dtype: np.dtype[Any], path: str) -> pa.DataType:
    """Return the Arrow type of elements.

    Raises:
        SourceError: There is none.
    """
    if dtype.subdtype is not None:
        made, shape = _arrow_type(dtype.subdtype[0], path), dtype.subdtype[1]
        for size in reversed(shape):
            made = pa.list_(made, size)
        return made
    if dtype.names:
        return pa.struct([(name, _arrow_type(dtype[name], path)) for name in dtype.names])
    kind, size = dtype.kind, dtype.itemsize
    if kind in "biu" or (kind == "f" and size in (4, 8)):
        return pa.from_numpy_dtype(dtype.newbyteorder("="))
    if kind == "f" and size == 2:
        return pa.float32()
    if kind in "SU" and size:
        return pa.string_view()
    if kind in "Mm":
        unit, step = np.datetime_data(dtype)
        if unit == "D" and step == 1 and kind == "M":
            return pa.date32()
        if unit != "generic":
            unit = unit if unit in _ARROW_UNITS and step == 1 else "s" if unit in "YMWDhms" else "ns"
            return pa.timestamp(unit) if kind == "M" else pa.duration(unit)
    raise SourceError(
        f"can't read {path}: elements of numpy type {dtype} have no Arrow type; "
        "write them as numbers, booleans, text, dates or a structure of these",
        path=path,
    )


# ---- scans ------------------------------------------------------------------------------------


class _NpyScan:
    """Scan of the rows of one shard."""

    def __init__(self, form: NpyFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report = self.report
        file, header = open_array(self._file, self._form.array)
        self._form.check_header(file.path, header)
        report.first, report.next = _rows_of(header, self._shard, self._file.size)
        columns = wanted_columns(file, header, self._request.columns)
        window_sizes = file.window_sizes(self._request.window_bytes)
        first, following = report.first, next(window_sizes)
        while first < report.next:
            count = min(max(1, following // header.row_bytes), report.next - first)
            following = next(window_sizes)
            if columns and not header.fortran:
                behind = header.begin + (first + count) * header.row_bytes
                file.fetch([(behind, min(following, header.begin + report.next * header.row_bytes - behind))])
            read = _fortran_block if header.fortran else _block
            arrays = read(file, header, columns, first, count) if columns else []
            fitted = [self._form.convert(a, file.path, c.name) for a, c in zip(arrays, columns, strict=True)]
            report.records += count
            report.bytes_read += count * header.row_bytes if columns else 0
            names = [c.name for c in columns]
            yield from slice_batch(make_batch(fitted, names, count), self._request.batch_rows, report, first)
            if not header.fortran:
                file.evict_behind(header.begin + first * header.row_bytes, count * header.row_bytes)
            first += count


def wanted_columns(file: ArrayBytes, header: NpyHeader, names: Sequence[str]) -> list[Column]:
    """Return the columns of these names.

    Raises:
        SourceError: There is no such column, or they lie too far apart.
    """
    there = {c.name: c for c in _columns(header)}
    for name in names:
        if name not in there:
            raise SourceError(
                f"{file.path}: has no column {name!r}, which the source's first file has; "
                f"its columns are {', '.join(there)}",
                path=file.path,
                column=name,
            )
    if names and header.fortran and header.shape[1] > _MOST_COLUMNS:
        raise SourceError(
            f"can't read {file.path}: {header.shape[1]:,} columns in Fortran order; write it in C order "
            "(numpy.ascontiguousarray)",
            path=file.path,
        )
    return [there[name] for name in names]


def _rows_of(header: NpyHeader, shard: Shard, size: int) -> tuple[int, int]:
    """Return the first row of a shard, and the one after its last."""
    rows = header.shape[0]
    if header.fortran:
        return owned_evenly(rows, shard, size)

    def at(offset: int) -> int:
        return min(rows, max(0, -(-(offset - header.begin) // header.row_bytes)))

    return at(shard.begin), rows if shard.end >= size else at(shard.end)


def _block(
    file: ArrayBytes, header: NpyHeader, columns: list[Column], first: int, count: int
) -> list[pa.Array]:
    """Read columns of rows that lie one behind the other."""
    window = file.window(header.begin + first * header.row_bytes, count * header.row_bytes)
    rows = np.frombuffer(window.buffer, header.dtype).reshape(count, *header.shape[1:])
    return [make_column(c.pick(rows), c.dtype, window.buffer, file.path, c.name) for c in columns]


def _fortran_block(
    file: ArrayBytes, header: NpyHeader, columns: list[Column], first: int, count: int
) -> list[pa.Array]:
    """Read columns that each lie in one piece."""
    arrays = []
    size = header.dtype.itemsize
    for column in columns:
        number = int(column.name[1:])
        window = file.window(header.begin + (number * header.shape[0] + first) * size, count * size)
        values = np.frombuffer(window.buffer, header.dtype)
        arrays.append(make_column(values, header.dtype, window.buffer, file.path, column.name))
    return arrays


def make_column(values: _Array, dtype: np.dtype[Any], data: pa.Buffer, path: str, column: str) -> pa.Array:
    """Return a column from a strided view into `data`."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        flat = np.ascontiguousarray(values).reshape(-1)
        made = make_column(flat, base, pa.py_buffer(flat.view(np.uint8)), path, column)
        for size in reversed(shape):
            made = pa.FixedSizeListArray.from_arrays(made, size)
        return made
    if dtype.names:
        members = [make_column(values[name], dtype[name], data, path, column) for name in dtype.names]
        return pa.StructArray.from_arrays(members, names=list(dtype.names))
    kind = values.dtype.kind
    if kind == "S":
        return _text(_byte_views(values, data), path, column)
    if kind == "U":
        return _text(_encoded(values, path, column), path, column)
    if kind in "Mm":
        return _temporal(values, _arrow_type(values.dtype, path), path, column)
    if kind == "b":
        return pa.array(values.view(np.uint8) != 0)
    if kind == "f" and values.dtype.itemsize == 2:
        return pa.array(values.astype(np.float32))
    return _plain(values, pa.from_numpy_dtype(values.dtype.newbyteorder("=")))


def _plain(values: _Array, kind: pa.DataType) -> pa.Array:
    """Return numbers as an array; a view of them where they lie as Arrow has them."""
    native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    if not (native.flags.c_contiguous and native.flags.aligned):
        native = native.copy()
    return pa.Array.from_buffers(kind, len(native), [None, pa.py_buffer(native)])


def _temporal(values: _Array, kind: pa.DataType, path: str, column: str) -> pa.Array:
    unit = "D" if pa.types.is_date(kind) else kind.unit
    native = values.astype(f"{values.dtype.kind}8[{unit}]", copy=False)
    # numpy wraps around silently where a unit has less range.
    if native is not values and not np.array_equal(native.astype(values.dtype), values, equal_nan=True):
        raise _unfit(path, column, f"a value of {values.dtype} is out of the range of {kind}")
    missing = np.isnat(native)
    numbers = np.ascontiguousarray(native).view(np.int64)
    if not pa.types.is_date(kind):
        array = _plain(numbers, kind)
        return array if not missing.any() else pa.array(numbers, mask=missing).cast(kind)
    if (np.abs(numbers[~missing]) > np.iinfo(np.int32).max).any():
        raise _unfit(path, column, f"a date is out of the range of {kind}")
    return pa.array(np.where(missing, 0, numbers).astype(np.int32), mask=missing).cast(kind)


def _byte_views(values: npt.NDArray[np.bytes_], data: pa.Buffer) -> pa.Array:
    """Return `S` text as views of the file's bytes."""
    lengths = np.char.str_len(values).astype(np.int64)
    address = values.__array_interface__["data"][0]
    starts = np.arange(len(values), dtype=np.int64) * values.strides[0] + (address - data.address)
    return views_over(data, starts, lengths, pa.string_view())


def _encoded(values: npt.NDArray[np.str_], path: str, column: str) -> pa.Array:
    """Encode `U` text, which is UTF-32 in the file, as UTF-8."""
    codes = np.ascontiguousarray(values).view(np.dtype("u4").newbyteorder(values.dtype.byteorder))
    if codes.size and codes.max() > _LAST_CHARACTER:  # numpy 2 and Python answer with a SystemError
        raise _unfit(path, column, "a text is not Unicode (a number is no character)")
    try:
        return pa.array(values.tolist(), pa.string()).cast(pa.string_view())
    except (UnicodeEncodeError, UnicodeDecodeError, ValueError) as error:
        raise _unfit(path, column, f"a text is not Unicode ({error})") from error


def _text(array: pa.Array, path: str, column: str) -> pa.Array:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _unfit(path, column, f"a text is not UTF-8 ({error})") from error
    return array


def _unfit(path: str, column: str, what: str) -> SourceError:
    return SourceError(
        f"can't read {path}, column {column!r}: {what}; write it again in another type",
        path=path,
        column=column,
    )
