"""Delta tables that mmflow writes are read by deltalake as mmflow reads them; one version a run, or none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import mmflow as mf
from mmflow.errors import ConfigError, MmflowError, SinkError
from mmflow.tables.delta_log import add_version
from tests.fork_server import run_mmflow
from tests.tables.test_tables_delta_read import ROWS, edit_log, plain, where


@pytest.mark.parametrize("by", [[], ["k"], ["day"], ["k", "day"], ["ok"]], ids=str)
@pytest.mark.parametrize("mode", ["append", "replace", "replace-partitions"])
def test_rows_are_those_that_were_written(tmp_path: Path, by: list[str], mode: Any) -> None:
    if mode == "replace-partitions" and not by:
        pytest.skip("there are no partitions")
    table = tmp_path / "t"
    mf.from_arrow(ROWS).write_delta(str(table), partition_by=by)
    mf.from_arrow(ROWS.slice(1, 3)).write_delta(str(table), partition_by=by, if_exists=mode)
    gone = {tuple(row[name] for name in by) for row in ROWS.slice(1, 3).to_pylist()}
    kept = {
        "append": ROWS,
        "replace": ROWS.slice(0, 0),
        "replace-partitions": ROWS.filter(
            [tuple(row[n] for n in by) not in gone for row in ROWS.to_pylist()]
        ),
    }[mode]
    expected = plain(pa.concat_tables([kept, ROWS.slice(1, 3)]))
    read = DeltaTable(table).to_pyarrow_table()
    assert plain(read) == expected == plain(mf.read_delta(table).to_arrow())
    assert plain(duckdb.sql("SELECT * FROM read").to_arrow_table().cast(read.schema)) == expected
    assert plain(pa.RecordBatchReader.from_stream(DeltaTable(table).scan()).read_all()) == expected
    assert plain(mf.read_delta(table, version=0).to_arrow()) == plain(ROWS)


def test_partitions_of_other_writers_are_replaced_however_their_folders_are_spelled(tmp_path: Path) -> None:
    rows = pa.table({"k": ["a b", "é", None], "v": [1, 2, 3]})
    write_deltalake(tmp_path / "t", rows, partition_by="k")
    mf.from_arrow(rows).write_delta(str(tmp_path / "t"), partition_by="k", if_exists="replace-partitions")
    assert DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows == 3


def test_the_log_states_bounds_that_hold(tmp_path: Path) -> None:
    rows = pa.table({"x": [1.0, math.nan], "n": [5, None], "s": ["a", "b" * 100], "t": ["q", "p"]})
    mf.from_arrow(rows).write_delta(str(tmp_path / "t"))
    (action,) = pa.table(DeltaTable(tmp_path / "t").get_add_actions()).to_pylist()
    assert action["num_records"] == 2
    assert action["null_count"] == {"x": 0, "n": 1, "s": 0, "t": 0}
    assert {name: bound for name, bound in action["min"].items() if bound is not None} == {"n": 5, "t": "p"}
    assert {name: bound for name, bound in action["max"].items() if bound is not None} == {"n": 5, "t": "q"}
    assert DeltaTable(tmp_path / "t").to_pyarrow_table(filters=[("t", "=", "q")]).num_rows == 1


def test_a_table_is_rewritten_from_itself(tmp_path: Path) -> None:
    path = f"delta://{tmp_path}/t"
    mf.from_arrow({"v": [3, 1, 2]}).write(path)
    where(mf.read(path), "v > 1").write(path, if_exists="replace")
    assert sorted(mf.read(path).to_arrow()["v"].to_pylist()) == [2, 3]


def test_no_rows_make_an_empty_table(tmp_path: Path) -> None:
    result = where(mf.from_arrow(ROWS), "v = 77").write_delta(str(tmp_path / "t"), partition_by="k")
    assert (result.files, result.rows) == (0, 0)
    assert DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows == 0
    assert mf.read_delta(tmp_path / "t").to_arrow().num_rows == 0


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        ({"v": pa.array([1], pa.uint32())}, (), "no unsigned integers"),
        ({"v": pa.array([1], pa.timestamp("ns"))}, (), "of microseconds"),
        ({"v": pa.array([1], pa.timestamp("us", "Europe/Paris"))}, (), "are of UTC"),
        ({"v": pa.array([1], pa.time64("us"))}, (), "no such type"),
        ({"v": pa.array([[{"a": 1}]], pa.list_(pa.struct([("a", pa.uint8())])))}, (), "no unsigned integers"),
        ({"v": pa.array([1], pa.timestamp("us")), "w": [1]}, ("v",), "partitions of Delta tables"),
        ({"v": [""], "w": [1]}, ("v",), "an empty text"),
    ],
)  # fmt: skip
def test_what_a_table_cannot_hold_is_refused(tmp_path: Path, rows: Any, by: Any, said: str) -> None:
    with pytest.raises(SinkError, match=said):
        mf.from_arrow(pa.table(rows)).write_delta(str(tmp_path / "t"), partition_by=by)
    assert not list(tmp_path.rglob("*.parquet"))
    assert not (tmp_path / "t" / "_delta_log").exists()


def test_tables_that_exist_are_protected(tmp_path: Path) -> None:
    table, rows = str(tmp_path / "t"), mf.from_arrow({"k": ["a"], "v": [1]})
    rows.write_delta(table, partition_by="k")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (rows, {"partition_by": "k"}, "exists; choose another output"),
        (rows, {"if_exists": "append"}, r"is partitioned by k: give partition_by=\['k'\]"),
        (
            mf.from_arrow({"k": ["a"], "v": ["1"]}),
            {"partition_by": "k", "if_exists": "append"},
            "has it as int64",
        ),
        (
            mf.from_arrow({"k": ["a"], "w": [1]}),
            {"partition_by": "k", "if_exists": "append"},
            "column 'w'.* lacks it",
        ),
        (
            mf.from_arrow({"k": ["a"], "v": [1], "w": [1]}),
            {"partition_by": "k", "if_exists": "replace"},
            "lacks it",
        ),
    ]
    for dataset, options, said in cases:
        with pytest.raises(SinkError, match=said):
            dataset.write_delta(table, **options)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("mine")
    with pytest.raises(SinkError, match=r"holds a\.txt, and is no Delta table"):
        rows.write_delta(str(tmp_path / "files"), if_exists="replace")
    assert DeltaTable(table).version() == 0
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


@pytest.mark.parametrize(
    ("settings", "mode", "said"),
    [
        ({"delta.appendOnly": "true"}, "replace", "may only be appended to"),
        ({"delta.enableChangeDataFeed": "true"}, "append", "changeDataFeed"),
        ({"delta.constraints.positive": "v > 0"}, "append", "checkConstraints"),
    ],
)
def test_promises_of_a_table_that_are_not_kept_are_refused(
    tmp_path: Path, settings: dict[str, str], mode: Any, said: str
) -> None:
    write_deltalake(tmp_path / "t", pa.table({"v": [1]}))

    def edit(action: dict[str, Any]) -> None:
        if "metaData" in action:
            action["metaData"]["configuration"] = settings
        if "protocol" in action:
            action["protocol"]["minWriterVersion"] = 4

    edit_log(tmp_path / "t", edit)
    with pytest.raises(MmflowError, match=said):
        mf.from_arrow({"v": [2]}).write_delta(str(tmp_path / "t"), if_exists=mode)
    assert DeltaTable(tmp_path / "t").version() == 0


def test_columns_that_may_not_be_null_are_refused(tmp_path: Path) -> None:
    write_deltalake(
        tmp_path / "t", pa.table({"v": [1]}, schema=pa.schema([pa.field("v", pa.int64(), nullable=False)]))
    )
    with pytest.raises(SinkError, match="'v' may not be null"):
        mf.from_arrow({"v": [2]}).write_delta(str(tmp_path / "t"), if_exists="append")
    assert mf.read_delta(tmp_path / "t").to_arrow()["v"].to_pylist() == [1]


def test_a_writer_that_changed_the_same_files_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmflow.sinks.commit.delta_commit as module

    write_deltalake(tmp_path / "t", pa.table({"v": [1, 2]}))

    def later(*arguments: Any, **facts: Any) -> None:
        DeltaTable(tmp_path / "t").delete("v = 1")
        add_version(*arguments, **facts)

    monkeypatch.setattr(module, "add_version", later)
    with pytest.raises(SinkError, match="concurrent"):
        mf.from_arrow({"v": [3]}).write_delta(str(tmp_path / "t"), if_exists="replace")
    assert DeltaTable(tmp_path / "t").to_pyarrow_table()["v"].to_pylist() == [2]
    assert len(list(tmp_path.rglob("*.parquet"))) == 2  # what was placed is gone


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    rows = mf.from_arrow({"v": [1]})
    with pytest.raises(ConfigError, match="are Parquet"):
        rows.write(f"delta://{tmp_path}/t", "csv")
    with pytest.raises(ConfigError, match="local paths"):
        rows.write("s3://bucket/t", "delta")
    with pytest.raises(ConfigError, match="storage_options"):
        rows.write(f"delta://{tmp_path}/t", storage_options={"anon": True})


def test_a_named_run_writes_its_version_once(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        '[source]\npath = "in.csv"\n\n[output]\npath = "delta://${out}/t"\npartition_by = ["k"]\n'
        'if_exists = "append"\n\n[params.out]\ntype = "string"\n'
    )
    (tmp_path / "in.csv").write_text("k,v\na,1\nb,2\n")
    for _ in range(2):
        done = run_mmflow("run", "job.toml", "--out", str(tmp_path), "--name", "nightly", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert DeltaTable(tmp_path / "t").version() == 0
    assert (
        run_mmflow("run", "job.toml", "--out", str(tmp_path), "--name", "later", cwd=tmp_path).returncode == 0
    )
    assert DeltaTable(tmp_path / "t").version() == 1
    written = [json.loads(h["mmflow.result"])["rows"] for h in DeltaTable(tmp_path / "t").history()]
    assert written == [2, 2]
    shown = run_mmflow("sql", f"SELECT count(*) AS n FROM 'delta://{tmp_path}/t'", cwd=tmp_path)
    assert shown.stdout.split() == ["n", "4"]
