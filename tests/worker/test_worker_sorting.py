"""A sort of a task by the kernel: rows of any type in order, equal ones in theirs, and the fallback where memory is small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.plan.stages import FragmentStep, Functions, SortKey, SortStep
from mmflow.worker.fragment import Fragment
from mmflow.worker.sorting import sort_rows

COUNT = 200_000


def made(columns: dict[str, Any]) -> pa.Table:
    return pa.table({"k": pa.array([n * 7919 % 100 for n in range(COUNT)]), **columns})


def step_of(table: pa.Table, *keys: SortKey) -> SortStep:
    return SortStep(keys, FragmentStep(b"", (("t", table.schema),), table.schema, streaming=False))


def never(rows: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise AssertionError("all fits into memory")


@pytest.mark.parametrize("chunk", [COUNT, 999])
def test_rows_of_any_type_come_in_order_and_equal_ones_in_theirs(chunk: int) -> None:
    table = made(
        {
            "n": pa.array(range(COUNT)),
            "text": pa.array(
                [None if n % 11 == 0 else f"text {n} beyond its view" for n in range(COUNT)], pa.string_view()
            ),
            "flag": pa.array([n % 3 == 0 if n % 5 else None for n in range(COUNT)]),
            "items": pa.array([[n, None] if n % 4 else None for n in range(COUNT)]),
        }
    )
    step = step_of(table, SortKey(0, descending=True))
    got = pa.Table.from_batches(
        sort_rows(step, table.to_batches(max_chunksize=chunk), 1 << 30, never), table.schema
    )
    order = sorted(range(COUNT), key=lambda n: -(n * 7919 % 100))
    assert got.column("n").to_pylist() == order
    # pyarrow 26 can't take from views.
    plain = table.set_column(2, "text", table.column("text").cast(pa.string())).take(order)
    assert got.set_column(2, "text", got.column("text").cast(pa.string())).equals(plain)


def test_no_rows_are_no_batches() -> None:
    table = made({}).slice(0, 0)
    assert list(sort_rows(step_of(table, SortKey(0)), table.to_batches(), 1 << 20, never)) == []


def test_rows_that_exceed_memory_are_left_to_the_fallback(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("k,n\n1,2\n")
    plan = mf.sql("SELECT * FROM t ORDER BY k DESC, n + 1", t=mf.read_csv(path))._plan()
    (step,) = [s for stage in plan.stages for s in stage.steps if isinstance(s, SortStep)]
    given: list[int] = []

    def fall_back(rows: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        given.append(sum(batch.num_rows for batch in rows))
        fragment = Fragment(step.fallback, Functions(plan.functions.all), memory=1 << 26, spill=None)
        return fragment.run({step.fallback.inputs[0][0]: rows})

    numbers = [(n * 37 % 50, n) for n in range(1000)]
    rows = pa.table(
        {"k": [k for k, _ in numbers], "n": [n for _, n in numbers], "key": [n + 1 for _, n in numbers]}
    )
    batches = rows.rename_columns(step.rows.names).cast(step.rows).to_batches(max_chunksize=100)
    for memory in (1 << 20, 1000):
        got = pa.Table.from_batches(sort_rows(step, batches, memory, fall_back))
        assert [*zip(*(got.column(c).to_pylist() for c in (0, 1)), strict=True)] == sorted(
            numbers, key=lambda pair: (-pair[0], pair[1])
        )
    assert given == [1000]


def test_equal_rows_of_a_file_stay_in_its_order(tmp_path: Path) -> None:
    """Whatever tasks and ranges the rows went through."""
    path = tmp_path / "t.csv"
    path.write_text("k,n\n" + "".join(f"{n * 37 % 10},{n}\n" for n in range(20_000)))
    with mf.Session(shard_size=4096, partitions=4, broadcast=0) as session:
        got = session.read_csv(path).sort("k").to_arrow()
    order = sorted(range(20_000), key=lambda n: n * 37 % 10)
    assert got.column("n").to_pylist() == order
