"""Arithmetic on literals, which DataFusion 55 computes while it optimizes, and wraps: `9223372036854775807 + 1`.

Nothing of it is left in the optimized plan. So a query in which two integer literals meet is optimized again, without
the rule that folds them, and searched.
"""

from __future__ import annotations

import re

from datafusion import DataFrame, SessionContext
from datafusion.substrait import Producer
from substrait.algebra_pb2 import Expression
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.plan.checked import constant_overflow
from mmflow.plan.datafusion_errors import is_datafusions
from mmflow.plan.encoding import RefusedError
from mmflow.plan.rels import messages

__all__ = ["refuse_overflowing_literals"]

# As plans are shown. Only saves time: most queries have no such place, and need no second plan.
_LITERAL = r"Int\d+\(-?\d+\)"
_MEETING = re.compile(
    rf"{_LITERAL}(?: AS U?Int\d+\)|\))* (?:[-+*]|<<) (?:\(|- |CAST\()*U?{_LITERAL}|- (?:\(|CAST\()*{_LITERAL}"
)


def refuse_overflowing_literals(frame: DataFrame) -> None:
    """Check the arithmetic between literals of a query.

    Raises:
        RefusedError: Some of it does not fit its type.
    """
    plan = frame.logical_plan()
    if _MEETING.search(str(plan.display_indent())) is None:
        return
    context = SessionContext()
    context.remove_optimizer_rule("simplify_expressions")
    encoded = SubstraitPlan()
    try:
        unfolded = context.create_dataframe_from_logical_plan(plan).optimized_logical_plan()
        encoded.ParseFromString(Producer.to_substrait_plan(unfolded, context).encode())
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
