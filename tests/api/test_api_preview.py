"""Datasets as text: a few rows where they cost next to nothing, names and types elsewhere."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf

ROWS = 400_000


def bytes_read() -> int:
    """Return the bytes that this process has read from files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    table = pa.table(
        {
            "n": range(ROWS),
            "name": [f"name {i}" for i in range(ROWS)],
            "x": np.random.default_rng(1).random(ROWS),
        }
    )
    ds = mf.from_arrow(table)
    ds.write_csv(str(folder / "t.csv"))
    ds.write_arrow(str(folder / "t.arrow"))
    pq.write_table(table, folder / "t.parquet", row_group_size=ROWS, compression="none")
    np.save(folder / "t.npy", np.arange(ROWS * 4))
    (folder / "t.ndjson").write_text("".join(f'{{"n": {i}}}\n' for i in range(ROWS)))
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"n\n" + b"1\n" * 100))
    return folder


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson", "t.npy", "t.parquet"])
def test_a_preview_reads_little_of_a_large_file(files: Path, name: str) -> None:
    ds = mf.read(files / name)
    limit = 700_000 if name != "t.parquet" else 3 * (1 << 20) + 200_000  # a page of each column
    assert (files / name).stat().st_size > 2 * limit or name == "t.parquet"
    str(mf.from_arrow({"n": [1]})), str(ds)  # modules are imported when first used
    threads, before = threading.active_count(), bytes_read()
    text = str(ds)
    assert bytes_read() - before < limit
    assert threading.active_count() == threads
    lines = text.splitlines()
    assert lines[3].split()[0] == "0"
    assert lines[12].split()[0] == "9"
    assert lines[13] == "(first 10 rows)"


def test_columns_are_those_of_the_dataset(files: Path) -> None:
    ds = mf.read_csv(files / "t.csv").select("name", "_line", "n").rename(n="number")
    assert str(ds).splitlines()[0].split() == ["name", "_line", "number"]
    assert str(ds).splitlines()[3].split() == ["name", "0", "2", "0"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.arrow"])
def test_what_can_not_be_read_in_part_is_not_read(files: Path, name: str) -> None:
    assert "show() prints the first ones" in str(mf.read(files / name))


def test_no_run_is_started_and_no_function_called(files: Path) -> None:
    called: list[int] = []

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        called.append(batch.num_rows)
        return batch

    session = mf.Session()
    ds = session.read_csv(files / "t.csv")
    small = session.from_arrow({"a": [2, 1]})
    for made in (ds.filter(mf.col("n") > 5), ds.sort("n"), small.map_batches(function, schema=small.schema)):
        called.clear()  # map_batches may call it to learn a schema
        assert str(made).endswith("show() prints the first ones)")
        assert "rows are not computed" in made._repr_html_()
    assert called == []
    assert str(small.sort("a")).splitlines()[3:] == ["    1", "    2", "(2 rows)"]
    assert session.last_run is None


def test_a_preview_that_fails_is_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n\n" + "1\n" * 5000 + "x\n")
    bad = mf.read_csv(path, schema={"n": "int64"})
    path.write_text("n\n1\nx\n")
    assert "(no preview: " in str(bad)
    path.unlink()
    assert "(no preview: " in str(bad)
    assert "no preview: " in bad._repr_html_()


def test_repr_names_the_ends_of_many_columns() -> None:
    assert repr(mf.from_arrow({"a": [1], "b": ["x"]})) == "Dataset(a: int64, b: string)"
    many = repr(mf.from_arrow({f"c{i}": [i] for i in range(1000)}))
    assert many.startswith("Dataset(c0: int64, ")
    assert ", c5: int64, … 988 more …, c994: int64, " in many
