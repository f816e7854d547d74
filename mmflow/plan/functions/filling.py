"""Nulls that take the last value before them, or the next one behind them, in the order of a window."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from datafusion import WindowUDF
from datafusion.user_defined import WindowEvaluator

from mmflow.formats.decoding.compact import without_views
from mmflow.formats.decoding.fixed_width import null_places
from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.plan.functions.lists import type_digest

__all__ = ["FillFunction", "filled"]


def filled(values: pa.Array, limit: int | None) -> pa.Array:
    """Return values in which each null is the last value before it, at most `limit` nulls in a row."""
    if not values.null_count:
        return values
    missing = null_places(values)
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(missing, -1, rows))
    lost = (last < 0) | ((rows - last > limit) if limit is not None else False)
    # pyarrow 26 takes nothing from views.
    made = without_views(values).take(pa.array(np.where(lost, 0, last), mask=lost))
    return made if made.type == values.type else convert_array(made, values.type)


class FillFunction:
    """Window function that fills nulls forward, in the order of the window, a `plan.stages.Function`.

    Args:
        values: Type of the values.
        limit: Most nulls in a row that are filled. None: all.

    Attributes:
        name: Name in plans.
        made: Object of DataFusion.
    """

    def __init__(self, values: pa.DataType, limit: int | None) -> None:
        self._recipe = values, limit
        self.name = f"mmflow_fill_{type_digest(values, limit)}"

        class Filling(WindowEvaluator):
            def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
                return filled(values[0], limit)

        self.made = WindowUDF(self.name, Filling, [values], values, "immutable")

    def __reduce__(self) -> tuple[type[FillFunction], tuple[pa.DataType, int | None]]:
        return type(self), self._recipe
