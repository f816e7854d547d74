"""Stages as data that travels: a pickled stage gives the rows of the one it was made of."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from mmflow.plan.stages import TableInput

TABLE = pa.table({"n": pa.chunked_array([[1, 2], [], [3]]), "s": ["a", None, "c"]})


@pytest.mark.parametrize("columns", [["n", "s"], ["s"], []])
def test_pickled_tables_keep_their_rows_whatever_columns_are_left(columns: list[str]) -> None:
    made = pickle.loads(pickle.dumps(TableInput("t", TABLE.select(columns))))
    assert made.name == "t"
    assert made.table.num_rows == 3
    assert made.table.equals(TABLE.select(columns))


def test_pickled_slices_hold_their_rows_only() -> None:
    wide = pa.table({"n": range(1_000_000)})
    assert len(pickle.dumps(TableInput("t", wide.slice(5, 10)))) < 4096
