"""Methods of a session that open files, by format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal, Unpack

from mmflow.api.dataset import Dataset
from mmflow.api.library_readers import LibraryReaders
from mmflow.api.options import (
    ExtraColumns,
    MissingColumns,
    OnBadRecord,
    OnNewField,
    Paths,
    ReadOptions,
    SchemaLike,
    Validate,
)
from mmflow.api.run_context import RunContext
from mmflow.errors import ConfigError
from mmflow.formats import PLACE, VIRTUAL_COLUMNS, check_one_format, detect
from mmflow.formats.registry import format_name
from mmflow.mapping.streams import stream_at
from mmflow.plan.bad_files import detect_any
from mmflow.plan.catalog import SourceLeaf
from mmflow.plan.sources import is_true, open_source
from mmflow.plan.stages import BadFile, Source
from mmflow.remote.options import storage_text, using_remote_options
from mmflow.rows.source import Selection
from mmflow.shards import find_files
from mmflow.streams import check_format, open_streams

__all__ = ["Readers"]

_CSV_ONLY = {"comment", "delimiter", "dialect", "escape", "header", "lenient", "line_end", "names", "null", "quote",
             "ragged", "skip_footer", "skip_rows", "trim"}  # fmt: skip


class Readers(LibraryReaders):
    """Readers of a session, by format."""

    context: RunContext

    def read(
        self,
        path: Paths,
        format: str | None = None,
        *,
        schema: SchemaLike | None = None,
        missing_columns: MissingColumns | None = None,
        extra_columns: ExtraColumns | None = None,
        hive: bool = True,
        hive_types: SchemaLike | None = None,
        skip_bad_files: bool = False,
        storage_options: Mapping[str, Any] | str | None = None,
        **options: Unpack[ReadOptions],
    ) -> Dataset:
        """Open files of any format.

        Parameters
        ----------
        path
            File, glob, folder, or a list of them; URLs too (docs/remote.md); `-` for standard input, or a named pipe.
        format
            `csv`, `json`, `ndjson`, `text`, `records`, `arrow`, `npy`, `parquet`, `orc`, `avro` or `excel`. By default
            found by name and first bytes.
        schema
            Columns and types: a pyarrow schema, a dict of names and types, or text such as `"a:int64,b:string"`. By
            default found in a sample of the first file. `"union"`: the columns of all files, of types that hold theirs.
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
            Options of the fsspec file system of URLs, as a dict or JSON. Secrets are refused: the environment gives
            them.
        **options
            Options of the format.

        Returns
        -------
        Dataset
            Rows of the files, in order of their names. Nothing but a sample is read yet.

        Raises
        ------
        SourceError
            A file is missing, unreadable, not of its format, or has other columns than the first.
        ConfigError
            An unknown format or option, or a value that does not fit.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("log.csv").write_text("host,ms\\na,1\\nb,2\\n")
        >>> mf.read("*.csv").to_arrow().to_pydict()
        {'host': ['a', 'b'], 'ms': [1, 2]}
        """
        if "quote" in options:
            options["quote"] = options["quote"] or ""  # None: nothing quotes fields
        return self._read(
            path,
            format,
            {
                **options,
                "schema": schema,
                "missing_columns": missing_columns,
                "extra_columns": extra_columns,
                "hive": hive,
                "hive_types": hive_types,
                "skip_bad_files": skip_bad_files,
                "storage_options": storage_options,
            },
        )

    def _read(self, path: Paths, format: str | None, given: Mapping[str, Any]) -> Dataset:
        """Open files with options, of which those that are None count as not given. Raise as `read`."""
        options = {name: value for name, value in given.items() if value is not None}
        storage = storage_text(options.pop("storage_options", None))
        with using_remote_options(replace(self.context.settings.remote_options, storage=storage)):
            skips = is_true("skip_bad_files", options.get("skip_bad_files", False))
            bad: list[tuple[str, str]] | None = [] if skips else None
            files = find_files(path, bad)
            if not files:
                raise ConfigError("no files were given")
            files = open_streams(files)
            if stream_at(files[0]) is not None:  # nobody looks at a stream before it is read
                options["skip_bad_files"] = skips = False
            if format is None and _CSV_ONLY & set(options):
                format = "csv"
            if format is None and "json_path" in options:
                format = "json"
            if format is None:
                check_one_format(files)
                encoding = options.get("encoding", "utf-8")
                format, found = detect_any(files, encoding) if skips else detect(files[0], encoding)
                options = {**found, **options}
            check_format(files[0], format_name(format), options)
            label = str(path) if isinstance(path, str | os.PathLike) else f"{files[0]}, ..."
            source = open_source(
                files, format, label, storage, options, [BadFile(*each) for each in bad or ()]
            )
        offer = cache(lambda names: self.context.catalog.add(SourceLeaf(source, names)))
        return Dataset(self.context, offer(()), _hidden(source), Selection.all(source), offer=offer)

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
        >>> _ = Path("t.fwf").write_text("id  name\n 1  Ada\n20  Bo\n")
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


def _hidden(source: Source) -> tuple[str, ...]:
    """Return the virtual columns, which exist where they are named, but not in `SELECT *` of the Python API."""
    own = source.schema.names
    virtual = [*VIRTUAL_COLUMNS, PLACE] if source.format.record_oriented else [PLACE]
    if source.format.record_oriented and "_offset" in own:
        virtual.remove(PLACE)  # which is found by the virtual column of that name
    return tuple(n for n in virtual if n not in own)
