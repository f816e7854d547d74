"""Nulls are filled as in Polars, by expressions and in whole datasets."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow.worker.filling import fill_backward, fill_forward


def _table(rows: int) -> pa.Table:
    made = random.Random(rows)
    values: dict[str, tuple[pa.DataType, list[Any]]] = {
        "a": (pa.int64(), [None, None, 1, 2]),
        "s": (pa.string(), [None, "x", "y"]),
        "f": (pa.float64(), [None, 1.5, -2.0]),
        "b": (pa.bool_(), [None, True]),
        "t": (pa.timestamp("us", "UTC"), [None, 10**12]),
        "l": (pa.list_(pa.string()), [None, None, ["x"], ["y", None]]),
        "none": (pa.int64(), [None]),
    }
    return pa.table(
        {n: pa.array([made.choice(v) for _ in range(rows)], kind) for n, (kind, v) in values.items()}
    )


@pytest.mark.parametrize(("rows", "limit"), [(0, None), (1, None), (60, None), (60, 0), (60, 1), (60, 3)])
def test_datasets_are_filled_in_the_order_of_their_rows(rows: int, limit: int | None) -> None:
    table = _table(rows)
    df = pl.from_arrow(table)
    assert isinstance(df, pl.DataFrame)
    for strategy, function in (("forward", fill_forward), ("backward", fill_backward)):
        wanted = df.fill_null(strategy=strategy, limit=limit).to_dicts()  # type: ignore[arg-type]
        ds = mf.from_arrow(table)
        assert ds.fill_null(strategy=strategy, limit=limit).to_dicts() == wanted  # type: ignore[arg-type]
        batches = function(limit, iter(table.to_batches(max_chunksize=7)), 0)
        assert [row for batch in batches for row in batch.to_pylist()] == wanted


@pytest.mark.parametrize(
    ("strategy", "columns"),
    [("min", "asft"), ("max", "asfb"), ("zero", "asfbt"), ("one", "afb"), ("mean", "af")],
)
def test_datasets_are_filled_by_values(strategy: Any, columns: str) -> None:
    table = _table(60)
    df, ds = pl.from_arrow(table), mf.from_arrow(table)
    assert isinstance(df, pl.DataFrame)
    made = ds.fill_null(strategy=strategy).to_arrow()
    wanted = df.select(list(columns)).fill_null(strategy=strategy)
    assert made.select(list(columns)).to_pylist() == wanted.to_dicts()
    assert made.schema == ds.schema
    # Lists have no zero, no mean and no least value: they stay.
    assert made["l"].to_pylist() == table["l"].to_pylist()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ds: ds.fill_null(), mf.ConfigError),
        (lambda ds: ds.fill_null(0, strategy="zero"), mf.ConfigError),
        (lambda ds: ds.fill_null(strategy="previous"), mf.ConfigError),
        (lambda ds: ds.fill_null(strategy="zero", limit=1), mf.ConfigError),
        (lambda ds: ds.select(col("s").fill_null(strategy="mean")), mf.PlanError),
        (lambda ds: ds.select(col("s").fill_null(strategy="one")), mf.PlanError),
        (lambda ds: ds.select(col("l").fill_null(strategy="zero")), mf.PlanError),
        (lambda ds: ds.select(col("a").fill_null(strategy="forward")), mf.PlanError),
        (lambda ds: ds.to_torch("array"), mf.ConfigError),
    ],
)
def test_what_means_nothing_is_refused(
    call: Callable[[mf.Dataset], object], error: type[mf.MmflowError]
) -> None:
    with pytest.raises(error):
        call(mf.from_arrow(_table(3)))


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_a_tensor_without_pytorch_says_what_to_install() -> None:
    with pytest.raises(mf.ConfigError, match=r"to_torch\(\) needs PyTorch: pip install torch"):
        mf.from_arrow(_table(3)).select("a").to_torch()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_tensors_hold_numbers() -> None:
    ds = mf.from_arrow({"i": [1, 2], "f": [0.5, None], "b": [True, False], "s": ["x", "y"]})
    both = ds.select("i", "f").to_torch()
    assert both.shape == (2, 2)
    assert both[:, 0].tolist() == [1.0, 2.0]
    assert both[1, 1].isnan()
    parts = ds.select("i", "b").to_torch("dict")
    assert {n: t.tolist() for n, t in parts.items()} == {"i": [1, 2], "b": [True, False]}
    with pytest.raises(mf.PlanError, match="column 's' is string"):
        ds.to_torch()
