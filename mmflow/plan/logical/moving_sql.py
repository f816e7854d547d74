"""Sums, means and moments of floats over moving frames, in SQL that runs whole in one task.

DataFusion runs such a query from its text, so that the functions of mmflow (`plan/functions/moving.py`) are put there:

    sum(x) FILTER (WHERE p) OVER w      mmflow_moving_sum(CASE WHEN (p) THEN (x) END) OVER w

Sums of integers and decimals are exact and stay. The text does not say what an argument is: DataFusion is asked, by
planning the query with bit_xor, which refuses floats, in the place of the function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mmflow.errors import PlanError
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.errors import RefusedError
from mmflow.plan.functions.moving import MOVING, MovingFunction, moving_name
from mmflow.plan.tokens import Token, closing, replaced, tokens

__all__ = ["moving_functions", "with_moving_functions"]

_ALIASES = {
    "mean": "avg",
    "var_samp": "var",
    "var_sample": "var",
    "var_population": "var_pop",
    "stddev_samp": "stddev",
    "covar": "covar_samp",
}
_RECEIVED = lazy_regex(r"bit_xor.*?(?:received|takes no) (\w+)", re.DOTALL | re.IGNORECASE)
_FRAMES = ("ROWS", "RANGE", "GROUPS")
#: Words whose operators bring rows in an order, beside ORDER BY.
_ORDERS = ("GROUP", "DISTINCT", "RANGE", "GENERATE_SERIES", "UNION", "INTERSECT", "EXCEPT")


@dataclass(frozen=True, slots=True)
class _Call:
    """Call of an aggregate with OVER.

    Attributes:
        kind: Function, of `MOVING`.
        name: Its token.
        first: Offsets of its first argument.
        close: Bracket behind its arguments.
        filter: Offsets of the condition of its FILTER; None: it has none.
        over: Token OVER.
    """

    kind: str
    name: Token
    first: tuple[int, int]
    close: Token
    filter: tuple[int, int] | None
    over: Token

    def parts(self) -> list[tuple[int, int, str]]:
        """Return what `replaced` puts in the place of the call."""
        made = [(self.name.start, self.name.end, MovingFunction(self.kind).name)]
        if self.filter is not None:
            made.append((self.first[0], self.first[0], "CASE WHEN {} THEN ("))
            made.append((self.first[1], self.first[1], ") END"))
        # FILTER and IGNORE NULLS go: DataFusion 55 ignores the first for window functions, and nulls are left out.
        return [*made, (self.close.end, self.over.start, " ")]


def moving_functions(query: str) -> list[MovingFunction]:
    """Return the functions of moving frames that a query calls."""
    named = {t.text for t in tokens(query) if t.kind == "word"}
    return [MovingFunction(kind) for kind in MOVING if moving_name(kind) in named]


def with_moving_functions(query: str, plan: Callable[[str], object]) -> str:
    """Return a query whose floats over moving frames are added up by functions of mmflow.

    Args:
        query: Query that DataFusion can plan.
        plan: Plans a query, in a context that knows the functions.

    Raises:
        RefusedError: DataFusion does not take the function there.
    """
    listed = tokens(query)
    calls = [c for c in _calls(query, listed) if not _is_steady(listed, c) and _adds_floats(query, c, plan)]
    if not calls:
        return query
    made = replaced(query, _without_overlaps(query, calls))
    try:
        plan(made)
    except PlanError as error:
        raise RefusedError(
            f"{calls[0].kind} of floats over a moving frame can't be computed in this query, which runs as SQL in one "
            f"task: {error.message}; compute it in a dataset of its own, or cast its argument to a decimal"
        ) from error
    return made


def _calls(query: str, listed: Sequence[Token]) -> list[_Call]:
    found = []
    for number, token in enumerate(listed[:-1]):
        kind = _ALIASES.get(token.name.lower(), token.name.lower())
        opened = listed[number + 1].text == "("
        if token.kind not in ("word", "quoted") or kind not in MOVING or not opened:
            continue
        end = closing(listed, number + 1)
        if end is None or listed[number + 2].is_word("DISTINCT"):
            continue  # DataFusion 55 has no sum of distinct floats over a moving frame
        at, condition = end + 1, None
        if at + 1 < len(listed) and listed[at].is_word("FILTER"):
            filtered = closing(listed, at + 1)
            if filtered is None:
                continue
            condition = listed[at + 2].end, listed[filtered].start
            at = filtered + 1
        if at + 1 < len(listed) and listed[at].is_word("IGNORE", "RESPECT"):
            at += 2
        if at >= len(listed) or not listed[at].is_word("OVER"):
            continue
        begin = number + 2 + listed[number + 2].is_word("ALL")
        first = listed[begin].start, listed[_end_of_argument(listed, begin, end)].start
        found.append(_Call(kind, token, first, listed[end], condition, listed[at]))
    return found


def _end_of_argument(listed: Sequence[Token], begin: int, end: int) -> int:
    """Return the number of the token behind an argument: a comma, or the bracket that closes them."""
    at = begin
    while at < end and listed[at].text != ",":
        inner = closing(listed, at) if listed[at].text in ("(", "[", "{") else at
        at = end if inner is None else inner + 1
    return at


def _is_steady(listed: Sequence[Token], call: _Call) -> bool:
    """Return whether no row leaves the frame of a call: it is the partition, or grows in the query's only order."""
    at = listed.index(call.over) + 1
    if listed[at].text != "(":
        return False  # a named window
    end = closing(listed, at)
    within = listed[at:end]
    if any(t.is_word(*_FRAMES) for t in within) or (
        within[1:] and within[1].kind != "sign" and _is_name(within[1])
    ):
        return False
    if not any(t.is_word("ORDER") for t in within):
        return True
    return sum(t.is_word("ORDER") for t in listed) == 1 and not any(t.is_word(*_ORDERS) for t in listed)


def _is_name(token: Token) -> bool:
    """Return whether a window's definition begins with the name of another window."""
    return not token.is_word("PARTITION", "ORDER", *_FRAMES)


def _adds_floats(query: str, call: _Call, plan: Callable[[str], object]) -> bool:
    if call.kind not in ("sum", "avg"):
        return True  # moments are computed as floats, whatever they are of
    try:
        plan(replaced(query, [(call.name.start, call.name.end, "bit_xor")]))
    except PlanError as error:
        received = _RECEIVED.search(error.message)
        # What is not known is added up as a float: an average is one, and a sum that is none is refused by its type.
        return received is None or received[1].lower().startswith(("float", "double", "null"))
    return call.kind == "avg"


def _without_overlaps(query: str, calls: Sequence[_Call]) -> list[tuple[int, int, str]]:
    """Return the parts of all calls in order, with the text of their conditions."""
    parts = []
    for call in calls:
        condition = "" if call.filter is None else query[slice(*call.filter)]
        parts += [(start, end, text.replace("{}", f"({condition})")) for start, end, text in call.parts()]
    return sorted(parts)
