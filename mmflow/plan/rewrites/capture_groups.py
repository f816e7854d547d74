"""Capturing groups of regular expressions, one by one.

DataFusion 55's regexp_match leaves out the groups that took no part in a match, so that later ones move up:
`(b)(x)?(y)` gives ["b", "y"] for "by". An expression whose groups may be left out is matched once more for each of
them, the only one that captures then: its text is the first of the list, or there is none. So the engine that matches
says itself which groups took part.
"""

from __future__ import annotations

from collections.abc import Callable

from substrait.algebra_pb2 import Expression

from mmflow.errors import PlanError
from mmflow.plan.errors import RefusedError
from mmflow.plan.functions.patterns import PatternCheck, captured_one_by_one
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, int_literal

__all__ = ["Captures"]


class Captures:
    """Rewriter that replaces regexp_match by calls that keep absent groups, in the function space of a query."""

    def __init__(self, rels: RelationBuilder, use: Callable[[Function], int]) -> None:
        self._rels = rels
        self._use = use
        self._names = rels.names

    def keep(self, e: Expression) -> None:
        """Rewrite one expression in place, after those in it.

        Raises:
            RefusedError: The flags are not known when the query is planned, or the pattern can't be taken apart.
        """
        if e.WhichOneof("rex_type") != "scalar_function":
            return
        name = self._names.get(e.scalar_function.function_reference, "")
        if name == "regexp_replace":
            self._dollars(e)
        if name != "regexp_match":
            return
        texts = [_text(a.value) for a in e.scalar_function.arguments]
        if None in texts[2:]:
            raise RefusedError("regexp_match takes its flags as a literal")
        if texts[1] is None:
            self._check(e.scalar_function.arguments[1].value)
            return
        try:
            variants = captured_one_by_one(*(t or "" for t in texts[1:]))
        except PlanError as error:
            raise RefusedError(error.message) from error
        if not variants:
            return
        listed = self._rels.call(
            "make_array", *(self._group(e, v) for v in variants), returns=e.scalar_function.output_type
        )
        made = Expression()
        clause = made.if_then.ifs.add()
        getattr(clause, "if").CopyFrom(self._rels.call("is_not_null", e))
        clause.then.CopyFrom(listed)
        e.CopyFrom(made)

    def _check(self, pattern: Expression) -> None:
        """Return a call that checks patterns which are only known when the query runs."""
        made = Expression()
        made.scalar_function.function_reference = self._use(PatternCheck())
        made.scalar_function.arguments.add().value.CopyFrom(pattern)
        pattern.CopyFrom(made)

    def _group(self, e: Expression, variant: str) -> Expression:
        """Return the text of the one group of a variant; null if it took no part."""
        made = Expression()
        made.CopyFrom(e)
        _literal(made.scalar_function.arguments[1].value).string = variant
        kind = e.scalar_function.output_type.list.type
        return self._rels.call("array_element", made, int_literal(1), returns=kind)

    def _dollars(self, e: Expression) -> None:
        """Rewrite a replacement so that `$` stands for itself, as in PostgreSQL.

        DataFusion's `$1x` is a group of the name 1x, and so nothing.
        """
        replacement = e.scalar_function.arguments[2].value
        text = _text(replacement)
        if text is None:
            single, double = Expression(), Expression()
            single.literal.string, double.literal.string = "$", "$$"
            replacement.CopyFrom(self._rels.call("replace", replacement, single, double))
        elif "$" in text:
            _literal(replacement).string = text.replace("$", "$$")


def _literal(e: Expression) -> Expression.Literal:
    while e.WhichOneof("rex_type") == "cast":
        e = e.cast.input
    return e.literal


def _text(e: Expression) -> str | None:
    """Return the text of a literal, empty for null; None for other expressions."""
    literal = _literal(e)
    match literal.WhichOneof("literal_type"):
        case "string":
            return str(literal.string)
        case "null":
            return ""
    return None
