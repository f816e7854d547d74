"""Functions of users: what they are given and return, and how the schema of their result is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.worker.batch_functions import BatchFormat

TABLE = pa.table({"a": [1, 2, 3], "t": ["x", None, "日"], "f": [1.5, None, float("nan")]})


@pytest.fixture(scope="module")
def ds() -> mf.Dataset:
    return mf.from_arrow(TABLE)


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize(
    ("form", "kind"),
    [("pyarrow", pa.RecordBatch), ("numpy", dict), ("pandas", pd.DataFrame), ("polars", pl.DataFrame)],
)
def test_a_function_gets_its_form_and_may_return_it(
    ds: mf.Dataset, form: BatchFormat, kind: type, processes: bool
) -> None:
    def same(batch: Any) -> Any:
        assert isinstance(batch, kind)
        return batch

    made = ds.map_batches(same, batch_format=form, processes=processes).to_arrow()
    assert made.schema.names == ["a", "t", "f"]
    assert made["a"].to_pylist() == [1, 2, 3]
    assert made["t"].to_pylist() == ["x", None, "日"]
    if form in ("pyarrow", "polars"):
        assert made["f"].null_count == 1


@pytest.mark.parametrize(
    "result",
    [
        {"n": np.arange(3)},
        {"n": [0, 1, 2]},
        pd.DataFrame({"n": [0, 1, 2]}, index=[7, 8, 9]),
        pl.DataFrame({"n": [0, 1, 2]}),
        pa.table({"n": [0, 1, 2]}),
        [{"n": [0]}, {"n": [1, 2]}],
    ],
)
def test_any_form_of_rows_may_be_returned(ds: mf.Dataset, result: Any) -> None:
    assert ds.map_batches(lambda batch: result).to_arrow().equals(pa.table({"n": [0, 1, 2]}))


def test_an_array_of_several_dimensions_is_a_column_of_lists(ds: mf.Dataset) -> None:
    made = ds.map_batches(lambda c: {"v": np.stack([c["a"], c["a"]], axis=1)}, batch_format="numpy")
    assert made.to_dicts() == [{"v": [1, 1]}, {"v": [2, 2]}, {"v": [3, 3]}]


def test_columns_may_come_in_another_order(ds: mf.Dataset) -> None:
    made = ds.map_batches(
        lambda c: {"t": c["t"], "a": c["a"]}, {"a": "int64", "t": "string"}, batch_format="numpy"
    )
    assert made.to_arrow().equals(TABLE.select(["a", "t"]))


class Columns(TypedDict):
    x: npt.NDArray[np.float32]
    n: int | None


def test_the_schema_is_that_of_the_annotation() -> None:
    def annotated(columns: dict[str, Any]) -> Columns:
        raise AssertionError

    made = mf.from_arrow({"a": [1]}).map_batches(annotated, batch_format="numpy")
    assert made.schema.types == [pa.float32(), pa.int64()]


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda d: d.map(lambda row: {"x": None}), "the type of column 'x' is not known.*schema="),
        (
            lambda d: d.map_batches(lambda b: {"x": [[], [], []]}),
            "the type of column 'x' is not known.*schema=",
        ),
        (lambda d: d.limit(0).map(lambda row: {"x": 1}), "there are no rows; pass schema="),
        (lambda d: d.flat_map(lambda row: []), "the first rows give none; pass schema="),
        (lambda d: d.map(lambda row: 5), "returned int, expected a dict.*schema="),
        (
            lambda d: d.map_batches(lambda b: 1 / 0),
            "3 rows to find its schema, raised ZeroDivisionError.*schema=",
        ),
        (lambda d: d.map_batches(lambda b: b, batch_format="arrow"), "must be one of pyarrow"),
        (lambda d: d.map_batches(lambda b: b, concurrency=0), "concurrency = 0: must be a positive"),
        (lambda d: d.map_batches(lambda b: b, num_gpus=-1), "num_gpus = -1"),
        (lambda d: d.map_batches(lambda b: b, fn_constructor_args=[1]), "are for classes"),
    ],
)
def test_what_is_not_known_or_wrong_is_an_error_of_the_plan(
    ds: mf.Dataset, verb: Callable[[mf.Dataset], mf.Dataset], message: str
) -> None:
    with pytest.raises(mf.MmflowError, match=message):
        verb(ds)


def test_functions_of_rows(ds: mf.Dataset) -> None:
    assert ds.map(lambda row: {"n": row["a"] + 0.5}).to_dicts() == [{"n": 1.5}, {"n": 2.5}, {"n": 3.5}]
    assert ds.filter(lambda row: row["t"] is None).to_dicts() == [{"a": 2, "t": None, "f": None}]
    words = ds.flat_map(lambda row: [{"n": row["a"]}] * row["a"], processes=True)
    assert words.to_arrow()["n"].to_pylist() == [1, 2, 2, 3, 3, 3]


def test_values_of_other_names_are_not_dropped(ds: mf.Dataset) -> None:
    """pyarrow's `from_pylist` goes by the first row alone."""
    made = ds.map(lambda row: {"a": 1} if row["a"] == 1 else {"a": 2, "b": 3})
    assert made.to_dicts() == [{"a": 1, "b": None}, {"a": 2, "b": 3}, {"a": 2, "b": 3}]
    with pytest.raises(mf.UserFunctionError, match="of the name 'b'"):
        ds.map(lambda row: {"a": 1, "b": 3}, {"a": "int64"}).to_arrow()


def test_further_arguments(ds: mf.Dataset) -> None:
    made = ds.map_batches(
        lambda c, n, m: {"n": c["a"] + n * m}, batch_format="numpy", fn_args=[10], fn_kwargs={"m": 2}
    )
    assert made.to_arrow()["n"].to_pylist() == [21, 22, 23]


def test_as_many_tasks_as_said_call_a_function_at_a_time(tmp_path: Path) -> None:
    """Two of them meet at the barrier, and there is never a third."""
    lock, meeting, running, most = threading.Lock(), threading.Barrier(2), [0], [0]

    def watched(batch: pa.RecordBatch) -> pa.RecordBatch:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        meeting.wait(30)
        with lock:
            running[0] -= 1
        return batch

    for number in range(8):
        (tmp_path / f"{number}.csv").write_text("a\n1\n")
    with mf.Session(workers=4) as session:
        ds = session.read_csv(str(tmp_path / "*.csv")).repartition(8)
        assert ds.map_batches(watched, {"a": "int64"}, concurrency=2).count() == 8
    assert most == [2]
