"""Expressions that DataFusion 55 computes while it optimizes, and wrongly.

Nothing of them is left in the optimized plan. So a query that has one is optimized again, without the rule that
simplifies: overflows of integers (`9223372036854775807 + 1` wraps) are looked for there. A query runs from there if its
regular expressions have a literal for a text (`rewrites/capture_groups.py`), or its nulls would be lost
(`rewrites/nulls.py`).
"""

from __future__ import annotations

from datafusion import DataFrame, LogicalPlan, SessionContext
from datafusion.substrait import Producer
from substrait.algebra_pb2 import Expression
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.errors import RefusedError, is_datafusion_error
from mmflow.plan.logical.lost_nulls import may_lose_nulls
from mmflow.plan.rewrites.checked_arithmetic import constant_overflow
from mmflow.plan.rewrites.nulls import loses_nulls
from mmflow.plan.substrait import function_names, messages

__all__ = ["optimized"]

# As plans are shown. Most queries have no such place, and need no second plan.
_LITERAL = r"Int\d+\(-?\d+\)"
_ARITHMETIC = lazy_regex(
    rf"{_LITERAL}(?: AS U?Int\d+\)|\))* (?:[-+*]|<<) (?:\(|- |CAST\()*U?{_LITERAL}|- (?:\(|CAST\()*{_LITERAL}"
)
_CAPTURES = lazy_regex(r"regexp_(?:match|replace)\((?:\w+\()*(?:Large)?Utf8")


def optimized(frame: DataFrame, made: LogicalPlan | None = None) -> LogicalPlan:
    """Return the optimized plan of a query, in which nothing was computed wrongly.

    Args:
        frame: The query.
        made: Its optimized plan as DataFusion makes it; None: it is not at hand.

    Raises:
        RefusedError: Arithmetic between literals does not fit its type.
    """
    plan = frame.logical_plan()
    text = str(plan.display_indent())
    captures = "regexp_" in text and _CAPTURES.search(text) is not None
    nulls = may_lose_nulls(text)
    if not captures and not nulls and _ARITHMETIC.search(text) is None:
        return frame.optimized_logical_plan() if made is None else made
    context = SessionContext()
    context.remove_optimizer_rule("simplify_expressions")
    context.remove_optimizer_rule("common_sub_expression_eliminate")  # it hides literals behind columns
    unfolded = context.create_dataframe_from_logical_plan(plan).optimized_logical_plan()
    encoded = _encoded(unfolded, context)
    if encoded is not None:
        _refuse_overflow(encoded)
        nulls = nulls and loses_nulls(encoded)
    if captures or nulls:
        return unfolded
    return frame.optimized_logical_plan() if made is None else made


def _encoded(plan: LogicalPlan, context: SessionContext) -> SubstraitPlan | None:
    """Return a plan as Substrait; None where Substrait can't carry it."""
    encoded = SubstraitPlan()
    try:
        encoded.ParseFromString(Producer.to_substrait_plan(plan, context).encode())
    except BaseException as error:
        if not is_datafusion_error(error):
            raise
        return None
    return encoded


def _refuse_overflow(encoded: SubstraitPlan) -> None:
    names = function_names(encoded)
    for e in messages(encoded.relations[0]):
        if isinstance(e, Expression) and e.WhichOneof("rex_type") == "scalar_function":
            overflow = constant_overflow(e, names)
            if overflow is not None:
                raise RefusedError(f"overflow: {overflow}")
