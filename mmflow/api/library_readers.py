"""Methods of a session that open files which a library decodes: ORC, Avro, spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow.api.dataset import Dataset
from mmflow.api.options import Paths, SchemaLike
from mmflow.usercode.tracebacks import PublicApi

__all__ = ["LibraryReaders"]


class LibraryReaders(PublicApi):
    """Readers of formats that libraries decode."""

    def _read(self, path: Paths, format: str | None, given: Mapping[str, Any]) -> Dataset:
        raise NotImplementedError

    def read_avro(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        hive: bool = True,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open Avro object container files, decoded by fastavro (`pip install 'mmflow-engine[avro]'`).

        Parameters
        ----------
        path, hive, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file.

        Returns
        -------
        Dataset
            Records of the files, in order of their names. Blocks of a file are read in parallel.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, no Avro, or has a type that Arrow lacks (a union of several types).
        ConfigError
            fastavro is not installed, or a value does not fit its option.

        Examples
        --------
        >>> import fastavro
        >>> import mmflow as mf
        >>> record = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "long"}]}
        >>> with open("t.avro", "wb") as file:
        ...     fastavro.writer(file, record, [{"x": 1}, {"x": 2}])
        >>> mf.read_avro("t.avro").to_arrow().to_pydict()
        {'x': [1, 2]}
        """
        return self._read(path, "avro", {"schema": schema, "hive": hive, "storage_options": storage_options})

    def read_excel(
        self,
        path: Paths,
        *,
        sheet: str | int = 1,
        header: bool = True,
        schema: SchemaLike | None = None,
        hive: bool = True,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open a sheet of spreadsheets: .xlsx, .xlsm, .xlsb, .xls, .ods (`pip install 'mmflow-engine[excel]'`).

        Types are those of the cells. Numbers that are all whole are int64. Columns of several kinds of cells are text.
        Rows without a cell are left out. An error such as `#DIV/0!` is null.

        Parameters
        ----------
        path, hive, storage_options
            As of `read_csv`.
        sheet
            Name of the sheet, or its number from 1.
        header
            Whether the first row holds the names of the columns. Without one they are `f0`, `f1`, ...
        schema
            Columns to read, by name, as `string`, or of types that hold those of the cells.

        Returns
        -------
        Dataset
            Rows of the sheets, in order of the files' names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, encrypted, no spreadsheet, or lacks the sheet.
        ConfigError
            python-calamine is not installed, or a value does not fit its option.

        Examples
        --------
        >>> import mmflow as mf
        >>> import xlsxwriter
        >>> with xlsxwriter.Workbook("t.xlsx") as book:
        ...     sheet = book.add_worksheet("costs")
        ...     _ = sheet.write_row("A1", ["item", "price"]), sheet.write_row("A2", ["tea", 2.5])
        >>> mf.read_excel("t.xlsx", sheet="costs").to_arrow().to_pylist()
        [{'item': 'tea', 'price': 2.5}]
        """
        return self._read(
            path, "excel",
            {"sheet": sheet, "header": header, "schema": schema, "hive": hive, "storage_options": storage_options},
        )  # fmt: skip

    def read_orc(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        hive: bool = True,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open ORC files, decoded by pyarrow. Stripes of a file are read in parallel.

        Parameters
        ----------
        path, hive, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, no ORC, lacks a column, or holds a timestamp before 1677 or after
            2262, which pyarrow can't read.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> import mmflow as mf
        >>> import pyarrow as pa
        >>> from pyarrow import orc
        >>> orc.write_table(pa.table({"x": [1, 2]}), "t.orc")
        >>> mf.read_orc("t.orc").count()
        2
        """
        return self._read(path, "orc", {"schema": schema, "hive": hive, "storage_options": storage_options})
