"""Functions of Python that a query calls: given by the call, registered in the session, or variables.

sql("SELECT f(a), g(a) FROM t", f=my_udf)         f is given; g is a variable, exactly as it is written: case counts

Invariant: they shadow each other in this order, and DataFusion's own functions last, as tables do.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmflow.api.sql.variables import describe_type
from mmflow.api.udf import Udf
from mmflow.errors import PlanError
from mmflow.plan.tokens import Token, tokens

__all__ = ["called_functions", "explain_missing_function"]

#: Words that stand before a bracket and call nothing, and those behind which a name with a bracket is defined.
_KEYWORDS = frozenset(
    "all and any as between by case cast columns cube distinct else except exclude exists filter from having ignore in "
    "intersect is join lateral like limit not offset on or order over partition rename replace rollup select sets some "
    "then try_cast union using values when where window with within".upper().split()
)
_DEFINES = ("AS", "WITH", "RECURSIVE")


def called_functions(
    query: str,
    given: Mapping[str, Any],
    registered: Collection[str],
    hidden: Collection[str],
    variables: Mapping[str, Any],
) -> dict[str, Udf]:
    """Return the UDFs that a query calls, without those of the session, by their names as the query writes them.

    Args:
        query: SQL.
        given: UDFs that the call gives, by name.
        registered: Names in SQL of the session's functions.
        hidden: Names of functions that the session's plans know, and that SQL does not unless they are registered.
        variables: Variables that may be functions.

    Raises:
        PlanError: A given function is not called, or a function is not in scope.
    """
    found: dict[str, Udf] = {}
    for token in _calls(query):
        name = token.name
        in_sql = name if token.kind == "quoted" else name.lower()
        if name in given:
            found[name] = given[name]
        elif in_sql not in registered:
            variable = variables.get(name)
            if isinstance(variable, Udf):
                found[name] = variable
            elif in_sql in hidden:
                raise PlanError(
                    f"SQL: there is no function {name}(): give it by name, as {name}=function, or register it by "
                    "Session.register_udf"
                )
    unused = next((name for name in given if name not in found), None)
    if unused is not None:
        raise PlanError(f"SQL: {unused} is a function, and the query does not call {unused}()")
    return found


def _calls(query: str) -> Iterator[Token]:
    """Yield the names before an opening bracket that may be those of functions."""
    before: Token | None = None
    for token, after in itertools.pairwise(tokens(query)):
        named = token.kind == "quoted" or (token.kind == "word" and token.text.upper() not in _KEYWORDS)
        defined = before is not None and (before.is_word(*_DEFINES) or before.text == ".")
        if named and after.text == "(" and not defined:
            yield token
        before = token


def explain_missing_function(query: str, variables: Mapping[str, Any], error: PlanError) -> PlanError:
    """Return the error for a function that is missing, with advice where a variable has its name."""
    for token in _calls(query):
        value = variables.get(token.name)
        if f"no function {token.name.lower()}()" in error.message and callable(value):
            return PlanError(
                f"SQL: {token.name} is {describe_type(value)}, which SQL can't call: decorate it by mf.udf(…), "
                "which names its types"
            )
    return error
