"""Iceberg tables that pyiceberg made are read as it reads them, or refused by name."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import StaticTable
from pyiceberg.types import LongType

import mmflow as mf
from mmflow.errors import ConfigError, SourceError
from tests.tables.test_tables_delta_read import ROWS, plain, where

pytestmark = pytest.mark.filterwarnings("default")  # of pyiceberg and SQLAlchemy


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Any]:
    made = SqlCatalog("t", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/w")
    made.create_namespace("n")
    yield made
    made.close()


def made(catalog: Any, rows: pa.Table, name: str = "n.t") -> Any:
    table = catalog.create_table(name, schema=rows.schema)
    table.append(rows)
    return table


SOME = ROWS.drop_columns(["pair"]).set_column(
    0, "k", pa.array(["a", "b", None, "a/b c%", "é=1"], pa.string())
)


@pytest.mark.parametrize("by", ["", "k", "day"])
def test_rows_are_those_that_pyiceberg_reads(catalog: Any, by: str) -> None:
    table = catalog.create_table("n.t", schema=SOME.schema)
    if by:
        with table.update_spec() as spec:
            spec.add_identity(by)
    table.append(SOME)
    table.append(SOME.slice(1, 2))
    expected = plain(table.scan().to_arrow())
    assert (
        plain(mf.read_iceberg(table).to_arrow())
        == expected
        == plain(pa.concat_tables([SOME, SOME.slice(1, 2)]))
    )
    assert plain(mf.read_iceberg(table.metadata_location.removeprefix("file://")).to_arrow()) == expected
    first = table.history()[0].snapshot_id
    assert plain(mf.read_iceberg(table, snapshot_id=first).to_arrow()) == plain(SOME)


def test_bounds_leave_files_out_and_never_a_row(catalog: Any) -> None:
    table = catalog.create_table("n.t", schema=SOME.schema)
    for number in range(SOME.num_rows):
        table.append(SOME.slice(number, 1))
    read, memory = mf.read_iceberg(table), mf.from_arrow(SOME)
    assert "1 of 5 files" in where(read, "v > 100").explain()
    for condition in (
        "x > 1", "x >= 'NaN'", "x = 0", "v < 0", "v IS NULL", "v >= 1152921504606846976", "s = ''", "s > 'y'",
        "at >= TIMESTAMP '2024-01-01 00:00:00.123456'", "at < TIMESTAMP '1970-01-01'", "day < DATE '1970-01-01'",
        "utc = TIMESTAMP '2024-01-01T00:00:00Z'", "price < 0", "k IN ('a', 'é=1')", "NOT ok",
    ):  # fmt: skip
        assert plain(where(read, condition).to_arrow()) == plain(where(memory, condition).to_arrow()), (
            condition
        )


def test_deleted_rows_and_columns_that_came_later(catalog: Any) -> None:
    table = made(catalog, pa.table({"v": [1, 2, 3]}))
    table.delete("v == 2")  # pyiceberg writes the file again
    with table.update_schema() as update:
        update.union_by_name(pa.schema([("v", pa.int64()), ("w", pa.string())]))
    table.append(pa.table({"v": [4], "w": ["x"]}))
    assert sorted(map(str, mf.read_iceberg(table).to_arrow().to_pylist())) == [
        "{'v': 1, 'w': None}", "{'v': 3, 'w': None}", "{'v': 4, 'w': 'x'}",
    ]  # fmt: skip
    table.delete()
    assert mf.read_iceberg(table).to_arrow().to_pydict() == {"v": [], "w": []}


def test_columns_that_became_wider(catalog: Any) -> None:
    table = made(catalog, pa.table({"v": pa.array([1, None], pa.int32())}))
    with table.update_schema() as update:
        update.update_column("v", LongType())
    table.append(pa.table({"v": [2**40]}))
    assert mf.read_iceberg(table).to_arrow().schema == pa.schema([("v", pa.int64())])
    assert where(mf.read_iceberg(table), "v = 1").count() == 1
    assert where(mf.read_iceberg(table), "v > 5").to_arrow()["v"].to_pylist() == [2**40]


def change(path: str, edit: Any) -> None:
    """Change records and metadata of an Avro file, which `edit` returns with the path of the changed file."""
    with open(path, "rb") as file:
        reader = fastavro.reader(file)
        records, schema, metadata = list(reader), reader.writer_schema, reader.metadata
    kept = {key: value for key, value in metadata.items() if not key.startswith("avro.")}
    target, records = edit(records, kept)
    with open(target, "wb") as file:
        fastavro.writer(file, schema, records, metadata=kept)


def with_position_delete(table: Any, folder: Path) -> Path:
    """Return the metadata of a copy of a table whose first row is deleted by a file, as Spark does it."""
    deletes = folder / "deletes.parquet"
    (task,) = table.scan().plan_files()
    pq.write_table(pa.table({"file_path": [task.file.file_path], "pos": pa.array([0], pa.int64())}), deletes)
    snapshot = table.current_snapshot()

    manifests = snapshot.manifest_list.removeprefix("file://")
    manifest = str(folder / "deletes.avro")

    def of_deletes(records: list[Any], metadata: dict[str, str]) -> tuple[str, list[Any]]:
        (entry,) = records
        entry["data_file"] |= {"content": 1, "file_path": f"file://{deletes}", "record_count": 1,
                               "file_size_in_bytes": deletes.stat().st_size, "lower_bounds": None, "upper_bounds": None}  # fmt: skip
        metadata["content"] = "deletes"
        return manifest, records

    change(snapshot.manifests(table.io)[0].manifest_path.removeprefix("file://"), of_deletes)

    def listed(records: list[Any], metadata: dict[str, str]) -> tuple[str, list[Any]]:
        del metadata
        more = records[0] | {
            "manifest_path": f"file://{manifest}",
            "manifest_length": Path(manifest).stat().st_size,
            "content": 1,
        }
        return manifests, [*records, more]

    change(manifests, listed)
    target = folder / f"{uuid.uuid4()}.metadata.json"
    shutil.copy(table.metadata_location.removeprefix("file://"), target)
    return target


def test_files_of_deletes_are_refused(catalog: Any, tmp_path: Path) -> None:
    metadata = with_position_delete(made(catalog, pa.table({"v": [1, 2, 3]})), tmp_path)
    assert StaticTable.from_metadata(str(metadata)).scan().to_arrow()["v"].to_pylist() == [2, 3]
    with pytest.raises(SourceError, match="deleted by other files"):
        mf.read_iceberg(metadata)


def test_columns_that_changed_their_names_are_refused(catalog: Any) -> None:
    table = made(catalog, pa.table({"v": [1], "w": [2]}))
    with table.update_schema() as update:
        update.rename_column("v", "x")
    with pytest.raises(SourceError, match="was also called"):
        mf.read_iceberg(table)
    table = made(catalog, pa.table({"v": [1], "w": [2]}), "n.again")
    with table.update_schema() as update:
        update.delete_column("v")
    with table.update_schema() as update:
        update.union_by_name(pa.schema([("w", pa.int64()), ("v", pa.int64())]))
    assert table.scan().to_arrow()["v"].to_pylist() == [None]
    with pytest.raises(SourceError, match="two of its columns were called 'v'"):
        mf.read_iceberg(table)
    table = made(catalog, pa.table({"a b": [1]}), "n.blank")
    with pytest.raises(SourceError, match="may spell the name 'a b' differently"):
        mf.read_iceberg(table)


def test_columns_that_only_partitions_state_are_refused(catalog: Any) -> None:
    table = catalog.create_table("n.t", schema=pa.schema([("k", pa.int64()), ("v", pa.int64())]))
    with table.update_spec() as spec:
        spec.add_identity("k")
    table.append(pa.table({"k": [1], "v": [1]}))
    manifest = table.current_snapshot().manifests(table.io)[0].manifest_path.removeprefix("file://")

    def lacking(records: list[Any], metadata: dict[str, str]) -> tuple[str, list[Any]]:
        del metadata
        counts = records[0]["data_file"]["value_counts"]
        records[0]["data_file"]["value_counts"] = [each for each in counts if each["key"] != 1]
        return manifest, records

    change(manifest, lacking)
    with pytest.raises(SourceError, match="lacks column 'k'"):
        mf.read_iceberg(table.refresh())


def test_errors_say_what_is_missing(catalog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(catalog, pa.table({"v": [1]}))
    with pytest.raises(SourceError, match="no snapshot 5"):
        mf.read_iceberg(table, snapshot_id=5)
    with pytest.raises(SourceError, match=r"\.metadata\.json"):
        mf.read_iceberg(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="takes a table of pyiceberg"):
        mf.read_iceberg(7)
    (tmp_path / "x.metadata.json").write_text("{}")
    with pytest.raises(SourceError, match="the Iceberg table"):
        mf.read_iceberg(tmp_path / "x.metadata.json")
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    with pytest.raises(ConfigError, match=r"mmflow-engine\[iceberg\]"):
        mf.read_iceberg(table)
