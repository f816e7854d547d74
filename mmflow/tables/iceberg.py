"""Iceberg tables by `pyiceberg`: which Parquet files a snapshot holds, and whether mmflow may read them.

Iceberg finds columns of files by their numbers, mmflow by their names. That is the same where the history of the table
gives each number one name; another table is refused.

Invariant: a table that uses something of the format that would change rows, and that is not handled here, is refused by
name.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from mmflow.distribution import install_command
from mmflow.errors import ConfigError, MmflowError, SourceError
from mmflow.formats.parquet.statistics import Bounds, bound_of
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.lazy.dataclasses import dataclass
from mmflow.tables.statistics import FileStatistics, can_bound

__all__ = ["IcebergSnapshot", "read_snapshot"]

#: Property with names of columns for files that state no numbers.
_NAME_MAPPING = "schema.name-mapping.default"


@dataclass(frozen=True, slots=True)
class IcebergSnapshot:
    """One snapshot of a table.

    Attributes:
        name: Name of the table, or the path of its metadata.
        schema: Columns.
        files: Paths of the data files, sorted.
        statistics: Bounds of the columns of each file, as far as the manifests say them.
    """

    name: str
    schema: pa.Schema
    files: tuple[str, ...]
    statistics: FileStatistics


def read_snapshot(table: Any, snapshot_id: int | None = None) -> IcebergSnapshot:
    """Return the files of a snapshot, by default the current one.

    Args:
        table: Table of pyiceberg, or the path of a `….metadata.json`.
        snapshot_id: Its number.

    Raises:
        ConfigError: pyiceberg is not installed, or `table` is no table.
        SourceError: There is no such table or snapshot, or it uses what mmflow does not read.
    """
    try:
        from pyiceberg.table import StaticTable, Table  # noqa: PLC0415  (an extra)
    except ImportError:
        raise ConfigError(
            f"Iceberg tables take pyiceberg, and that is not installed: {install_command('iceberg')}",
            code="MMF-CFG-002",
        ) from None
    if isinstance(table, str | os.PathLike):
        path = os.fspath(table)
        if not os.path.isfile(path):
            raise SourceError(
                f"{path} is no file: give the path of the table's metadata (….metadata.json), or a table of "
                "pyiceberg's catalogs",
                path=path,
            )
        with _table_errors(path):
            table = StaticTable.from_metadata(os.path.realpath(path))
    elif not isinstance(table, Table):
        raise ConfigError(
            f"read_iceberg takes a table of pyiceberg, or a path of its metadata, and got {table!r}"
        )
    name = ".".join(table.name()) if table.name() else table.metadata_location
    with _table_errors(name):
        return _snapshot(name, table, snapshot_id)


@contextlib.contextmanager
def _table_errors(name: str) -> Iterator[None]:
    try:
        yield
    except MmflowError:
        raise
    except Exception as error:  # pyiceberg has errors of many classes, of its stores too
        raise _refusal(name, str(error).split("\n", 1)[0]) from error


def _refusal(name: str, why: str) -> SourceError:
    return SourceError(f"the Iceberg table {name}: {why}", path=name)


def _snapshot(name: str, table: Any, snapshot_id: int | None) -> IcebergSnapshot:
    if snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None:
        raise _refusal(name, f"it has no snapshot {snapshot_id}")
    scan = table.scan(snapshot_id=snapshot_id)
    found = scan.projection()
    _check_columns(name, table, found)
    arrow = found.as_arrow()
    strange = [field.name for field in arrow if isinstance(field.type, pa.ExtensionType)]
    if strange:
        kind = found.find_field(strange[0]).field_type
        raise _refusal(name, f"column {strange[0]!r} is {kind}, which mmflow does not read")
    schema = canonical_schema(pa.schema([pa.field(field.name, _small(field.type)) for field in arrow]))
    tasks = sorted(scan.plan_files(), key=lambda task: str(task.file.file_path))
    specs = table.specs()
    bounds: dict[str, Mapping[str, Bounds]] = {}
    for task in tasks:
        if task.delete_files:
            raise _refusal(
                name,
                f"rows of {task.file.file_path} are deleted by other files (merge-on-read), which mmflow does not "
                "read; rewrite its data files",
            )
        bounds[_local_file(name, task.file, found, specs)] = _bounds(task.file, found, schema)
    return IcebergSnapshot(name, schema, tuple(bounds), FileStatistics(bounds))


def _small(kind: pa.DataType) -> pa.DataType:
    """Return a type of pyiceberg's, which are those of long columns, as files have it."""
    types = pa.types
    if types.is_large_string(kind):
        return pa.string()
    if types.is_large_binary(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_small(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(f.name, _small(f.type)) for f in kind])
    return pa.map_(_small(kind.key_type), _small(kind.item_type)) if types.is_map(kind) else kind


def _check_columns(name: str, table: Any, found: Any) -> None:
    """Check that files have a column under the name that the snapshot has for it, or not at all."""
    pairs = {
        (column, s.find_field(column).field_id)
        for s in (*table.metadata.schemas, found)
        for column in s.column_names
    }
    if mapping := table.properties.get(_NAME_MAPPING):
        pairs |= set(_mapped(json.loads(mapping), ""))
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for column, number in sorted(pairs):
        if names.setdefault(number, column) != column:
            raise _refusal(
                name,
                f"its column {column!r} was also called {names[number]!r}, and mmflow finds columns by "
                "name; rewrite it",
            )
        if numbers.setdefault(column, number) != number:
            raise _refusal(
                name,
                f"two of its columns were called {column!r}, and mmflow finds columns by name; rewrite it",
            )
    for column in numbers:
        for part in column.split("."):
            # Writers put other names into files, as Avro has no such ones.
            if not (part[:1].isalpha() or part[:1] == "_") or not part.replace("_", "a").isalnum():
                raise _refusal(
                    name, f"files may spell the name {column!r} differently, and mmflow finds columns by name"
                )
    for column in found.column_names:
        if getattr(found.find_field(column), "initial_default", None) is not None:
            raise _refusal(
                name, f"column {column!r} has a default for older files, which mmflow does not read"
            )


def _mapped(entries: Any, above: str) -> Iterator[tuple[str, int]]:
    for entry in entries:
        for name in entry.get("names", ()):
            if "field-id" in entry:
                yield above + name, entry["field-id"]
            yield from _mapped(entry.get("fields", ()), f"{above}{name}.")


def _local_file(name: str, file: Any, found: Any, specs: Mapping[int, Any]) -> str:
    """Return the path of a data file.

    Raises:
        SourceError: It is not local, no Parquet file, or lacks a column that only its partition states.
    """
    path = str(file.file_path)
    path = path.removeprefix("file://") if path.startswith("file:///") else path.removeprefix("file:")
    if not path.startswith("/"):
        raise _refusal(name, f"{path} is not local, and mmflow reads local tables only")
    if str(file.file_format.value).lower() != "parquet":
        raise _refusal(
            name, f"{path} is a file of {file.file_format.value}, and mmflow reads those of Parquet only"
        )
    present = set(file.value_counts or ())
    for field in specs[file.spec_id].fields:
        if str(field.transform) == "identity" and field.source_id not in present:
            column = found.find_column_name(field.source_id)
            if column is not None:
                raise _refusal(
                    name, f"{path} lacks column {column!r}, which only its partition states; rewrite it"
                )
    return path


def _bounds(file: Any, found: Any, schema: pa.Schema) -> dict[str, Bounds]:
    """Return the bounds of a file's columns that its manifest says."""
    from pyiceberg.conversions import from_bytes  # noqa: PLC0415  (an extra)

    made: dict[str, Bounds] = {}
    low, high, nulls = file.lower_bounds or {}, file.upper_bounds or {}, file.null_value_counts or {}
    for field in found.fields:
        kind, number = schema.field(field.name).type, field.field_id
        if not can_bound(kind):
            continue
        ends = [None, None]
        if number in low and number in high:
            with contextlib.suppress(struct.error):  # the column was of fewer bits when the file was written
                stated = [from_bytes(field.field_type, each[number]) for each in (low, high)]
                ends = [bound_of(_scalar(value, kind)) for value in stated]
        made[field.name] = Bounds(file.record_count, nulls.get(number), *ends)
    return made


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string_view(kind):
        return pa.scalar(value, pa.string())
    if pa.types.is_date32(kind) or pa.types.is_timestamp(kind):
        plain = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        return pa.scalar(value, plain).cast(kind) if isinstance(value, int) else pa.scalar(value, kind)
    return pa.scalar(value, kind)
