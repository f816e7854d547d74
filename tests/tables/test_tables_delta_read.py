"""Delta tables that deltalake made are read as its own readers read them, or refused by name."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import struct
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import mmflow as mf
from mmflow.errors import ConfigError, SourceError

DAY = dt.date(2024, 2, 29)
ROWS = pa.table(
    {
        "k": pa.array(["a", "b", None, "a/b c%", "é=1"], pa.string()),
        "day": pa.array([DAY, DAY, None, DAY, dt.date(1969, 1, 1)], pa.date32()),
        "v": pa.array([1, None, 3, 2**60, -5], pa.int64()),
        "x": pa.array([0.5, math.nan, None, -0.0, math.inf], pa.float64()),
        "s": pa.array(["x", None, "", "naïve", "z" * 200], pa.string()),
        "ok": pa.array([True, False, None, True, True], pa.bool_()),
        "price": pa.array([Decimal("1.25"), None, Decimal("-3.50"), Decimal("0.00"), Decimal("9.99")], pa.decimal128(10, 2)),
        "at": pa.array([dt.datetime(2024, 1, 1, 0, 0, 0, 123456), None, *[dt.datetime(1960, 5, 5)] * 3], pa.timestamp("us")),
        "utc": pa.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 5, pa.timestamp("us", "UTC")),
        "list": pa.array([[1, 2], None, [], [None], [3]], pa.list_(pa.int32())),
        "pair": pa.array([{"p": 1, "q": "a"}, None, {"p": None, "q": None}, {"p": 2, "q": "b"}, {"p": 3, "q": ""}],
                         pa.struct([("p", pa.int16()), ("q", pa.string())])),
        "raw": pa.array([b"\x00\xff", None, b"", b"a", b"b"], pa.binary()),
    }
)  # fmt: skip


def plain(rows: Any) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in pa.table(rows).to_pylist())


def where(dataset: mf.Dataset, condition: str) -> mf.Dataset:
    return mf.sql(f"SELECT * FROM t WHERE {condition}", t=dataset)


def edit_log(table: Path, change: Callable[[dict[str, Any]], None], version: int = 0) -> None:
    """Change the actions of a version: deltalake writes some of what other writers do."""
    log = table / "_delta_log" / f"{version:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        change(action)
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


def z85(data: bytes) -> str:
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    numbers = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]
    return "".join(letters[number // 85**power % 85] for number in numbers for power in (4, 3, 2, 1, 0))


@pytest.mark.parametrize("by", [None, ["k"], ["day"], ["k", "day"], ["v"], ["ok"]], ids=str)
def test_rows_are_those_that_deltalake_reads(tmp_path: Path, by: list[str] | None) -> None:
    write_deltalake(tmp_path / "t", ROWS, partition_by=by)
    expected = plain(DeltaTable(tmp_path / "t").to_pyarrow_table())
    assert plain(mf.read_delta(tmp_path / "t").to_arrow()) == expected == plain(ROWS)
    assert plain(mf.read(f"delta://{tmp_path}/t").to_arrow()) == expected
    assert mf.read_delta(tmp_path / "t").columns == ROWS.schema.names


def test_sql_reads_a_table_and_leaves_files_out(tmp_path: Path) -> None:
    for n in range(4):
        write_deltalake(
            tmp_path / "t", pa.table({"n": [10 * n, 10 * n + 9], "s": [f"{n}a", f"{n}z"]}), mode="append"
        )
    path = f"delta://{tmp_path}/t"
    assert mf.sql(f"SELECT sum(n) AS s FROM '{path}' WHERE n > 25").to_arrow().to_pylist() == [{"s": 98}]
    assert mf.sql(f"SELECT n FROM read_delta('{tmp_path}/t', version => 0)").to_arrow()["n"].to_pylist() == [
        0,
        9,
    ]
    assert "1 of 4 files" in where(mf.read_delta(tmp_path / "t"), "n > 29").explain()
    assert "1 of 4 files" in where(mf.read_delta(tmp_path / "t"), "s = '2m'").explain()
    assert where(mf.read_delta(tmp_path / "t"), "s = '2m'").count() == 0


def test_partitions_leave_files_out(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", ROWS, partition_by=["day"])
    kept = where(mf.read_delta(tmp_path / "t"), "day = DATE '2024-02-29'")
    assert "1 of 3 files" in kept.explain()
    assert kept.count() == 3
    assert where(mf.read_delta(tmp_path / "t"), "day IS NULL").to_arrow()["v"].to_pylist() == [3]


def test_bounds_of_the_log_never_leave_a_row_out(tmp_path: Path) -> None:
    for number in range(ROWS.num_rows):
        write_deltalake(tmp_path / "t", ROWS.slice(number, 1), mode="append")
    read, memory = mf.read_delta(tmp_path / "t"), mf.from_arrow(ROWS)
    conditions = [
        "x > 1", "x >= 'NaN'", "x = 0", "x <> 0.5", "v < 0", "v IS NULL", "v IS NOT NULL", "v >= 1152921504606846976",
        "s = ''", "s > 'y'", "s LIKE 'z%'", "at >= TIMESTAMP '2024-01-01 00:00:00.123456'", "at < TIMESTAMP '1970-01-01'",
        "utc = TIMESTAMP '2024-01-01T00:00:00Z'", "day < DATE '1970-01-01'", "price < 0", "k IN ('a', 'é=1')", "NOT ok",
    ]  # fmt: skip
    for condition in conditions:
        assert plain(where(read, condition).to_arrow()) == plain(where(memory, condition).to_arrow()), (
            condition
        )


def test_timestamps_that_other_writers_cut_to_milliseconds(tmp_path: Path) -> None:
    write_deltalake(
        tmp_path / "t",
        pa.table({"at": pa.array([dt.datetime(2024, 1, 1, 0, 0, 0, 999)], pa.timestamp("us"))}),
    )

    def cut(action: dict[str, Any]) -> None:
        if "add" in action:
            stats = json.loads(action["add"]["stats"])
            stats["minValues"] = stats["maxValues"] = {"at": "2024-01-01T00:00:00.000"}
            action["add"]["stats"] = json.dumps(stats)

    edit_log(tmp_path / "t", cut)
    assert where(mf.read_delta(tmp_path / "t"), "at > TIMESTAMP '2024-01-01'").count() == 1


def test_workers_are_not_sent_the_bounds(tmp_path: Path) -> None:
    from mmflow.tables.delta import read_snapshot

    write_deltalake(tmp_path / "t", ROWS)
    statistics = read_snapshot(str(tmp_path / "t")).statistics
    assert statistics.bounds
    assert not pickle.loads(pickle.dumps(statistics)).bounds


def test_versions_are_read_by_number_and_by_moment(tmp_path: Path) -> None:
    table = tmp_path / "t"
    moments = []
    modes: list[Any] = ["error", "append", "overwrite"]
    for value, mode in enumerate(modes, start=1):
        write_deltalake(table, pa.table({"v": [value]}), mode=mode)
        time.sleep(0.02)
        moments.append(dt.datetime.now(dt.UTC))
        time.sleep(0.02)
    for number, rows in enumerate([[1], [1, 2], [3]]):
        assert sorted(mf.read_delta(table, version=number).to_arrow()["v"].to_pylist()) == rows
        read = mf.read_delta(table, timestamp=moments[number])
        assert sorted(read.to_arrow()["v"].to_pylist()) == rows
        assert mf.read_delta(table, timestamp=moments[number].isoformat()).count() == len(rows)
    with pytest.raises(SourceError, match=r"t: .*7"):
        mf.read_delta(table, version=7)
    with pytest.raises(ConfigError, match="give one"):
        mf.read_delta(table, version=1, timestamp=moments[0])


def test_a_dataset_stays_at_its_version(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"v": [1]}))
    before = mf.read_delta(tmp_path / "t")
    write_deltalake(tmp_path / "t", pa.table({"v": [2]}), mode="overwrite")
    assert before.to_arrow()["v"].to_pylist() == [1]
    assert mf.read_delta(tmp_path / "t").to_arrow()["v"].to_pylist() == [2]


def test_deleted_rows_and_columns_that_came_later(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(table, pa.table({"v": [1, 2, 3]}))
    DeltaTable(table).delete("v = 2")
    write_deltalake(table, pa.table({"v": [4], "w": ["x"]}), mode="append", schema_mode="merge")
    assert sorted(map(str, mf.read_delta(table).to_arrow().to_pylist())) == [
        "{'v': 1, 'w': None}", "{'v': 3, 'w': None}", "{'v': 4, 'w': 'x'}",
    ]  # fmt: skip
    DeltaTable(table).delete()
    assert mf.read_delta(table).to_arrow().to_pydict() == {"v": [], "w": []}


def test_deletion_vectors_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t"
    write_deltalake(table, pa.table({"v": [1, 2, 3]}), configuration={"delta.enableDeletionVectors": "true"})
    assert mf.read_delta(table).count() == 3  # the table could have them, and has none

    # One bucket of 64 bits with one container of 32, which holds row 1.
    vector = struct.pack("<IQIIIHHIHxx", 1681511377, 1, 0, 12346, 1, 0, 0, 16, 1)

    def mark(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["deletionVector"] = {
                "storageType": "i", "pathOrInlineDv": z85(vector), "sizeInBytes": len(vector) - 2, "cardinality": 1,
            }  # fmt: skip

    edit_log(table, mark)
    with pytest.raises(SourceError, match="1 of its files have deletion vectors"):
        mf.read_delta(table)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"],
                       "writerFeatures": ["typeWidening"]}}, "typeWidening"),
        ({"metaData": {"configuration": {"delta.columnMapping.mode": "name"}},
          "protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, "columnMapping"),
    ],
    ids=["feature", "column mapping"],
)  # fmt: skip
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_deltalake(tmp_path / "t", pa.table({"v": [1]}))

    def edit(action: dict[str, Any]) -> None:
        for kind in action.keys() & change.keys():
            action[kind] = action[kind] | change[kind]

    edit_log(tmp_path / "t", edit)
    with pytest.raises(SourceError, match=said):
        mf.read_delta(tmp_path / "t")


def test_files_in_other_folders_than_their_partitions_are_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"k": ["a"], "v": [1]}), partition_by="k")

    def move(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["partitionValues"] = {"k": "b"}

    edit_log(tmp_path / "t", move)
    with pytest.raises(SourceError, match="the log of its Delta table says k = 'b', and its folder 'a'"):
        mf.read_delta(tmp_path / "t")


def test_errors_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="is no Delta table"):
        mf.read_delta(tmp_path)
    with pytest.raises(ConfigError, match="three slashes"):
        mf.read("delta://t")
    with pytest.raises(ConfigError, match="local paths only"):
        mf.read_delta("s3://bucket/t")
    with pytest.raises(ConfigError, match="leave delimiter= out"):
        mf.read(f"delta://{tmp_path}", delimiter=";")
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match=r"mmflow-engine\[delta\]"):
        mf.read_delta(tmp_path)
    with pytest.raises(ConfigError, match=r"mmflow-engine\[delta\]"):
        mf.from_arrow({"v": [1]}).write_delta(str(tmp_path / "t"))
