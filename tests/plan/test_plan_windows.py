"""Window functions of mmflow's kernel: what DuckDB gives, in one task and in several, with much memory and with little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

import mmflow as mf
from mmflow.plan.stages import Functions, WindowStep
from mmflow.worker.fragment import Fragment
from mmflow.worker.windows import add_windows
from tests.plan.made_queries import tables

FUNCTIONS = [
    "row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "lag({c})", "lag({c}, 2)", "lead({c}, 3)",
    "lead({c}, -1)", "first_value({c})", "last_value({c})", "lag({c}, 1, NULL)", "2 * rank()",
]  # fmt: skip
FRAMES = ["", " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"]
KEYS = st.sampled_from(["a", "b", "s", "d", "p", "a + b", "f"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a query of table t; `n` is the number of its row, and ends each order of a function that asks for one row."""
    partition = draw(st.lists(KEYS, max_size=2))
    keys = draw(st.lists(KEYS, max_size=2))
    ways = st.sampled_from(
        ["", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST", " DESC NULLS FIRST"]
    )
    order = [f"{key}{draw(ways) or ' NULLS LAST'}" for key in keys]
    calls = draw(st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=3))
    shown = []
    for number, call in enumerate(calls):
        ranks = "rank()" in call or "cume" in call
        by = order or ["n"] if ranks else [*order, "n"]
        frame = draw(st.sampled_from(FRAMES)) if "_value" in call else ""
        part = draw(st.sampled_from([partition, partition[:1], []]))
        over = f"{'PARTITION BY ' if part else ''}{', '.join(part)} ORDER BY {', '.join(by)}{frame}"
        shown.append(f"{call.format(c=draw(st.sampled_from([*'absdpf'])))} OVER ({over}) AS w{number}")
    return f"SELECT n, {', '.join(shown)} FROM t ORDER BY n"


def fixed(order: str) -> str:
    """Say where nulls are, as DuckDB and DataFusion differ where a query does not."""
    return order.replace(" DESC,", " DESC NULLS LAST,").replace(" DESC)", " DESC NULLS LAST)")


@given(tables(), queries(), st.booleans())
def test_windows_are_those_of_duckdb(table: pa.Table, query: str, cut: bool) -> None:
    query = fixed(query)
    table = table.append_column("n", pa.array(range(table.num_rows), pa.int64()))
    connection = duckdb.connect()
    connection.register("t", table)
    wanted = connection.sql(query).to_arrow_table().to_pylist()
    with mf.Session(workers=1, partitions=3 if cut else None, broadcast=0) as session:
        got = session.sql(query, t=session.from_arrow(table)).to_arrow().to_pylist()
    assert got == wanted


@pytest.fixture
def step(tmp_path: Path) -> WindowStep:
    """Step of a query over a column of numbers and one of text."""
    path = tmp_path / "t.csv"
    path.write_text("a,s\n1,x\n")
    over = "OVER (PARTITION BY a ORDER BY s)"
    plan = mf.sql(f"SELECT a, s, lag(s) {over} AS l, rank() {over} AS r FROM t", t=mf.read_csv(path))._plan()
    (found,) = [s for stage in plan.stages for s in stage.steps if isinstance(s, WindowStep)]
    return found


@pytest.mark.parametrize("memory", [1 << 20, 10_000, 200])
def test_rows_that_exceed_memory_are_computed_by_partition_or_by_the_fallback(
    step: WindowStep, memory: int
) -> None:
    """Leave one partition that is too large to the fallback; rows of other partitions wait for their turn."""
    keys = [n % 7 if n % 2 else 1 for n in range(100)]
    texts = [f"text that is not within its view {n * 37 % 50}" for n in range(100)]
    rows = pa.table([pa.array(keys), pa.array(texts)], names=step.rows.names).cast(step.rows)
    given: list[int] = []

    def fall_back(batches: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        given.append(sum(batch.num_rows for batch in batches))
        fragment = Fragment(step.fallback, Functions(()), memory=1 << 26, spill=None)
        return fragment.run({step.fallback.inputs[0][0]: batches})

    made = pa.Table.from_batches(
        add_windows(step, rows.to_batches(max_chunksize=9), memory, fall_back), step.schema
    )
    places = sorted(range(100), key=lambda n: (keys[n], texts[n]))
    wanted = []
    for i, n in enumerate(places):
        before = [m for m in places[:i] if keys[m] == keys[n]]
        wanted.append(
            (
                keys[n],
                texts[n],
                texts[before[-1]] if before else None,
                1 + sum(texts[m] < texts[n] for m in before),
            )
        )
    got = list(zip(*(made.column(c).to_pylist() for c in range(4)), strict=True))
    assert sorted(got, key=repr) == sorted(wanted, key=repr)
    if memory == 1 << 20:
        assert [row[:2] for row in got] == list(zip(keys, texts, strict=True))  # in their order
    assert bool(given) == (memory == 200)
    assert not given or max(given) < 100


@pytest.mark.parametrize(
    "call",
    [
        "lag(a, 1, 7) OVER (ORDER BY a)",
        "last_value(a) OVER (ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
        "first_value(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        "ntile(2) OVER (ORDER BY a)",
        "row_number() OVER ()",
        "sum(a) OVER (ORDER BY a)",
    ],
)
def test_what_the_kernel_does_not_know_is_left_to_datafusion(call: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n2\n4\n")
    made = mf.sql(f"SELECT {call} AS w FROM t", t=mf.read_csv(path))
    steps = [type(s) for stage in made._plan().stages for s in stage.steps]
    assert WindowStep not in steps
    wanted = duckdb.sql(f"SELECT {call} AS w FROM '{path}'").fetchall()
    assert sorted(made.to_arrow().column("w").to_pylist(), key=repr) == sorted(
        (w for (w,) in wanted), key=repr
    )


def test_windows_with_a_common_key_take_one_exchange(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "".join(f"{n % 7},{n % 5},{n}\n" for n in range(500)))
    query = """SELECT a, b, c, row_number() OVER (PARTITION BY a ORDER BY c) AS n, lag(c) OVER (PARTITION BY b, a ORDER BY c) AS l,
        sum(c) OVER (PARTITION BY a ORDER BY c DESC) AS s FROM t WHERE c > 3"""
    with mf.Session(shard_size=4096, partitions=3, broadcast=0) as session:
        made = session.sql(query, t=session.read_csv(path))
        assert [stage.title.count("exchange by key") for stage in made._plan().stages] == [1, 0]
        got = made.to_arrow()
    wanted = duckdb.sql(query.replace("FROM t", f"FROM '{path}'")).to_arrow_table().sort_by("c")
    assert got.sort_by("c").to_pydict() == wanted.to_pydict()
