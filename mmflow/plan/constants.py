"""Arithmetic on literals, which DataFusion 55 computes while it optimizes, and wrongly.

Nothing of it is left in the optimized plan. So a query with such a place is optimized again, without the rule that
folds literals: overflows of integers (`9223372036854775807 + 1` wraps) are looked for there, and a query whose regular
expressions have a literal for a text (`captures.py`) runs from there.
"""

from __future__ import annotations

import re

from datafusion import DataFrame, LogicalPlan, SessionContext
from datafusion.substrait import Producer
from substrait.algebra_pb2 import Expression
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.plan.checked import constant_overflow
from mmflow.plan.datafusion_errors import is_datafusions
from mmflow.plan.encoding import RefusedError
from mmflow.plan.rels import messages

__all__ = ["optimized"]

# As plans are shown. Most queries have no such place, and need no second plan.
_LITERAL = r"Int\d+\(-?\d+\)"
_ARITHMETIC = re.compile(
    rf"{_LITERAL}(?: AS U?Int\d+\)|\))* (?:[-+*]|<<) (?:\(|- |CAST\()*U?{_LITERAL}|- (?:\(|CAST\()*{_LITERAL}"
)
_CAPTURES = re.compile(r"regexp_(?:match|replace)\((?:\w+\()*(?:Large)?Utf8")


def optimized(frame: DataFrame) -> LogicalPlan:
    """Return the optimized plan of a query, in which nothing was computed wrongly.

    Raises:
        RefusedError: Arithmetic between literals does not fit its type.
    """
    plan = frame.logical_plan()
    text = str(plan.display_indent())
    captures = _CAPTURES.search(text) is not None
    if not captures and _ARITHMETIC.search(text) is None:
        return frame.optimized_logical_plan()
    context = SessionContext()
    context.remove_optimizer_rule("simplify_expressions")
    unfolded = context.create_dataframe_from_logical_plan(plan).optimized_logical_plan()
    _refuse_overflow(unfolded, context)
    return unfolded if captures else frame.optimized_logical_plan()


def _refuse_overflow(plan: LogicalPlan, context: SessionContext) -> None:
    encoded = SubstraitPlan()
    try:
        encoded.ParseFromString(Producer.to_substrait_plan(plan, context).encode())
    except BaseException as error:
        if not is_datafusions(error):
            raise
        return  # Substrait can't carry it
    names = {e.extension_function.function_anchor: e.extension_function.name for e in encoded.extensions}
    for e in messages(encoded.relations[0]):
        if isinstance(e, Expression) and e.WhichOneof("rex_type") == "scalar_function":
            overflow = constant_overflow(e, names)
            if overflow is not None:
                raise RefusedError(f"overflow: {overflow}")
