"""Partitions of plans that are read one by one are the rows of a run, however files are cut."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow.engines.partitions import PartitionedPlan, partitioned
from mmflow.shards import VerifiedPrefix

ROWS = 3000


def _plan(ds: mf.Dataset) -> PartitionedPlan | None:
    return partitioned(ds._plan(), ds.context.settings, ds._table_schema())


def _read(plan: PartitionedPlan) -> tuple[list[pa.Table], int]:
    """Read all partitions, as Dask and Ray do; return their rows, and how many were read again."""
    reader = pickle.loads(pickle.dumps(plan.reader))
    tables: list[pa.Table] = []
    again, before = 0, VerifiedPrefix()
    # The last one first: guesses know nothing of each other.
    readings = {p.number: reader.read(p) for p in reversed(plan.partitions)} if plan.guesses else {}
    for partition in plan.partitions:
        if not plan.guesses:
            tables.append(reader.rows(partition))
            continue
        reading = readings[partition.number]
        settled = reader.settle(partition, reading.reports, None if partition.begins else before)
        before = settled.prefix
        again += settled.rows is not None
        tables.append(reading.rows if settled.rows is None else settled.rows)
    return tables, again


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Three files of records with lines; shards of one page begin within records."""
    for number in range(3):
        with open(tmp_path / f"{number}.csv", "w") as file:
            file.write("id,note\n")
            file.writelines(
                f'{n},"{"a note" * (n % 9)}\nof {n % 7}{chr(10) * (n % 7)}"\n' for n in range(ROWS >> number)
            )
    return tmp_path


@pytest.mark.parametrize("size", ["4KiB", "12KiB", "64KiB", "16MiB"])
def test_text_is_settled_by_the_boundary_check(notes: Path, size: str) -> None:
    with mf.Session(shard_size=size) as session:
        ds = (
            session.read_csv(str(notes / "*.csv"))
            .filter(col("id") % 3 != 0)
            .with_columns(twice=col("id") * 2)
        )
        plan = _plan(ds)
        assert plan is not None
        assert plan.guesses == (size != "16MiB")
        tables, again = _read(plan)
        assert pa.concat_tables(tables).equals(ds.to_arrow())
        assert again > 0 or size not in ("4KiB", "12KiB")
        assert again == 0 or size != "16MiB"


def test_the_bad_record_is_the_first_one_of_its_file_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "".join(f'"{n}\n"\n' if n % 2 else f"{n}\n" for n in range(3000)))
    with mf.Session(shard_size="4KiB") as session:
        ds = session.read_csv(str(path), schema={"a": "string"})
        plan = _plan(ds)
        assert plan is not None
        assert pa.concat_tables(_read(plan)[0]).equals(ds.to_arrow())
        text = path.read_text().replace("2001\n", '2001" x\n', 1)
        path.write_text(text)
        ds = session.read_csv(str(path), schema={"a": "string"})
        with pytest.raises(mf.BadRecordError) as expected:
            ds.to_arrow()
        plan = _plan(ds)
        assert plan is not None
        with pytest.raises(mf.BadRecordError) as found:
            _read(plan)
        assert str(found.value) == str(expected.value)


def test_groups_of_rows_and_rows_in_memory_need_no_guess(notes: Path, tmp_path: Path) -> None:
    with mf.Session(shard_size="4KiB") as session:
        session.read_csv(str(notes / "0.csv")).write_parquet(str(tmp_path / "p.parquet"), row_group_rows=200)
        for ds in (
            session.read_parquet(str(tmp_path / "p.parquet")),
            session.from_arrow({"a": [1, None, 3]}),
        ):
            plan = _plan(ds.filter(col(ds.columns[0]) > 1))
            assert plan is not None
            assert not plan.guesses
            tables, _ = _read(plan)
            assert pa.concat_tables(tables).equals(ds.filter(col(ds.columns[0]) > 1).to_arrow())
            assert len(tables) == 1 or len(tables) > 5


def test_a_reader_has_few_bytes_however_many_files_there_are(tmp_path: Path) -> None:
    for n in range(300):
        (tmp_path / f"{n:03}.csv").write_text(f"a\n{n}\n")
    plan = _plan(mf.read_csv(str(tmp_path / "*.csv"), schema={"a": "int64"}))
    one = _plan(mf.read_csv(str(tmp_path / "000.csv"), schema={"a": "int64"}))
    assert plan is not None
    assert one is not None
    assert pa.concat_tables(_read(plan)[0])["a"].to_pylist() == [*range(300)]
    assert len(pickle.dumps(plan.reader)) < len(pickle.dumps(one.reader)) + 200


def test_columns_of_paths_are_those_of_each_partition(tmp_path: Path) -> None:
    for key in "xyz":
        (tmp_path / f"k={key}").mkdir()
        (tmp_path / f"k={key}" / "0.csv").write_text("a\n1\n2\n")
    with mf.Session(shard_size="4KiB") as session:
        ds = session.read_csv(str(tmp_path)).select("k", "a", "_file").filter(col("k") != "y")
        plan = _plan(ds)
        assert plan is not None
        tables, _ = _read(plan)
        assert pa.concat_tables(tables).equals(ds.to_arrow())
        assert pa.concat_tables(tables)["k"].to_pylist() == ["x", "x", "z", "z"]


def test_plans_whose_partitions_depend_on_one_another_are_not_cut(notes: Path) -> None:
    with mf.Session(shard_size="4KiB") as session:
        read = session.read_csv(str(notes / "0.csv"))
        assert _plan(read.group_by("id").len()) is None
        assert _plan(read.sort("id")) is None
        assert _plan(read.limit(5)) is None
        assert _plan(read.select("id", "_line")) is None
        assert _plan(session.read_csv(str(notes / "0.csv"), on_bad_record="quarantine")) is None
