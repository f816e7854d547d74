"""Delta tables by `deltalake`: which Parquet files a version holds, and whether mmflow may read or write it.

    table/_delta_log/00000000000000000007.json     version 7: files that it adds and removes
    table/k=a/part-….parquet                       data; what no version names is not in the table

Invariant: a table that uses something of the protocol that would change rows, and that is not handled here, is
refused by name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mmflow.errors import MmflowError, SourceError
from mmflow.formats.parquet.statistics import Bounds, Instant
from mmflow.formats.schemas.hive import HiveColumns, hive_values
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.lazy.dataclasses import dataclass
from mmflow.tables.paths import library
from mmflow.tables.statistics import FileStatistics, can_bound

__all__ = ["DeltaSnapshot", "features_beyond", "open_table", "read_snapshot", "table_errors"]

#: What a reader must know to read right, and what of it is handled: the last three by a look at each file and column.
_READ = {
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "deletionVectors",
    "columnMapping",
    "variantType",
}
#: Some writers cut the bounds of timestamps to whole milliseconds.
_CUT = 1_000_000


@dataclass(frozen=True, slots=True)
class DeltaSnapshot:
    """One version of a table.

    Attributes:
        version: Number of the version.
        schema: Columns, those of partitions included.
        partition_by: Columns that folders hold.
        files: Paths of the data files, sorted.
        statistics: Bounds of the columns of each file, as far as the log says them.
    """

    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    files: tuple[str, ...]
    statistics: FileStatistics


@contextlib.contextmanager
def table_errors(path: str, kind: type[MmflowError]) -> Iterator[None]:
    """Turn errors of deltalake into errors of mmflow that name the table."""
    try:
        yield
    except (MmflowError, OSError):
        raise
    except Exception as error:  # some are plain `Exception`
        text = str(error).split("\n", 1)[0]
        raise kind(f"the Delta table {path}: {text}", path=path) from error


def open_table(path: str, version: int | str | dt.datetime | None = None) -> Any | None:
    """Open a table with deltalake; None: there is none at the path.

    Raises:
        ConfigError: deltalake is not installed.
        SourceError: The log is damaged, or has no such version.
    """
    module = library(path)
    if not os.path.isdir(os.path.join(path, "_delta_log")):
        return None
    with table_errors(path, SourceError):
        if not module.DeltaTable.is_deltatable(path):
            return None
        table = module.DeltaTable(path, version=version if isinstance(version, int) else None)
        if version is not None and not isinstance(version, int):
            table.load_as_version(version)
        return table


def features_beyond(table: Any, known: set[str], *, writer: bool) -> list[str]:
    """Return the features that a reader or writer of a table has to know, without those that are known.

    Versions of the protocol before features had lists are given as what they added.
    """
    protocol = table.protocol()
    if writer:
        number, listed = protocol.min_writer_version, protocol.writer_features
        by_version = {
            "checkConstraints": 3,
            "changeDataFeed": 4,
            "generatedColumns": 4,
            "columnMapping": 5,
            "identityColumns": 6,
        }
        lists = 7
    else:
        number, listed = protocol.min_reader_version, protocol.reader_features
        by_version, lists = {"columnMapping": 2}, 3
    needed = (
        set(listed or ())
        if number >= lists
        else {name for name, least in by_version.items() if number >= least}
    )
    return sorted(needed - known)


def read_snapshot(path: str, version: int | str | dt.datetime | None = None) -> DeltaSnapshot:
    """Return the files of a version of a table, by default the newest.

    Raises:
        ConfigError: deltalake is not installed.
        SourceError: There is no such table or version, or it uses what mmflow does not read.
    """
    table = open_table(path, version)
    if table is None:
        raise SourceError(f"{path} is no Delta table: it has no _delta_log with a version", path=path)
    with table_errors(path, SourceError):
        _check_readable(path, table)
        schema = pa.schema(table.schema().to_arrow())
        # The protocol stores no nulls less often than it says: every column may have them.
        schema = canonical_schema(
            pa.schema([field.with_nullable(True).remove_metadata() for field in schema])
        )
        actions = pa.table(table.get_add_actions(flatten=False))
        partition_by = tuple(table.metadata().partition_columns)
        number = table.version()
    rows = sorted(actions.to_pylist(), key=lambda row: unquote(row["path"]))
    files = tuple(_file(path, unquote(row["path"])) for row in rows)
    if partition_by and files:
        _check_folders(schema, partition_by, files, actions, rows)
    bounded = [f for f in schema if f.name not in partition_by and can_bound(f.type)]
    bounds = {file: _bounds(row, bounded) for file, row in zip(files, rows, strict=True)}
    return DeltaSnapshot(number, schema, partition_by, files, FileStatistics(bounds))


def _file(path: str, name: str) -> str:
    if "://" in name or name.startswith("/"):
        raise SourceError(
            f"the Delta table {path} has a file outside of its folder, {name} (a shallow clone), which mmflow does "
            "not read; clone it whole",
            path=path,
        )
    return os.path.join(path, name)


def _check_readable(path: str, table: Any) -> None:
    """Check what of the protocol the table uses."""
    if beyond := features_beyond(table, _READ, writer=False):
        raise SourceError(
            f"the Delta table {path} uses {', '.join(beyond)}, which mmflow does not read", path=path
        )
    mode = (table.metadata().configuration or {}).get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise SourceError(
            f"the Delta table {path} maps names of columns (delta.columnMapping.mode = {mode}), which mmflow "
            "does not read; write it again without the mapping",
            path=path,
        )
    if '"variant"' in json.dumps(
        [field.get("type") for field in json.loads(table.schema().to_json())["fields"]]
    ):
        raise SourceError(
            f"the Delta table {path} has a column of type variant, which mmflow does not read", path=path
        )
    if "deletionVectors" in (table.protocol().reader_features or ()):
        marked = sum(batch.num_rows for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()))
        if marked:
            raise SourceError(
                f"the Delta table {path}: {marked:,} of its files have deletion vectors, which mmflow does not read; "
                "apply them (REORG TABLE … APPLY (PURGE))",
                path=path,
            )


def _check_folders(
    schema: pa.Schema,
    partition_by: Sequence[str],
    files: Sequence[str],
    actions: pa.Table,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Check that the log says the same values of partitions as the folders, from which tasks read them.

    Raises:
        SourceError: A file lies in another folder, as some writers and column mapping have it.
    """
    columns = HiveColumns(schema, tuple(partition_by))
    kinds = {field.name: field.type for field in actions.schema.field("partition").type}
    known: dict[str, list[tuple[str, ...]]] = {}
    for file, row in zip(files, rows, strict=True):
        folder = os.path.dirname(file)
        logged = {name: pa.scalar(row["partition"][name], kinds[name]) for name in partition_by}
        if folder not in known:
            known[folder] = []
            missing = [name for name in partition_by if name not in hive_values(file)]
            if missing:
                raise SourceError(
                    f"{file}: the log of its Delta table says its value of {missing[0]}, and it lies in no folder "
                    f"{missing[0]}=…; mmflow reads tables whose files lie in folders of their partitions",
                    path=file,
                )
            read = columns.values(file)
            for name, value in logged.items():
                if read[name].as_py() != value.as_py():
                    raise SourceError(
                        f"{file}: the log of its Delta table says {name} = {value.as_py()!r}, and its folder "
                        f"{read[name].as_py()!r}; mmflow reads tables whose files lie in folders of their partitions",
                        path=file,
                    )


def _bounds(row: Mapping[str, Any], fields: Sequence[pa.Field]) -> dict[str, Bounds]:
    """Return the bounds of a file's columns that its add action says."""
    rows = row.get("num_records")
    if rows is None:
        return {}
    found = {}
    for field in fields:
        nulls, low, high = ((row.get(kind) or {}).get(field.name) for kind in ("null_count", "min", "max"))
        if low is None or high is None:
            low = high = None
        else:
            low, high = _bound(low, 0), _bound(high, _CUT)
        found[field.name] = Bounds(rows, nulls, low, high)
    return found


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _bound(value: Any, beyond: int) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        return Instant((moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000 + beyond)
    return value
