"""Comparisons of wall clocks with instants that DataFusion computes wrongly. They are refused.

DataFusion 55 turns `CAST(c AS T) < constant` into `c < constant` of c's type, and takes the constant's instant in UTC
for a wall clock, whatever the zone of T: `ts AT TIME ZONE 'Asia/Tokyo' < timestamp '2024-07-01 12:00:00'` is off by
nine hours, in WHERE and in SELECT. A plan that was optimized without that rule shows where it would do so.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa
from datafusion import DataFrame, Expr, LogicalPlan, SessionConfig, SessionContext

from mmflow.plan.errors import RefusedError, is_datafusion_error
from mmflow.plan.logical.nodes import expressions, nodes, parts
from mmflow.plan.logical.zones import type_of

__all__ = ["refuse_zone_comparisons"]

_RULE = "simplify_expressions"
_COMPARED = ("BinaryExpr", "InList", "Between")
_CASTS = ("arrow_cast", "arrow_try_cast")
_SAME_AS_NONE = ("UTC", "+00:00", "Etc/UTC", "Z")


@cache
def _context() -> SessionContext:
    made = SessionContext(SessionConfig().with_target_partitions(1))
    made.remove_optimizer_rule(_RULE)
    return made


def refuse_zone_comparisons(frame: DataFrame) -> None:
    """Check that DataFusion computes all comparisons of a frame rightly.

    Raises:
        RefusedError: A comparison would be wrong.
    """
    given = frame.logical_plan()
    text = str(given.display_indent())
    if (
        "Timestamp" not in text and "arrow_" not in text
    ):  # every cast between clocks and instants names its type
        return
    context = _context()
    try:
        plan = context.create_dataframe_from_logical_plan(given).optimized_logical_plan()
    except BaseException as error:
        if not is_datafusion_error(error):
            raise
        return  # nothing that can be planned: the planner says why
    for node in nodes(plan):
        for whole in expressions(node):
            for part in parts(whole):
                if part.variant_name() in _COMPARED and _is_wrong(part, node, context):
                    raise RefusedError(
                        "DataFusion compares a timestamp that is cast to or from a time zone with a constant wrongly, "
                        f"off by the zone's offset: {part.canonical_name()}; write nullif(x, NULL) for the side x "
                        "that is cast, which is compared right"
                    )


def _is_wrong(comparison: Expr, node: LogicalPlan, context: SessionContext) -> bool:
    sides = comparison.rex_call_operands()
    constant = [not any(p.variant_name() == "Column" for p in parts(side)) for side in sides]
    return any(constant) and any(
        not fixed and _crosses(side, node, context) for side, fixed in zip(sides, constant, strict=True)
    )


def _crosses(side: Expr, node: LogicalPlan, context: SessionContext) -> bool:
    """Return whether one of a side's casts is between a wall clock and instants of a zone other than UTC."""
    while side.variant_name() in ("Cast", "TryCast") or (
        side.variant_name() == "ScalarFunction" and side.rex_call_operator() in _CASTS
    ):
        inner = side.rex_call_operands()[0]
        types = [type_of(e, node, context) for e in (side, inner)]
        if all(t is not None and pa.types.is_timestamp(t) for t in types):
            zones = {t.tz for t in types if t is not None}
            if None in zones and len(zones - {None, *_SAME_AS_NONE}):
                return True
        side = inner
    return False
