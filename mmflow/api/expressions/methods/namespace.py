"""Base of the namespaces of an expression, such as `str`: calls that check the family of their operand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmflow.api.expressions.comparing import family
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import PlanError
from mmflow.usercode.tracebacks import PublicApi

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["Namespace"]


_SHOWN = {
    "text": "text",
    "time": "dates and timestamps",
    "zoned time": "timestamps with a zone",
    "duration": "durations",
    "list": "lists",
    "struct": "structs",
}


class Namespace(PublicApi):
    """Methods of one family of types."""

    __slots__ = ("_expression",)

    _label = ""
    _families: tuple[str, ...] = ()

    def __init__(self, expression: Expr) -> None:
        self._expression = expression

    def _apply(
        self,
        method: str,
        build: Callable[..., Raw],
        *others: Any,
        families: tuple[str, ...] = (),
        name: str | None = None,
    ) -> Expr:
        operation, wanted = f"{self._label}.{method}", families or self._families

        def checked(operand: Resolved, *more: Resolved) -> Raw:
            if family(operand.type) not in (*wanted, "null"):
                raise PlanError(
                    f"{operation}() takes {_SHOWN[wanted[0]]}, but not {operand.shown()}; cast it first"
                )
            return build(operand, *more)

        return self._expression._apply(operation, checked, *others, name=name)
