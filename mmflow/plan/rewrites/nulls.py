"""Nulls that DataFusion 55 loses: tests that it answers with true or false while it simplifies, fields of null structs.

`x ~ '.*'` becomes `x IS NOT NULL`; `x IN (1) AND x IN (2)` becomes false, `x NOT IN (1) OR x NOT IN (2)` true. They are
put into a form that it does not simplify. Plans of such queries come unsimplified (`logical/constants.py`).
`get_field` gives what lies under a null struct, as 0: it is called where the struct is not null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from substrait.algebra_pb2 import Expression
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.plan.substrait import RelationBuilder, function_names, messages

__all__ = ["Nulls", "loses_nulls"]

_MATCHES = ("regex_match", "regex_imatch", "regex_not_match", "regex_not_imatch", "regexp_like")
_ANY_TEXT = ".*"


class Nulls:
    """Rewrites expressions whose nulls would be lost, in the function space of a query."""

    def __init__(self, rels: RelationBuilder) -> None:
        self._rels = rels
        self._names = rels.names

    def keep(self, e: Expression) -> None:
        """Change one expression in place; those in it were changed before."""
        pattern = _pattern(e, self._names)
        if pattern is not None and pattern.string == _ANY_TEXT:
            pattern.string = f"(?:{_ANY_TEXT})"
        for test in _conflicting(e, self._names):
            unknown = Expression()
            unknown.literal.null.bool.SetInParent()
            test.CopyFrom(self._rels.call("nullif", test, unknown, returns=e.scalar_function.output_type))
        if _called(e, self._names) == "get_field":
            made = Expression()
            clause = made.if_then.ifs.add()
            getattr(clause, "if").CopyFrom(
                self._rels.call("is_not_null", e.scalar_function.arguments[0].value)
            )
            clause.then.CopyFrom(e)
            e.CopyFrom(made)


def loses_nulls(plan: SubstraitPlan) -> bool:
    """Return whether DataFusion would lose nulls of an unsimplified plan."""
    names = function_names(plan)
    for e in messages(plan.relations[0]):
        if isinstance(e, Expression):
            pattern = _pattern(e, names)
            if (pattern is not None and pattern.string == _ANY_TEXT) or _conflicting(e, names):
                return True
    return False


def _called(e: Expression, names: Mapping[int, str]) -> str:
    """Return the name of the function that an expression calls; empty: it calls none."""
    if e.WhichOneof("rex_type") != "scalar_function":
        return ""
    return names.get(e.scalar_function.function_reference, "")


def _pattern(e: Expression, names: Mapping[int, str]) -> Expression.Literal | None:
    """Return the literal pattern of a match with a regular expression."""
    if _called(e, names) not in _MATCHES:
        return None
    pattern = e.scalar_function.arguments[1].value
    while pattern.WhichOneof("rex_type") == "cast":
        pattern = pattern.cast.input
    return pattern.literal if pattern.literal.WhichOneof("literal_type") == "string" else None


def _conflicting(e: Expression, names: Mapping[int, str]) -> list[Expression]:
    """Return the tests of lists in a conjunction or disjunction that may exclude each other or cover all values."""
    name = _called(e, names)
    if name not in ("and", "or"):
        return []
    found: list[tuple[Expression, Expression.SingularOrList, bool]] = []
    for part in _operands(e, name, names):
        test, negated = part, False
        while _called(test, names) == "not":
            test, negated = test.scalar_function.arguments[0].value, not negated
        if test.WhichOneof("rex_type") == "singular_or_list":
            found.append((part, test.singular_or_list, negated))
    # `x NOT IN (1) AND x NOT IN (2)` and `x IN (1) OR x IN (2)` are merged rightly.
    merged_rightly = name == "and"
    return [
        part
        for number, (part, test, negated) in enumerate(found)
        if any(
            other.value == test.value and not negated == other_negated == merged_rightly
            for at, (_, other, other_negated) in enumerate(found)
            if at != number
        )
    ]


def _operands(e: Expression, name: str, names: Mapping[int, str]) -> Iterator[Expression]:
    """Yield the operands of a chain of the same operator."""
    for argument in e.scalar_function.arguments:
        if _called(argument.value, names) == name:
            yield from _operands(argument.value, name, names)
        else:
            yield argument.value
