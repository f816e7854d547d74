"""Sheets of Excel files (.xlsx, .xlsm, .xlsb, .xls) and OpenDocument spreadsheets (.ods), read by python-calamine.

A sheet has at most 2^20 rows, so a file is one shard. Types are those of the cells: all of them are looked at.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Any, ClassVar

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.csv.header import unique_names
from mmflow.formats.library_format import LibraryFormat, TableReader, missing_library
from mmflow.formats.row_groups import group_row, group_source, make_batch
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.shards import Shard

__all__ = ["ExcelFormat", "open_excel"]

_KIND = "Excel"
_BATCH_ROWS = 16 << 10
_NO_COLUMNS = pa.schema([])


@dataclass(frozen=True, slots=True)
class ExcelFormat(LibraryFormat):
    """Sheets of one schema.

    Attributes:
        sheet: Name of the sheet, or its number from 1.
        header: The first row holds the names of the columns.
    """

    name: str = "excel"
    sheet: str | int = 1
    header: bool = field(default=True)
    kind: ClassVar[str] = _KIND

    def open_reader(self, file: MappedFile) -> TableReader:
        return _SheetReader(file, self.sheet, header=self.header, wanted=self.schema)

    def spec(self) -> dict[str, Any]:
        # A class with slots has no `super()` without arguments.
        return {**LibraryFormat.spec(self), "sheet": self.sheet, "header": self.header}


def open_excel(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> ExcelFormat:
    """Open one sheet of each file as one source.

    Args:
        paths: Paths in reading order. The schema is that of the first; columns of others are found by name.
        options: `sheet header`, parsed, and `columns`: how those of the files may differ.
        schema: Declared columns, by name; types may be wider than those of the cells.

    Raises:
        SourceError: Missing, empty, damaged, encrypted, no spreadsheet, or without the sheet.
        ConfigError: `schema` is no schema, or python-calamine is not installed.
    """
    sheet, header = options.get("sheet", 1), options.get("header", True)
    found, columns = group_source(
        paths, _KIND, schema, lambda file: _SheetReader(file, sheet, header=header).schema, options
    )
    return ExcelFormat(found, False, columns, sheet=sheet, header=header)


class _SheetReader:
    """Reader of one sheet.

    Args:
        file: The spreadsheet.
        sheet: Name or number.
        header: The first row holds names.
        wanted: Types that cells are read as where they hold them all: numbers as float64, anything as text.
    """

    def __init__(
        self, file: MappedFile, sheet: str | int, *, header: bool, wanted: pa.Schema = _NO_COLUMNS
    ) -> None:
        self._file, self._header = file, header
        self._sheet = _open_sheet(file, sheet)
        rows = self._rows()
        if header:
            first = next(rows, None)
            if first is None:
                raise SourceError(f"{file.path}: its sheet {sheet!r} is empty", path=file.path)
            # Cells to the right of the header's last one are blank in all rows, or columns without a name.
            names = unique_names([_cell_text(cell) for cell in first])
        width = len(names) if header else self._sheet.width
        kinds: list[set[type]] = [set() for _ in range(width)]
        whole = [True] * width
        for row in rows:
            for column, cell in enumerate(row):
                kinds[column].add(type(cell))
                if type(cell) is float and whole[column]:
                    whole[column] = cell.is_integer() and abs(cell) < 2**53
        if not header:
            names = tuple(f"f{i}" for i in range(width))
        types = [_column_type(k - {_Blank}, whole=w) for k, w in zip(kinds, whole, strict=True)]
        asked = dict(zip(wanted.names, wanted.types, strict=True))
        self.schema = pa.schema([(n, _wider(t, asked.get(n, t))) for n, t in zip(names, types, strict=True)])

    def owned(self, shard: Shard) -> tuple[int, int]:
        return (0, 1) if shard.begin == 0 else (1, 1)

    def read(
        self, first: int, behind: int, columns: Sequence[int]
    ) -> Iterator[tuple[int, pa.RecordBatch, int]]:
        rows = itertools.islice(self._rows(), int(self._header), None) if first < behind else iter(())
        names, types = self.schema.names, self.schema.types
        for start in itertools.count(0, _BATCH_ROWS):
            block = list(itertools.islice(rows, _BATCH_ROWS))
            if not block:
                return
            arrays = [_array([row[n] for row in block], types[n]) for n in columns]
            batch = make_batch(arrays, [names[n] for n in columns], len(block))
            yield group_row(0, start), batch, 0 if start else self._file.size

    def _rows(self) -> Iterator[list[Any]]:
        """Yield the rows that hold anything, blanks as None."""
        for row in self._sheet.iter_rows():
            if any(cell != "" for cell in row):
                yield [None if cell == "" else cell for cell in row]


_Blank = type(None)


def _open_sheet(file: MappedFile, sheet: str | int) -> Any:
    try:
        import python_calamine as calamine  # noqa: PLC0415  (an extra)
    except ImportError:
        raise missing_library(file.path, "a spreadsheet", "python-calamine", "excel") from None
    try:
        book = calamine.CalamineWorkbook.from_filelike(as_arrow_file(file))
        names = book.sheet_names
        if isinstance(sheet, str) and sheet in names:
            return book.get_sheet_by_name(sheet)
        if str(sheet).isdecimal() and 1 <= int(sheet) <= len(names):
            return book.get_sheet_by_index(int(sheet) - 1)
    except calamine.PasswordError:
        raise SourceError(
            f"can't read {file.path}: it is encrypted; save it without a password", path=file.path
        ) from None
    except calamine.CalamineError as error:
        raise SourceError(
            f"can't read {file.path}: it is damaged, or no spreadsheet: {error}; save it again",
            path=file.path,
        ) from error
    listed = ", ".join(map(repr, names))
    raise SourceError(
        f"{file.path} has no sheet {sheet!r}; its sheets are {listed}: set sheet= to a name, or to a number from 1",
        path=file.path,
    )


def _column_type(kinds: set[type], *, whole: bool) -> pa.DataType:
    """Return the type that holds all cells of a column. Excel stores whole numbers as floats."""
    if kinds <= {float, int}:
        if not kinds:
            return pa.null()
        return pa.int64() if whole else pa.float64()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {dt.date}:
        return pa.date32()
    if kinds <= {dt.date, dt.datetime}:
        return pa.timestamp("us")
    if kinds == {dt.time}:
        return pa.time64("us")
    if kinds == {dt.timedelta}:
        return pa.duration("us")
    return pa.string()


def _wider(found: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(wanted) or pa.types.is_string(wanted):
        return pa.string()
    return pa.float64() if pa.types.is_int64(found) and pa.types.is_float64(wanted) else found


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        cells = [None if cell is None else _cell_text(cell) for cell in cells]
    elif pa.types.is_integer(kind):
        cells = [None if cell is None else int(cell) for cell in cells]
    elif pa.types.is_timestamp(kind):
        cells = [
            cell if cell is None or isinstance(cell, dt.datetime) else dt.datetime.combine(cell, dt.time())
            for cell in cells
        ]
    return pa.array(cells, kind)


def _cell_text(cell: Any) -> str:
    """Return a cell as text: whole numbers without a point, as Excel shows them."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)
