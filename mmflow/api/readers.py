"""Methods of a session that open files, by format."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Unpack

from datafusion import DataFrame

from mmflow.api.binary_readers import BinaryReaders
from mmflow.api.dataset import Dataset
from mmflow.api.options import (
    ExtraColumns,
    MissingColumns,
    Paths,
    ReadOptions,
    SchemaLike,
)
from mmflow.api.run_context import RunContext
from mmflow.api.table_readers import TableReaders
from mmflow.api.text_readers import TextReaders
from mmflow.errors import ConfigError
from mmflow.formats import PLACE, VIRTUAL_COLUMNS, check_one_format, detect
from mmflow.formats.last_results import LastResults
from mmflow.formats.registry import format_name
from mmflow.mapping.streams import stream_at
from mmflow.plan.catalog import Catalog, SourceLeaf, has_values
from mmflow.plan.plan_cache import cache_key, settled_files
from mmflow.plan.sources import is_true, open_source
from mmflow.plan.stages import BadFile, Source
from mmflow.remote.options import storage_text, using_remote_options
from mmflow.shards import find_files
from mmflow.streams import check_format, open_streams

__all__ = ["Readers"]

_CSV_ONLY = {"comment", "delimiter", "dialect", "escape", "header", "lenient", "line_end", "names", "null", "quote",
             "ragged", "skip_footer", "skip_rows", "trim"}  # fmt: skip


class Readers(TextReaders, BinaryReaders, TableReaders):
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
        if isinstance(path, str) and path.lower().startswith("delta://"):
            given = {"schema": schema, "missing_columns": missing_columns, "extra_columns": extra_columns,
                     "hive_types": hive_types, "storage_options": storage_options, **options}  # fmt: skip
            return self._read_named_table(path, format, [n for n, v in given.items() if v is not None])
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

    def _read_named_table(self, path: str, format: str | None, options: Sequence[str]) -> Dataset:
        if format not in (None, "delta") or options:
            extra = f"format={format!r}" if format not in (None, "delta") else f"{options[0]}="
            raise ConfigError(
                f"{path} is a Delta table, whose log says its format and columns: leave {extra} out"
            )
        return self.read_delta(path)

    def _read_files(
        self, files: tuple[str, ...], label: str, options: dict[str, Any], **facts: Any
    ) -> Dataset:
        """Open Parquet files of a table; `facts` are further ones of their source."""
        from mmflow.rows.selection import Selection  # noqa: PLC0415  (slow)

        source = replace(open_source(files, "parquet", label, "", options), **facts)
        opened = _Opened(source, self.context.catalog)
        return Dataset(
            self.context, opened.frame(()), _hidden(source), Selection.all(source), offer=opened.frame
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
            label = str(path) if isinstance(path, str | os.PathLike) else f"{files[0]}, ..."
            key = None if skips or storage else _key(files, format, label, options)
            opened = None if key is None else _opened.known(key)
            if opened is None:
                source = _open(files, format, label, storage, options, bad)
                shared = key is not None and has_values(source.schema)
                opened = _Opened(source, _catalog() if shared else self.context.catalog)
                if shared and _key(files, format, label, options) == key:  # nobody has written meanwhile
                    _opened.put(key, opened)
        from mmflow.rows.selection import Selection  # noqa: PLC0415  (slow)

        source = opened.source
        return Dataset(
            self.context, opened.frame(()), _hidden(source), Selection.all(source), offer=opened.frame
        )


class _Opened:
    """Source, and its frames by the virtual columns that they have."""

    def __init__(self, source: Source, catalog: Catalog) -> None:
        self.source = source
        self._catalog = catalog
        self._frames: dict[tuple[str, ...], DataFrame] = {}

    def frame(self, names: tuple[str, ...]) -> DataFrame:
        """Return the frame with these virtual columns, always the same one."""
        if names not in self._frames:
            made = self._catalog.add(SourceLeaf(self.source, names))
            return self._frames.setdefault(names, made)
        return self._frames[names]


#: Sources that were opened last, whichever session did.
_opened: LastResults[Hashable, _Opened] = LastResults(64)


@cache
def _catalog() -> Catalog:
    """Return the catalog of these sources."""
    return Catalog()


def _key(files: Sequence[str], format: str | None, label: str, options: Mapping[str, Any]) -> Hashable:
    """Return all that an opened source depends on; None: it can't be known.

    Folders `name=value` have manifests, and members of archives other files behind them.
    """
    if any("=" in path for path in files):
        return None
    identities = settled_files(files)
    try:
        return None if identities is None else (identities, format, label, cache_key(options))
    except TypeError:
        return None


def _open(
    files: tuple[str, ...],
    format: str | None,
    label: str,
    storage: str,
    options: dict[str, Any],
    bad: list[tuple[str, str]] | None,
) -> Source:
    """Open files, whose format is found where it is not given; `bad` (None: none may be) are those left out before."""
    skips = bad is not None
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
        from mmflow.plan.bad_files import detect_any  # noqa: PLC0415  (slow)

        format, found = detect_any(files, encoding) if skips else detect(files[0], encoding)
        options = {**found, **options}
    check_format(files[0], format_name(format), options)
    return open_source(files, format, label, storage, options, [BadFile(*each) for each in bad or ()])


def _hidden(source: Source) -> tuple[str, ...]:
    """Return the virtual columns, which exist where they are named, but not in `SELECT *` of the Python API."""
    own = source.schema.names
    virtual = [*VIRTUAL_COLUMNS, PLACE] if source.format.record_oriented else [PLACE]
    if source.format.record_oriented and "_offset" in own:
        virtual.remove(PLACE)  # which is found by the virtual column of that name
    return tuple(n for n in virtual if n not in own)
