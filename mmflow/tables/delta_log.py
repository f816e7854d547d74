"""Log of a Delta table, as a run that writes needs it: what it holds, and one more version, in one commit.

Invariant: a version names the transaction of the run that made it, so that the run is never logged twice.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.errors import SinkError
from mmflow.formats.schemas.hive import HiveColumns
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage import clock
from mmflow.tables.delta import features_beyond, open_table, table_errors
from mmflow.tables.paths import library

__all__ = ["AddedFile", "DeltaLog", "add_version"]

#: Features of writers that a version of added and removed files respects, or that are looked for in the table.
_WRITTEN = {"appendOnly", "timestampNtz", "invariants", "deletionVectors", "variantType"}
#: Metadata of columns whose values a writer must check or make.
_OF_COLUMNS = (
    "delta.invariants",
    "delta.generationExpression",
    "delta.identity.start",
    "delta.columnMapping.id",
)
#: Longest text that is stated as a bound, in characters.
_LONGEST_BOUND = 64


@dataclass(frozen=True, slots=True)
class AddedFile:
    """Data file of a new version: its path below the table, its bytes, and its values of the partition columns."""

    path: str
    nbytes: int
    partition: Mapping[str, str | None]


class DeltaLog:
    """Newest version of a table."""

    def __init__(self, path: str, table: Any) -> None:
        self._path = path
        self.table = table
        with table_errors(path, SinkError):
            self.schema = pa.schema(table.schema().to_arrow())
            self.partition_by: tuple[str, ...] = tuple(table.metadata().partition_columns)

    @classmethod
    def at(cls, path: str) -> DeltaLog | None:
        """Return the log of the table at a path; None: there is no table.

        Raises:
            SourceError: It is damaged.
            ConfigError: deltalake is not installed.
        """
        table = open_table(path)
        return None if table is None else cls(path, table)

    def holds(self, application: str) -> bool:
        """Return whether the table has a version of this transaction."""
        with table_errors(self._path, SinkError):
            return self.table.transaction_version(application) is not None

    def fact(self, key: str, value: str, wanted: str) -> str | None:
        """Return a fact of the version that states `key` as `value`; None where its part of the log is gone."""
        with table_errors(self._path, SinkError):
            history = self.table.history()
        return next((str(entry[wanted]) for entry in history if entry.get(key) == value), None)

    def check_writable(self, *, removes: bool) -> None:
        """Check that a writer that only adds files, and removes some, keeps what the table promises.

        Raises:
            SinkError: It doesn't; names the feature.
        """
        with table_errors(self._path, SinkError):
            beyond = features_beyond(self.table, _WRITTEN, writer=True)
            settings = self.table.metadata().configuration or {}
            fields = json.loads(self.table.schema().to_json())["fields"]
        text = json.dumps(fields)
        # Versions of the protocol before lists of features need all that came before.
        listed = self.table.protocol().writer_features is not None
        used = [
            name
            for name in beyond
            if listed
            or {
                "checkConstraints": any(key.startswith("delta.constraints.") for key in settings),
                "changeDataFeed": settings.get("delta.enableChangeDataFeed") == "true",
                "columnMapping": settings.get("delta.columnMapping.mode", "none") != "none",
                "generatedColumns": "delta.generationExpression" in text,
                "identityColumns": "delta.identity." in text,
            }[name]
        ]
        used += [key for key in _OF_COLUMNS if f'"{key}"' in text]
        if used:
            raise SinkError(
                f"the Delta table {self._path} uses {', '.join(used)}, which mmflow does not write; "
                "write to another table",
                path=self._path,
            )
        if strict := [field["name"] for field in fields if not field["nullable"]]:
            raise SinkError(
                f"the Delta table {self._path}: its column {strict[0]!r} may not be null, which mmflow does not check; "
                "write to another table",
                path=self._path,
                column=strict[0],
            )
        if removes and settings.get("delta.appendOnly") == "true":
            raise SinkError(
                f"the Delta table {self._path} may only be appended to (delta.appendOnly): --if-exists append",
                path=self._path,
            )
        if removes and "deletionVectors" in (self.table.protocol().reader_features or ()):
            with table_errors(self._path, SinkError):
                marked = sum(
                    b.num_rows for b in pa.RecordBatchReader.from_stream(self.table.deletion_vectors())
                )
            if marked:
                raise SinkError(
                    f"the Delta table {self._path}: {marked:,} of its files have deletion vectors, and mmflow does "
                    "not replace such files; apply them (REORG TABLE … APPLY (PURGE))",
                    path=self._path,
                )

    def files(self) -> list[tuple[str, int, tuple[Any, ...]]]:
        """Return the path, the bytes, and the values of the partition columns of each data file of this version."""
        with table_errors(self._path, SinkError):
            rows = pa.table(self.table.get_add_actions()).to_pylist()
        return [
            (unquote(row["path"]), row["size_bytes"], tuple(row["partition"][name] for name in self.partition_by)
             if self.partition_by else ())
            for row in rows
        ]  # fmt: skip


def add_version(
    path: str,
    log: DeltaLog | None,
    application: str,
    files: Sequence[AddedFile],
    schema: pa.Schema,
    partition_by: Sequence[str],
    *,
    removes: Literal["none", "all", "partitions"],
    facts: Mapping[str, str],
) -> None:
    """Add a version to a table, or create it.

    Args:
        path: Folder of the table.
        log: Newest version; None: there is no table.
        application: Transaction of the run.
        files: Files that the version adds. They are in the folder already.
        schema: Columns of the rows, those of partitions included.
        partition_by: Columns that folders hold.
        removes: Files of the newest version that this one lacks: those of partitions that get files, all, or none.
        facts: Further facts of the version.

    Raises:
        SinkError: Another writer changed the same files meanwhile, or the system refuses.
    """
    module = library(path)
    transaction = module.transaction
    now = int(clock.time() * 1000)
    properties = transaction.CommitProperties(
        custom_metadata=dict(facts), app_transactions=[transaction.Transaction(application, 1)]
    )
    added = [
        transaction.AddAction(f.path, f.nbytes, dict(f.partition), now, True, _statistics(path, f))
        for f in files
    ]
    with table_errors(path, SinkError):
        if log is None:
            transaction.create_table_with_add_actions(
                path,
                module.Schema.from_arrow(schema),
                added,
                "error",
                list(partition_by),
                commit_properties=properties,
            )
            return
        columns = HiveColumns(canonical_schema(schema), tuple(partition_by))
        # Folders of one partition are spelled differently by different writers.
        filled = {tuple(v.as_py() for v in columns.values(f.path).values()) for f in files}
        gone = [
            transaction.RemoveAction(name, data_change=True, deletion_timestamp=now, size=size)
            for name, size, partition in ([] if removes == "none" else log.files())
            if removes == "all" or partition in filled
        ]
        log.table.create_write_transaction(
            [*added, *gone], "append", log.table.schema(), list(partition_by), commit_properties=properties
        )


def _statistics(path: str, file: AddedFile) -> str:
    """Return what the footer of a file says of its rows, as JSON of an add action.

    Floats have no bounds: those of Parquet leave NaN out, which engines order above all numbers.
    """
    metadata = pq.read_metadata(os.path.join(path, file.path))
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for number, field in enumerate(metadata.schema.to_arrow_schema()):
        if metadata.num_columns != len(metadata.schema.to_arrow_schema().names):
            break  # nested columns have several chunks
        found = [group.column(number).statistics for group in groups]
        if any(each is None or not each.has_null_count for each in found):
            continue
        nulls[field.name] = sum(each.null_count for each in found)
        bounded = [each for each in found if each.num_values]
        if not bounded or any(not each.has_min_max for each in bounded):
            continue
        ends = _text(min(each.min for each in bounded)), _text(max(each.max for each in bounded))
        if None not in ends:
            low[field.name], high[field.name] = ends
    return json.dumps(
        {"numRecords": metadata.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )


def _text(value: Any) -> Any:
    """Return a bound as the log states it; None for types that have none there."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_BOUND else None
    if isinstance(value, dt.datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        return text if value.tzinfo is None else text + "Z"
    return value.isoformat() if isinstance(value, dt.date) else None
