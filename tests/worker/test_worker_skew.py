"""One key that holds most rows: its partition does not fit a task's memory, and the join ends all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mmflow as mf

ROWS = 1_500_000


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Many rows of key 7 on one side, of key 8 on the other, and a few of each of the others on both."""
    folder = tmp_path_factory.mktemp("skew")
    rng = np.random.default_rng(5)
    rare = np.arange(ROWS) % 20 == 0
    others = rng.integers(10, 100_000, ROWS)
    many, few = folder / "a.arrow", folder / "b.arrow"
    for path, columns in (
        (many, {"k": np.where(rare, others, 7), "v": np.arange(ROWS), "w": rng.random(ROWS)}),
        (few, {"k": np.where(rare, others, 8), "u": np.arange(ROWS)}),
    ):
        table = pa.table(columns)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=1 << 16)
    return many, few


@pytest.mark.parametrize("order", ["a JOIN b", "b JOIN a"])
def test_a_join_on_a_skewed_key(tables: tuple[Path, Path], order: str) -> None:
    query = f"SELECT count(*) AS n, sum(v) AS v, sum(u) AS u, max(w) AS w FROM {order} ON a.k = b.k"
    many, few = map(str, tables)
    with mf.Session() as ample:
        wanted = ample.sql(query, a=ample.read_arrow(many), b=ample.read_arrow(few)).to_arrow()
    with mf.Session(memory="64MiB", workers=2, broadcast="0", partitions=1) as small:
        got = small.sql(query, a=small.read_arrow(many), b=small.read_arrow(few)).to_arrow()
    assert got.equals(wanted)
    assert wanted["n"][0].as_py() >= ROWS // 20


@pytest.mark.parametrize(
    "query",
    [
        "SELECT k, v FROM a ORDER BY k, v",
        "SELECT k, count(*) AS n, sum(v) AS v FROM a GROUP BY k ORDER BY k",
        "SELECT k, count(DISTINCT v) AS n FROM a GROUP BY k ORDER BY k",
        "SELECT a.k, a.v, b.u FROM a JOIN b ON a.k = b.k ORDER BY a.k, a.v, b.u",
        "SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM a ORDER BY k, v",
    ],
)
def test_rows_are_those_of_one_partition_where_one_key_is_half_of_them(tmp_path: Path, query: str) -> None:
    rows = 40_000
    rng = np.random.default_rng(22)
    keys = np.where(np.arange(rows) % 2 == 0, 7, rng.integers(10, 5_000, rows))
    tables = {
        "a": pa.table({"k": keys, "v": rng.permutation(rows)}),
        "b": pa.table({"k": np.arange(5_000), "u": np.arange(5_000)}),
    }
    for name, table in tables.items():
        with pa.ipc.new_file(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=4_096)
    got = []
    for partitions in (1, 8):
        with mf.Session(workers=2, partitions=partitions, broadcast="0", shard_size=65_536) as session:
            read = {name: session.read_arrow(str(tmp_path / f"{name}.arrow")) for name in tables}
            got.append(session.sql(query, **read).to_arrow())
    assert got[1].equals(got[0])
    assert got[0].num_rows > 1_000
