"""Methods of a session that open files of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mmflow.api.dataset import Dataset
from mmflow.api.options import (
    ExtraColumns,
    MissingColumns,
    OnBadRecord,
    OnNewField,
    Paths,
    SchemaLike,
    Validate,
)
from mmflow.usercode.tracebacks import PublicApi

__all__ = ["TextReaders"]


class TextReaders(PublicApi):
    """Readers of formats of text."""

    def _read(self, path: Paths, format: str | None, given: Mapping[str, Any]) -> Dataset:
        raise NotImplementedError

    def read_csv(
        self,
        path: Paths,
        *,
        dialect: Literal["auto"] | None = None,
        delimiter: str | None = None,
        skip_rows: int | None = None,
        header: bool | int | str | Sequence[int] | None = None,
        names: Sequence[str] | str | None = None,
        skip_footer: int | None = None,
        comment: str | None = None,
        quote: str | None = '"',
        escape: str | None = None,
        trim: bool = False,
        ragged: Literal["error", "null", "truncate", "extra"] = "error",
        lenient: bool = False,
        line_end: Literal["auto", "any"] = "auto",
        null: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        quoted_null: bool = False,
        true_values: str | Sequence[str] = (),
        false_values: str | Sequence[str] = (),
        decimal: Literal[".", ","] | None = None,
        thousands: str | None = None,
        date_format: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        timestamp_format: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        time_zone: str | None = None,
        epoch: Mapping[str, Literal["s", "ms", "us", "ns"]] | None = None,
        encoding: str | None = None,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        exact: bool | None = None,
        on_bad_record: OnBadRecord = "error",
        max_record: int | str | None = None,
        validate: Validate | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open CSV files.

        Parameters
        ----------
        path
            File, glob, folder, or a list of them; URLs too (docs/remote.md); `-` for standard input, or a named pipe.
        dialect
            `auto` finds the options below that are not given in a sample of the first file (docs/formats.md). A file
            that leaves them open is an error.
        delimiter
            Text between fields, of one character or several; `\\s+` is any run of blanks. By default what a first line
            `sep=;` says, else a tab for files named .tsv, `|` for .psv, and a comma.
        skip_rows
            Number of lines before the header (or before the first record) that are skipped, blank ones included. By
            default none.
        header
            Whether the first record holds the names of the columns, as by default; or the number of the record that
            does, where the first is 1; or several numbers, whose texts are joined by `_`. Records before the last of
            them are skipped.
            Without a header the columns are `f0`, `f1`, ...
        names
            Names of all columns of the file, in order: of one without a header, or instead of the header's.
        comment
            Text that lines begin with which are no records. By default none.
        skip_footer
            Number of lines at the end of each file that are no records. By default none.
        quote
            Character around fields that hold delimiters, quotes or line breaks; "" or None for none.
        escape
            Character that makes the next one data. By default none (quotes are doubled, RFC 4180).
        trim
            Whether blanks around values, before an opening quote and behind a closing one are left out.
        ragged
            What becomes of records with another number of fields: an `error` (bad record); `null` fills short ones with
            nulls; `truncate` also leaves out the surplus of long ones, and `extra` keeps it as a list in the column
            `extra`. Each is counted (`RunSummary.repaired`).
        lenient
            Whether broken records are repaired: text behind a closing quote, quotes within fields or never closed,
            carriage returns, missing and surplus fields. Each repair is counted.
        line_end
            Whether `any` carriage return ends a line outside of quotes. `auto`: only in files without line feeds.
        null
            Unquoted text, or texts, that mean null; or such texts by column, for columns that differ from the others.
            By default the empty text.
        quoted_null
            Whether these texts mean null in quotes, too.
        true_values, false_values
            Texts that are true and false, beside `true`, `True`, `TRUE` and their opposites.
        decimal
            Character before the decimals, `.` (by default) or `,`.
        thousands
            Character between groups of digits, such as `.` or a blank. By default none.
        date_format
            Format of dates, such as `"%d.%m.%Y"` (strptime); or a list, of which the first that fits a value counts; or
            formats by column. By default ISO 8601.
        timestamp_format
            Format of timestamps, likewise. By column also of times.
        time_zone
            Zone in which timestamps without an offset from UTC are wall time, such as `"Europe/Berlin"`. They are read
            as UTC.
        epoch
            Units (`s`, `ms`, `us`, `ns`) of the columns whose timestamps are numbers since 1970.
        encoding
            Encoding of the files: any that Python knows, such as `latin-1`, `windows-1252`, `utf-16` or `shift_jis`.
            By default UTF-8.
        schema
            Columns and types: a pyarrow schema, a dict of names and types, or text such as `"a:int64,b:string"`. By
            default found in a sample of the first file. `"union"`: the columns of all files, of types that hold theirs.
        schema_overrides
            Types of some columns, in the forms of `schema`. The others are as without it.
        exact
            Whether a value that its type would change (`007` as an integer) is a bad record. By default only where the
            types were found in a sample.
        on_bad_record
            What is done with records that can't be read: an `error` ends the run, `null` replaces values, `skip` drops
            records, `quarantine` writes them to a file of their own.
        max_record
            Size of the longest record, in bytes or as text such as `"256 MiB"`; a longer one is an error. By default
            64 MiB.
        validate
            Whether values of `all` columns are checked, or of `projected` ones, which the query reads. By default all,
            unless bad records are errors.
        missing_columns
            A column that a file lacks is an `error`, or `null` in its rows (default with `schema="union"`).
        extra_columns
            A column that the schema lacks is an `error` (default where the schema was found), `ignore` leaves it out
            (default with a declared schema), and `keep` adds those of all files to the schema.
        hive
            Whether folders `name=value` of the path are columns.
        hive_types
            Types of columns of folders, such as `{"month": "int32"}`. By default found from all their values.
        skip_bad_files
            Whether files that are missing, of another format or damaged in their header or footer are left out, instead
            of an error. Each run warns of them (`RunSummary.skipped_files`).
        storage_options
            Options of the fsspec file system of URLs, as a dict or JSON, without secrets.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names. Nothing but a sample is read yet.

        Raises
        ------
        SourceError
            A file is missing, unreadable, no CSV, or has other columns than the first.
        ConfigError
            A value does not fit its option, or CSV can't be read as a type.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("t.csv").write_text("id;name\\n1;Ada\\n2;NA\\n")
        >>> mf.read_csv("t.csv", delimiter=";", null="NA").to_arrow().to_pydict()
        {'id': [1, 2], 'name': ['Ada', None]}
        >>> _ = Path("t.csv").write_text("day;euro\\n31.12.2024;1.234,50\\n")
        >>> mf.read_csv("t.csv", delimiter=";", decimal=",", thousands=".", date_format="%d.%m.%Y").to_dicts()
        [{'day': datetime.date(2024, 12, 31), 'euro': 1234.5}]
        """
        return self._read(
            path, "csv",
            {"dialect": dialect, "delimiter": delimiter, "skip_rows": skip_rows, "header": header, "names": names,
             "skip_footer": skip_footer, "comment": comment, "quote": None if quote == '"' else quote or "",
             "escape": escape, "trim": trim, "ragged": ragged, "lenient": lenient, "line_end": line_end, "null": null,
             "quoted_null": quoted_null, "true_values": true_values, "false_values": false_values, "decimal": decimal,
             "thousands": thousands, "date_format": date_format, "timestamp_format": timestamp_format,
             "time_zone": time_zone, "epoch": epoch, "encoding": encoding, "schema": schema,
             "schema_overrides": schema_overrides,
             "exact": exact, "on_bad_record": on_bad_record, "max_record": max_record, "validate": validate,
             "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_ndjson(
        self,
        path: Paths,
        *,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        on_new_field: OnNewField | None = None,
        encoding: str = "utf-8",
        exact: bool | None = None,
        on_bad_record: OnBadRecord = "error",
        max_record: int | str | None = None,
        validate: Validate | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open files of newline-delimited JSON, one object a line.

        Parameters
        ----------
        path, encoding, schema, exact, max_record, on_bad_record, validate, extra_columns, hive, hive_types,
        storage_options
            As of `read_csv`.
        missing_columns
            `null`, which it always is: a record may leave fields out.
        skip_bad_files
            As of `read_csv`.
        schema_overrides
            Types of some columns, in the forms of `schema`; the others are as found. `json` keeps values of any kind
            as text of JSON.
        on_new_field
            What is done with fields that the schema lacks: the record is bad (`error`), they are left out (`ignore`),
            or they are kept as an object in text of JSON, in a column `_extra` (`json`). With `json`, values that are
            not of their column's type are kept there, too, and are null in their column. By default `error` where the
            schema was found in a sample, else `ignore`.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, no NDJSON, or has fields that no one type fits.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("t.ndjson").write_text('{"a": 1, "b": [true]}\\n{"a": 2}\\n')
        >>> mf.read_ndjson("t.ndjson").to_arrow().to_pylist()
        [{'a': 1, 'b': [True]}, {'a': 2, 'b': None}]
        """
        return self._read(
            path, "ndjson",
            {"schema": schema, "schema_overrides": schema_overrides, "on_new_field": on_new_field,
             "encoding": encoding, "exact": exact, "max_record": max_record,
             "on_bad_record": on_bad_record, "validate": validate, "missing_columns": missing_columns,
             "extra_columns": extra_columns, "hive": hive, "hive_types": hive_types, "skip_bad_files": skip_bad_files,
             "storage_options": storage_options},
        )  # fmt: skip

    def read_json(
        self,
        path: Paths,
        *,
        json_path: str | None = None,
        schema: SchemaLike | None = None,
        schema_overrides: Mapping[str, Any] | str | None = None,
        on_new_field: OnNewField | None = None,
        exact: bool | None = None,
        on_bad_record: OnBadRecord = "error",
        validate: Validate | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open files of JSON: a list of objects, or objects one after the other, in any layout.

        Parameters
        ----------
        path, schema, exact, on_bad_record, validate, extra_columns, hive, hive_types, storage_options
            As of `read_csv`.
        json_path
            Path of the records within each document, such as `$.data[*]`: `.key`, `["a key"]`, and `[*]` for all items
            of a list. By default the items of a list, or the documents themselves.
        schema_overrides, on_new_field, missing_columns
            As of `read_ndjson`.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing, unreadable, no JSON, or has no records at the path.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("t.json").write_text('{"page": 1, "data": [{"a": 1},\\n  {"a": 2}]}')
        >>> mf.read_json("t.json", json_path="$.data[*]").to_arrow().to_pydict()
        {'a': [1, 2]}
        """
        return self._read(
            path, "json",
            {"json_path": json_path, "schema": schema, "schema_overrides": schema_overrides,
             "on_new_field": on_new_field, "exact": exact, "on_bad_record": on_bad_record, "validate": validate,
             "missing_columns": missing_columns, "extra_columns": extra_columns, "hive": hive,
             "hive_types": hive_types, "storage_options": storage_options},
        )  # fmt: skip

    def read_text(
        self,
        path: Paths,
        *,
        pattern: str | None = None,
        schema: SchemaLike | None = None,
        null: str | Sequence[str] | None = None,
        exact: bool | None = None,
        on_new_field: Literal["error", "ignore"] | None = None,
        validate: Validate | None = None,
        encoding: str = "utf-8",
        on_bad_record: OnBadRecord = "error",
        max_record: int | str | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open text files: one row a line, in the column `line`, without a copy; or with a pattern its fields.

        Parameters
        ----------
        path, encoding, exact, max_record, validate, hive, hive_types, skip_bad_files, storage_options
            As of `read_csv`.
        pattern
            Regular expression (RE2) whose groups `(?P<name>...)` become columns, or the name of a log: `common`,
            `combined`, `syslog` (RFC 3164), `syslog5424`, `logfmt`, `w3c`, `json` (an object at the end of a line).
        schema
            With a pattern: groups that are read, and their types. By default all, of types found in a sample of the
            first file or known by the name of the log.
        null
            With a pattern: text, or texts, that mean null. By default the empty text; `-` too where a log has it.
        on_new_field
            Of `logfmt` and `json`: what is done with fields that the schema lacks, as of `read_ndjson`.
        on_bad_record
            As of `read_csv`. A line that is not of the encoding is a bad record, and so is one that does not fit the
            pattern.

        Returns
        -------
        Dataset
            Lines of the files, in order of their names.

        Raises
        ------
        SourceError
            A file is missing or unreadable, or no line of the sample fits the pattern.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("t.log").write_text("GET /\\nPUT /x\\n")
        >>> mf.read_text("t.log").filter(mf.functions.starts_with(mf.col("line"), mf.lit("PUT"))).count()
        1
        >>> mf.read_text("t.log", pattern="^(?P<method>[A-Z]+) (?P<path>[^ ]+)$").to_arrow().to_pydict()
        {'method': ['GET', 'PUT'], 'path': ['/', '/x']}
        """
        return self._read(
            path, "text",
            {"pattern": pattern, "schema": schema, "null": null, "exact": exact, "on_new_field": on_new_field,
             "encoding": encoding, "max_record": max_record,
             "validate": validate, "on_bad_record": on_bad_record, "hive": hive,
             "hive_types": hive_types, "skip_bad_files": skip_bad_files, "storage_options": storage_options},
        )  # fmt: skip

    def read_fwf(
        self,
        path: Paths,
        *,
        widths: Sequence[int] | str | None = None,
        colspecs: Sequence[Sequence[int | None]] | str | None = None,
        names: Sequence[str] | str | None = None,
        header: bool | None = None,
        skip_rows: int = 0,
        ragged: Literal["error", "null"] = "error",
        gaps: bool | None = None,
        null: str | Sequence[str] = "",
        encoding: str = "utf-8",
        schema: SchemaLike | None = None,
        exact: bool | None = None,
        on_bad_record: OnBadRecord = "error",
        max_record: int | str | None = None,
        validate: Validate | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
    ) -> Dataset:
        """Open text of fixed width: columns have the same positions in each line.

        Parameters
        ----------
        path, null, encoding, exact, max_record, on_bad_record, validate, hive, hive_types, skip_bad_files,
        storage_options
            As of `read_csv`.
        widths
            Widths of the columns, which lie side by side, in characters.
        colspecs
            Positions `[begin, end]` of the columns in characters, from 0, `end` excluded; None: to the end of the line.
            By default the columns stand between the blanks that all lines of a sample have in common.
        names
            Names of the columns. By default those in the header.
        header
            Whether the first line names the columns; with `names`, whether it is left out. By default it does, unless
            `names` are given. Without names, columns are `f0`, `f1`, ...
        skip_rows
            Lines before the header.
        ragged
            What is done with a line that ends before its last column begins: it is a bad record (`error`), or the
            columns that it lacks are null (`null`).
        gaps
            Whether text outside of the columns makes a bad record. By default only where positions were inferred.
        schema
            Columns that are read, and their types. By default all, of types found in a sample of the first file.

        Returns
        -------
        Dataset
            Lines of the files that are not blank, in order of their names. Blanks around values are left out.

        Raises
        ------
        SourceError
            A file is missing, unreadable, or has other columns than the first.
        ConfigError
            A value does not fit its option.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("t.fwf").write_text("id  name\\n 1  Ada\\n20  Bo\\n")
        >>> mf.read_fwf("t.fwf").to_arrow().to_pydict()
        {'id': [1, 20], 'name': ['Ada', 'Bo']}
        """
        return self._read(
            path, "fwf",
            {"widths": widths, "colspecs": colspecs, "names": names, "header": header, "skip_rows": skip_rows,
             "ragged": ragged, "gaps": gaps, "null": null, "encoding": encoding, "schema": schema, "exact": exact,
             "max_record": max_record,
             "on_bad_record": on_bad_record, "validate": validate, "hive": hive,
             "hive_types": hive_types, "skip_bad_files": skip_bad_files, "storage_options": storage_options},
        )  # fmt: skip
