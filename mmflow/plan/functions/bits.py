"""Bits of integers: `& | ^ ~`, which plans of expressions have no operators for."""

from __future__ import annotations

import pyarrow as pa

from mmflow.lazy import compute as pc
from mmflow.plan.functions.base import PlanFunction

__all__ = ["BitFunction"]


class BitFunction(PlanFunction):
    """Scalar function that combines the bits of integers of one type: `and`, `or`, `xor`, or `not` of one."""

    def __init__(self, operation: str, kind: pa.DataType) -> None:
        arguments = [kind] if operation == "not" else [kind, kind]
        name = f"mmflow_bit_{operation}_{kind}"
        super().__init__(name, getattr(pc, f"bit_wise_{operation}"), arguments, kind, (operation, kind))
