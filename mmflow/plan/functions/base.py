"""Scalar functions of mmflow, which the planner puts into plans.

Invariant: a function is pickled as the arguments of its class, since DataFusion's objects can't be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from datafusion import ScalarUDF

__all__ = ["PlanFunction"]


class PlanFunction:
    """Scalar function that plans call, a `plan.stages.Function`.

    Args:
        name: Name in plans.
        call: Takes one array per argument, and returns an array of as many values.
        arguments: Types of the arguments.
        result: Type of its values.
        recipe: Positional arguments of the class, from which a pickled function is created again.

    Attributes:
        name: Name in plans.
        made: Object of DataFusion.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., pa.Array],
        arguments: Sequence[pa.DataType],
        result: pa.DataType,
        recipe: tuple[object, ...] = (),
    ) -> None:
        self.name = name
        self._recipe = recipe
        fields = [pa.field(f"argument{i}", t) for i, t in enumerate(arguments)]
        self.made = ScalarUDF(name, call, fields, pa.field("result", result), "immutable")

    def __reduce__(self) -> tuple[type[PlanFunction], tuple[object, ...]]:
        return type(self), self._recipe
