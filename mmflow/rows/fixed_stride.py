"""Rows at a fixed stride: binary records and npy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from mmflow.errors import BadRecordError
from mmflow.formats.npy.archive import InflatedArray, open_array
from mmflow.formats.npy.format import NpyFormat, make_column, wanted_columns
from mmflow.formats.records.format import RecordsFormat, misfit
from mmflow.formats.records.gathering import FieldReader, gather_column
from mmflow.formats.records.header import cut_off
from mmflow.formats.row_groups import make_batch
from mmflow.lazy import array_types as npt
from mmflow.mapping import MappedFile
from mmflow.mapping.ranges import load_rows, split_rows
from mmflow.rows.base import Job, add_virtual_columns, take_values

__all__ = ["NpyRows", "RecordRows"]

I64 = npt.NDArray[np.int64]

_EXCERPT = 120


class RecordRows:
    """Rows of a file of binary records."""

    def __init__(self, file: MappedFile, form: RecordsFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        fields = {f.name: f for f in form.fields}
        self._wanted = [fields[c] for c in columns if c in fields]

    def count(self, upto: int) -> int:
        form, size = self._form, self._file.size
        form.check(self._file)
        end = size - form.footer
        rows = (end - form.header) // form.size
        left = end - form.header - rows * form.size
        if upto > rows and left and form.on_bad_record == "error":
            raise BadRecordError.at(
                path=self._file.path,
                byte_offset=end - left,
                reason=cut_off(form.size, left, form.footer),
                record=rows,
                excerpt=self._file.window(end - left, min(left, _EXCERPT)).buffer.to_pybytes(),
            )
        return rows

    def jobs(self, numbers: I64) -> Iterator[Job]:
        for part in split_rows(numbers, self._form.size):
            yield partial(self._read, part)

    def _read(self, numbers: I64) -> list[pa.RecordBatch]:
        size = self._form.size
        data, positions = load_rows(self._file, self._form.header, size, numbers)
        if len(positions) * size != data.size:
            rows = np.frombuffer(data, np.uint8).reshape(-1, size)
            data = pa.py_buffer(np.take(rows, positions, axis=0))
        names = [f.name for f in self._wanted]
        batch = FieldReader(self._wanted, size).read(data, len(numbers))
        if batch is None:
            batch = self._decode_by_column(data, numbers)
        every = np.arange(len(numbers))
        read = make_batch([take_values(c, every) for c in batch.columns], names, len(numbers))
        if len(self._wanted) == len(self._columns):
            return [read]
        offsets = self._form.header + numbers * size
        return [
            add_virtual_columns(
                self._columns, read, self._file.path, offsets, np.ones(len(numbers), np.int64)
            )
        ]

    def _decode_by_column(self, data: pa.Buffer, numbers: I64) -> pa.RecordBatch:
        """Decode rows of which some hold text that is not UTF-8: null.

        Raises:
            BadRecordError: The policy is `error`.
        """
        size = self._form.size
        gathered = [gather_column(data, f, size, len(numbers)) for f in self._wanted]
        if self._form.on_bad_record == "error":
            found = [(row, f) for f, (_, wrong) in zip(self._wanted, gathered, strict=True) for row in wrong]
            row, field = min(found, key=lambda each: each[0])
            text = data.slice(row * size + field.offset, field.width).to_pybytes()
            raise BadRecordError.at(
                path=self._file.path,
                byte_offset=self._form.header + int(numbers[row]) * size,
                reason=misfit(field),
                record=int(numbers[row]),
                column=field.name,
                value=text.decode(errors="replace"),
                excerpt=data.slice(row * size, min(size, _EXCERPT)).to_pybytes(),
            )
        return make_batch([array for array, _ in gathered], [f.name for f in self._wanted], len(numbers))


class NpyRows:
    """Rows of an npy file."""

    def __init__(self, file: MappedFile, form: NpyFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        self._source, self._header = open_array(file, form.array)
        self._wanted = wanted_columns(self._source, self._header, columns)

    def count(self, upto: int) -> int:
        del upto
        return self._header.shape[0]

    def jobs(self, numbers: I64) -> Iterator[Job]:
        header = self._header
        for part in split_rows(numbers, header.dtype.itemsize if header.fortran else header.row_bytes):
            yield partial(self._read, part)

    def _read(self, numbers: I64) -> list[pa.RecordBatch]:
        header, path = self._header, self._file.path
        arrays = []
        if not header.fortran and self._wanted:
            data, positions = self._load(header.begin, header.row_bytes, numbers)
            rows = np.frombuffer(data, header.dtype).reshape(-1, *header.shape[1:])
        for column in self._wanted:
            if header.fortran:
                begin = header.begin + int(column.name[1:]) * header.shape[0] * header.dtype.itemsize
                data, positions = self._load(begin, header.dtype.itemsize, numbers)
                values = np.frombuffer(data, header.dtype)[positions]
            else:
                values = column.pick(rows)[positions]
            values = np.ascontiguousarray(values)
            array = make_column(values, column.dtype, pa.py_buffer(values.view(np.uint8)), path, column.name)
            fitted = self._form.convert(array, path, column.name)
            arrays.append(take_values(fitted, np.arange(len(numbers))))
        return [make_batch(arrays, self._columns, len(numbers))]

    def _load(self, begin: int, size: int, numbers: I64) -> tuple[pa.Buffer, I64]:
        """Return bytes that hold some rows, and the places of these."""
        if isinstance(self._source, InflatedArray):
            return self._source.window(begin, self._header.shape[0] * size).buffer, numbers
        return load_rows(self._file, begin, size, numbers)
