"""Methods of a session that open files that are no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmflow.api.dataset import Dataset
from mmflow.api.options import ExtraColumns, MissingColumns, OnBadRecord, Paths, SchemaLike, Validate
from mmflow.usercode.tracebacks import PublicApi

__all__ = ["BinaryReaders"]


class BinaryReaders(PublicApi):
    """Readers of formats that are no text."""

    def _read(self, path: Paths, format: str | None, given: Mapping[str, Any]) -> Dataset:
        raise NotImplementedError

    def read_avro(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open Avro object container files, decoded by fastavro (`pip install 'mmflow-engine[avro]'`).

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file; `"union"`: those of all files.

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
        return self._read(
            path, "avro",
            {"schema": schema, "schema_overrides": schema_overrides, "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_excel(
        self,
        path: Paths,
        *,
        sheet: str | int = 1,
        header: bool = True,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open a sheet of spreadsheets: .xlsx, .xlsm, .xlsb, .xls, .ods (`pip install 'mmflow-engine[excel]'`).

        Types are those of the cells. Numbers that are all whole are int64. Columns of several kinds of cells are text.
        Rows without a cell are left out. An error such as `#DIV/0!` is null.

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
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
            {"sheet": sheet, "header": header, "schema": schema, "schema_overrides": schema_overrides,
             "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_orc(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open ORC files, decoded by pyarrow. Stripes of a file are read in parallel.

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file; `"union"`: those of all files.

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
        return self._read(
            path, "orc",
            {"schema": schema, "schema_overrides": schema_overrides, "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_records(
        self,
        path: Paths,
        *,
        layout: Sequence[Mapping[str, Any]] | str | None = None,
        dtype: Any = None,
        record_size: int | None = None,
        record_length: Mapping[str, Any] | str | None = None,
        delimiter: str | None = None,
        header_bytes: int = 0,
        footer_bytes: int = 0,
        on_bad_record: OnBadRecord = "error",
        validate: Validate | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open files of binary records: of one size, behind their length, or up to a delimiter.

        Parameters
        ----------
        path, on_bad_record, validate, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        layout
            Fields: dicts (or JSON of them) of `name`, `type`, `offset` in bytes (by default behind the field before),
            and `order` (`little` or `big`). Types are those of Arrow, `char[n]` and `binary[n]`. `count` makes a list,
            `fields` in place of a type a structure; `bits`, `[lowest, how many]`, takes these of a number; `length`, an
            unsigned type, says that text or bytes stand behind their length.
        dtype
            In place of a layout: a data type of numpy, such as `"<f4"` (the column `value`) or a list of fields.
        record_size
            Bytes of one record. By default the end of the last field.
        record_length
            Type of the number in front of each record that counts its bytes, such as `"uint32"`, or
            `{"type": "uint32", "order": "big"}`. The last field may be `char[]` or `binary[]`, the rest of the record.
        delimiter
            Bytes behind each record, as text. Fields as for `record_length`.
        header_bytes, footer_bytes
            Bytes before the first record, and behind the last.
        missing_columns, extra_columns
            As of `read_csv`; they change nothing, since the layout says the columns of every file.

        Returns
        -------
        Dataset
            Records of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, compressed, or shorter than its header.
        ConfigError
            The layout has no fields, or they do not fit the record.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> import struct
        >>> _ = Path("t.bin").write_bytes(struct.pack("<id", 1, 0.5) + struct.pack("<id", 2, 1.5))
        >>> fields = [{"name": "id", "type": "int32", "offset": 0}, {"name": "x", "type": "float64", "offset": 4}]
        >>> mf.read_records("t.bin", layout=fields).to_arrow().to_pydict()
        {'id': [1, 2], 'x': [0.5, 1.5]}
        """
        return self._read(
            path, "records",
            {"layout": layout, "dtype": dtype, "record_size": record_size, "record_length": record_length,
             "delimiter": delimiter, "header_bytes": header_bytes, "footer_bytes": footer_bytes,
             "on_bad_record": on_bad_record, "validate": validate, "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_arrow(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open Arrow IPC files, Arrow IPC streams, or Feather files of version 2.

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file; `"union"`: those of all files.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, no Arrow IPC, or lacks a column.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> import mmflow as mf
        >>> _ = mf.from_arrow({"x": [1, 2]}).write_arrow("t.arrow")
        >>> mf.read_arrow("t.arrow").count()
        2
        """
        return self._read(
            path,
            "arrow_ipc",
            {
                "schema": schema,
                "schema_overrides": schema_overrides,
                "missing_columns": missing_columns,
                "extra_columns": extra_columns,
                "hive": hive,
                "hive_types": hive_types,
                "skip_bad_files": skip_bad_files,
                "storage_options": storage_options,
            },
        )

    def read_npy(
        self,
        path: Paths,
        *,
        array: str | None = None,
        schema: Literal["union"] | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open npy files (numpy.save), or an array of npz archives, of one or two dimensions, or structured.

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        array
            Name of the array in npz archives. By default each archive has one.
        schema
            `"union"`: the columns of all files. By default those of the first.

        Returns
        -------
        Dataset
            Rows of the arrays. Columns are `value` (one dimension), `c0`, `c1`, ... (two), or the fields.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, no npy, or holds Python objects.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> import mmflow as mf
        >>> import numpy as np
        >>> np.save("t.npy", np.arange(6).reshape(3, 2))
        >>> mf.read_npy("t.npy").to_arrow().to_pydict()
        {'c0': [0, 2, 4], 'c1': [1, 3, 5]}
        """
        return self._read(
            path,
            "npy",
            {
                "array": array,
                "schema": schema,
                "schema_overrides": schema_overrides,
                "missing_columns": missing_columns,
                "extra_columns": extra_columns,
                "hive": hive,
                "hive_types": hive_types,
                "skip_bad_files": skip_bad_files,
                "storage_options": storage_options,
            },
        )

    def read_parquet(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open Parquet files.

        Parameters
        ----------
        path, schema_overrides, missing_columns, extra_columns, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        schema
            Columns to read, by name; their types may be wider than those of the files. By default the columns of the
            first file; `"union"`: those of all files.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, damaged, no Parquet, or lacks a column.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> import mmflow as mf
        >>> _ = mf.from_arrow({"x": [1, 2, 3]}).write_parquet("t.parquet")
        >>> mf.read_parquet("t.parquet").filter(mf.col("x") > 1).count()
        2
        """
        return self._read(
            path,
            "parquet",
            {
                "schema": schema,
                "schema_overrides": schema_overrides,
                "missing_columns": missing_columns,
                "extra_columns": extra_columns,
                "hive": hive,
                "hive_types": hive_types,
                "skip_bad_files": skip_bad_files,
                "storage_options": storage_options,
            },
        )
