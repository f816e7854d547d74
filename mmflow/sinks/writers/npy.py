"""npy files: one column gives a 1-D array, several a structured one.

The header before the data holds the number of rows, which is known only at the end. So the header is written with
space for any number, and again when the file is closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.lazy import compute as pc
from mmflow.sinks.writers.base import Writer
from mmflow.sinks.writers.value_limits import check_batch_days

__all__ = ["OPTIONS", "numpy_type", "open_npy", "problem"]

OPTIONS: Mapping[str, Callable[[Any], Any]] = {}
_MAX_ROWS = 10**19
_ALIGNMENT = 64  # of the data, as the format demands


def numpy_type(data_type: pa.DataType) -> np.dtype[Any] | None:
    """Return the fixed-width NumPy type with the same values; None if there is none."""
    types = pa.types
    if types.is_integer(data_type) or types.is_floating(data_type):
        plain: np.dtype[Any] = np.dtype(data_type.to_pandas_dtype())
        return plain
    if types.is_boolean(data_type):
        return np.dtype(bool)
    if types.is_timestamp(data_type) and data_type.tz is None:
        return np.dtype(f"M8[{data_type.unit}]")
    if types.is_duration(data_type):
        return np.dtype(f"m8[{data_type.unit}]")
    if types.is_date(data_type):
        return np.dtype("M8[D]")
    return None


def problem(field: pa.Field) -> str | None:
    """Return why npy can't hold a column; None where it can."""
    if not field.name:
        return "npy has no columns without a name; rename it (AS …)"
    if numpy_type(field.type) is not None:
        return None
    if pa.types.is_timestamp(field.type):
        return "npy has no time zones; cast the column to a timestamp without one, or write parquet"
    return "npy holds numbers, booleans, dates and timestamps only; cast the column, or write parquet"


def open_npy(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Open an npy file in C order, little-endian."""
    return _NpyWriter(path, schema)


class _NpyWriter:
    pending = 0

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._names = schema.names
        types = [numpy_type(f.type) for f in schema]
        assert all(t is not None for t in types), "check_sink comes first"
        named = list(zip(self._names, types, strict=True))
        self._type: np.dtype[Any] = np.dtype(types[0]) if len(types) == 1 else np.dtype(named)
        self._rows = 0
        self._header_bytes = len(_header(self._type, _MAX_ROWS, 0))
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115  (closed by close)
        self._file.write(_header(self._type, 0, self._header_bytes))

    def write(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(self._names, batch.columns, strict=True):
            if column.null_count:
                raise SinkError(
                    f"column {name!r} holds nulls, which npy can't; fill them (coalesce), or write parquet",
                    column=name,
                )
        self._check_least_value(check_batch_days(batch))
        self._file.write(np.ascontiguousarray(self._numpy_rows(batch)).view(np.uint8).data)
        self._rows += batch.num_rows

    def _check_least_value(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(self._names, batch.columns, strict=True):
            if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
                least = pc.min(column.view(pa.int64())).as_py()
                if least == np.iinfo(np.int64).min:
                    raise SinkError(
                        f"column {name!r} holds the least {column.type}, which numpy takes for none (NaT); "
                        "cast it to int64, or write parquet",
                        column=name,
                    )

    def _numpy_rows(self, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
        arrays = [_numpy_column(column) for column in batch.columns]
        if len(arrays) == 1:
            return arrays[0].astype(self._type, copy=False)
        rows = np.empty(batch.num_rows, self._type)
        for name, values in zip(self._names, arrays, strict=True):
            rows[name] = values
        return rows

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.seek(0)
        self._file.write(_header(self._type, self._rows, self._header_bytes))
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # the file is about to be deleted
            self._file.close()


def _numpy_column(column: pa.Array) -> np.ndarray[Any, Any]:
    kind = column.type
    if pa.types.is_date32(kind):
        return numpy_values(column).astype("M8[D]")
    if pa.types.is_date64(kind):
        return numpy_values(column).astype("M8[D]")
    return numpy_values(column)


def _header(dtype: np.dtype[Any], rows: int, room: int) -> bytes:
    """Return magic and header of version 1 (2 if long, 3 if not ASCII), padded to `room` bytes."""
    descr = np.lib.format.dtype_to_descr(dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': ({rows},), }}"
    encoded = text.encode()
    version = 3 if not text.isascii() else 2 if len(encoded) > 60_000 else 1
    prefix = 10 if version == 1 else 12
    total = max(room, -(-(prefix + len(encoded) + 1) // _ALIGNMENT) * _ALIGNMENT)
    body = encoded + b" " * (total - prefix - len(encoded) - 1) + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + len(body).to_bytes(prefix - 8, "little") + body
