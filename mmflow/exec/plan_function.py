"""Scalar functions of mmflow's own, which the planner puts into plans.

Invariant: a function that was pickled is made again from what it was made of: DataFusion's objects can't travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from datafusion import ScalarUDF

__all__ = ["PlanFunction"]


class PlanFunction:
    """A scalar function that plans call; as `exec.stage.Function` has it.

    Args:
        name: Name in plans.
        call: Takes an array for each argument, gives one of as many values.
        arguments: Types of the arguments.
        result: Type of what it gives.
        recipe: Positional arguments of the class, from which the function is made again.

    Attributes:
        name: Name in plans.
        made: DataFusion's object.
        aggregate: Always false.
    """

    aggregate = False

    def __init__(
        self,
        name: str,
        call: Callable[..., pa.Array],
        arguments: Sequence[pa.DataType],
        result: pa.DataType,
        recipe: tuple[Any, ...] = (),
    ) -> None:
        self.name = name
        self._recipe = recipe
        udf: Any = ScalarUDF  # datafusion 55 has no types for its initializer
        fields = [pa.field(f"argument{i}", t) for i, t in enumerate(arguments)]
        self.made: Any = udf(name, call, fields, pa.field("result", result), "immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._recipe
