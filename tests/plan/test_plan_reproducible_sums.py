"""Sums, averages and variances of floats have the same bits, those of the exact sum, however a query is cut into tasks."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import mmflow as mf

ROWS = 3000
QUERIES = {
    "SELECT k, sum(x) s, avg(x) a, sum(x) FILTER (WHERE n > 40) f FROM t GROUP BY k ORDER BY k": "plain",
    "SELECT 0 k, sum(x) s, avg(x) a, sum(x) FILTER (WHERE n > 40) f FROM t": "all",
    "SELECT k, sum(s) s, sum(s) / sum(c) a, max(f) f FROM (SELECT k, n, sum(x) s, count(x) c, 0.0 f FROM t GROUP BY k, n) "
    "GROUP BY k ORDER BY k": "nested",
    "SELECT t.k, sum(x * w) s, avg(x * w) a, sum(x + w) f FROM t JOIN u ON t.k = u.k GROUP BY t.k ORDER BY 1": "joined",
    "SELECT k, sum(x) s, avg(x) a, sum(x) f FROM (SELECT * FROM t UNION ALL SELECT * FROM t) GROUP BY k ORDER BY k": "union",
    "SELECT k, n % 3 m, sum(x) s, var_pop(x) a, stddev(x) f FROM t GROUP BY ROLLUP (k, n % 3) ORDER BY 1, 2": "rollup",
}


def _table() -> pa.Table:
    rng = np.random.default_rng(7)
    # Values of many magnitudes that cancel, whose plain sums differ with any other order.
    x = rng.normal(size=ROWS) * np.exp2(rng.integers(-40, 60, ROWS))
    x[1::2] = -x[::2] * (1 + rng.normal(size=ROWS // 2) * 1e-13)
    order = rng.permutation(ROWS)
    return pa.table(
        {
            "k": rng.integers(0, 6, ROWS),
            "n": rng.integers(0, 80, ROWS),
            "x": pa.array(x[order], mask=rng.random(ROWS) < 0.1),
        }
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder, table = tmp_path_factory.mktemp("sums"), _table()
    halves = [table.slice(0, 1000), table.slice(1000)]
    made: dict[str, list[Path]] = {"csv": [], "parquet": []}
    for number, part in enumerate(halves):
        made["csv"].append(folder / f"{number}.csv")
        pacsv.write_csv(part, made["csv"][-1])
        made["parquet"].append(folder / f"{number}.parquet")
        pq.write_table(part, made["parquet"][-1], row_group_size=170)
    return made


def _bits(table: pa.Table) -> list[tuple[object, ...]]:
    return [
        tuple(struct.pack("<d", v) if isinstance(v, float) else v for v in row.values())
        for row in table.to_pylist()
    ]


@st.composite
def _ways(draw: Any) -> tuple[str, dict[str, Any], int]:
    """Return the form of the files, settings of a session, and the seed of the files' order."""
    options = {
        "workers": draw(st.integers(1, 3)),
        "shard_size": draw(st.sampled_from([4096, 8192, 20_480, 1 << 26])),
        "partitions": draw(st.sampled_from([None, 1, 2, 5])),
        "broadcast": draw(st.sampled_from([0, 1 << 20])),
        "io": draw(st.sampled_from(["auto", "mmap", "pread"])),
        "memory": draw(st.sampled_from([64 << 20, 1 << 30])),
    }
    return draw(st.sampled_from(["csv", "parquet"])), options, draw(st.integers(0, 9))


def _run(
    files: dict[str, list[Path]], query: str, form: str, options: dict[str, Any], seed: int
) -> list[tuple[object, ...]]:
    paths = [str(p) for p in files[form]]
    random.Random(seed).shuffle(paths)
    weights = pa.table({"k": list(range(6)), "w": [1.1, 0.7, 1e-9, 3.3, 1e12, -0.1]})
    with mf.Session(**{name: value for name, value in options.items() if value is not None}) as session:
        tables: dict[str, Any] = {"t": session.read(paths)}
        if " u " in query:
            tables["u"] = session.from_arrow(weights)
        return _bits(session.sql(query, **tables).to_arrow())


@pytest.fixture(scope="module")
def wanted(files: dict[str, list[Path]]) -> dict[str, list[tuple[object, ...]]]:
    return {query: _run(files, query, "csv", {"workers": 1}, 0) for query in QUERIES}


@given(query=st.sampled_from(list(QUERIES)), way=_ways())
@settings(max_examples=50)
def test_every_way_to_run_gives_the_same_bits(
    files: dict[str, list[Path]],
    wanted: dict[str, list[tuple[object, ...]]],
    query: str,
    way: tuple[str, dict[str, Any], int],
) -> None:
    assert _run(files, query, *way) == wanted[query]


@pytest.mark.nightly
@given(query=st.sampled_from(list(QUERIES)), way=_ways())
@settings(max_examples=1000)
def test_a_thousand_ways_to_run_give_the_same_bits(
    files: dict[str, list[Path]],
    wanted: dict[str, list[tuple[object, ...]]],
    query: str,
    way: tuple[str, dict[str, Any], int],
) -> None:
    assert _run(files, query, *way) == wanted[query]


def test_the_bits_are_those_of_the_exact_sum(wanted: dict[str, list[tuple[object, ...]]]) -> None:
    rows = _table().to_pylist()
    (plain, whole, *_) = QUERIES
    for query, keys in ((plain, range(6)), (whole, [None])):
        exact = []
        for key in keys:
            values = [r["x"] for r in rows if r["x"] is not None and key in (None, r["k"])]
            some = [r["x"] for r in rows if r["x"] is not None and key in (None, r["k"]) and r["n"] > 40]
            mean = float(sum(map(Fraction, values)) / len(values))
            exact.append(
                (key or 0, *(struct.pack("<d", v) for v in (math.fsum(values), mean, math.fsum(some))))
            )
        assert wanted[query] == exact


def test_explain_says_that_a_sum_is_reproducible() -> None:
    table = pa.table({"k": [1], "x": [0.5], "n": [2]})
    with mf.Session() as session:
        text = session.sql("SELECT k, avg(x) FROM t GROUP BY k", t=table).explain()
        assert "aggregate, reproducible sum" in text
        assert (
            "reproducible" not in session.sql("SELECT k, sum(n), max(x) FROM t GROUP BY k", t=table).explain()
        )


def test_groups_that_fill_the_memory_go_to_disk_under_the_names_of_the_query(tmp_path: Path) -> None:
    count = 200_000
    numbers = np.random.default_rng(3).permutation(count)
    path = tmp_path / "t.csv"
    pacsv.write_csv(pa.table({"k": numbers, "x": numbers / 4, "c": [f"row {n:060}" for n in numbers]}), path)
    with mf.Session(memory="48MiB", workers=2, shard_size="4MiB") as session:
        ds = session.sql(
            "SELECT k AS key, sum(x) AS total, max(c) AS text FROM t GROUP BY k", t=session.read_csv(path)
        )
        made = ds.to_arrow().sort_by("key")
    assert made.column_names == ["key", "total", "text"]
    assert made["total"].to_pylist() == [n / 4 for n in range(count)]
    assert made["text"].to_pylist() == [f"row {n:060}" for n in range(count)]
