"""Functions and operators of JSON in SQL.

    doc -> '$.a' ->> 'b'      json_extract_string(json_extract(doc, '$.a'), 'b')
    json_type(doc)            json_type(doc, '$')

The operators bind more tightly than all others but casts and subscripts.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mmflow.plan.tokens import Token, closing, replaced, split_arguments, tokens

if TYPE_CHECKING:
    from mmflow.plan.functions.json_values import JsonFunction

__all__ = ["json_functions", "with_json_calls"]

#: Prefix of the names of all functions of JSON.
_PREFIX = "json_"
_OPENS = {")": "(", "]": "["}


def with_json_calls(query: str, own: Collection[str] = ()) -> str:
    """Return a query in which operators of JSON are calls, and all calls have a path.

    Args:
        query: SQL.
        own: Names of the user's functions, which are left as they are.
    """
    while (arrow := _first_arrow(query)) is not None:
        query = replaced(query, [arrow])
    if _PREFIX not in query.lower():
        return query
    from mmflow.plan.functions.json_values import JSON_FUNCTIONS  # noqa: PLC0415  (slow)

    listed = tokens(query)
    parts: list[tuple[int, int, str]] = []
    for number, token in enumerate(listed[:-1]):
        name = token.text.lower()
        if (
            token.kind != "word"
            or name not in JSON_FUNCTIONS
            or name in own
            or listed[number + 1].text != "("
        ):
            continue
        end = closing(listed, number + 1)
        if end is not None and len(list(split_arguments(listed[number + 2 : end]))) == 1:
            parts.append((listed[end].start, listed[end].start, ", '$'"))
    return replaced(query, sorted(parts))


def json_functions(query: str) -> dict[str, JsonFunction]:
    """Return the functions of JSON that a query calls, by their names as it writes them."""
    if _PREFIX not in query.lower():
        return {}
    from mmflow.plan.functions.json_values import JSON_FUNCTIONS, JsonFunction  # noqa: PLC0415  (slow)

    listed = tokens(query)
    return {
        t.text: JsonFunction(t.text.lower())
        for t, after in itertools.pairwise(listed)
        if t.kind == "word" and t.text.lower() in JSON_FUNCTIONS and after.text == "("
    }


def _first_arrow(query: str) -> tuple[int, int, str] | None:
    """Return the place of the first operation, and the call that it means; None: there is none."""
    listed = tokens(query)
    for number in range(1, len(listed) - 2):
        dash, angle = listed[number], listed[number + 1]
        if dash.text != "-" or angle.text != ">" or dash.end != angle.start:
            continue
        second = listed[number + 2]
        text = second.text == ">" and second.start == angle.end
        at = number + 2 + text
        if at >= len(listed) or listed[at].kind not in ("text", "number", "parameter"):
            continue  # of a lambda, say
        begin = _operand(listed, number - 1)
        if begin is None:
            continue
        path = listed[at]
        step = f"'$[{path.text}]'" if path.kind == "number" else path.text
        name = "json_extract_string" if text else "json_extract"
        left = query[listed[begin].start : listed[number - 1].end]
        return listed[begin].start, path.end, f"{name}({left}, {step})"
    return None


def _operand(listed: Sequence[Token], at: int) -> int | None:
    """Return the number of the first token of the operand that ends with token `at`; None: there is none."""
    while True:
        token = listed[at]
        if token.text in _OPENS and token.kind == "sign":
            opened = _opening(listed, at)
            if opened is None:
                return None
            called = opened > 0 and _is_name(listed[opened - 1])
            if token.text == "]" and not called and opened > 0 and listed[opened - 1].text in _OPENS:
                at = opened - 1
                continue
            at = opened - 1 if called else opened
        elif token.kind not in ("word", "quoted", "text", "parameter"):
            return None
        while at > 1 and listed[at - 1].text == "." and _is_name(listed[at - 2]):
            at -= 2
        if at > 1 and listed[at - 1].text == "::":
            at -= 2
            continue
        return at


def _is_name(token: Token) -> bool:
    return token.kind == "quoted" or (token.kind == "word" and token.text.upper() not in _KEYWORDS)


#: Words before a bracket that call nothing.
_KEYWORDS = {"SELECT", "WHERE", "AND", "OR", "NOT", "ON", "BY", "HAVING", "WHEN", "THEN", "ELSE", "IN", "FROM", "CASE",
             "AS", "DISTINCT", "BETWEEN", "LIKE", "VALUES", "QUALIFY", "USING"}  # fmt: skip


def _opening(listed: Sequence[Token], at: int) -> int | None:
    depth = 0
    for number in range(at, -1, -1):
        text = listed[number].text if listed[number].kind == "sign" else ""
        depth += (text in ")]}" and text != "") - (text in "([{" and text != "")
        if depth == 0:
            return number
    return None
