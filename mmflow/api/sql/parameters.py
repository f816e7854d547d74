"""Values of the parameters `$name` of a query. DataFusion binds them; they never become text of the query.

sql("… WHERE day = $day AND host IN $hosts", day=date(2024, 1, 1), hosts=["a", "b"])
--param day=2024-01-01                                              the same, from a command line: `parse_literal`
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.api.sql.variables import describe_type
from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import is_supported
from mmflow.formats.schemas.schema import public_schema, type_text
from mmflow.lazy import difflib
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.tokens import Token, parameters_of, replaced, tokens

__all__ = ["bound", "parse_literal"]


def bound(query: str, values: Mapping[str, Any]) -> tuple[str, dict[str, pa.Scalar]]:
    """Return a query with its lists after IN taken apart, and the values of its parameters.

    Raises:
        PlanError: A parameter has no value, a value has no parameter, or a value has no type that SQL knows.
    """
    wanted = parameters_of(query)
    for name in wanted:
        if name not in values:
            close = difflib.get_close_matches(name, values, 1)
            hint = f"; did you mean ${close[0]}?" if close else ""
            raise PlanError(f"SQL: ${name} has no value: give it as {_as_given(name)}{hint}")
    for name, value in values.items():
        if name not in wanted:
            close = difflib.get_close_matches(name, wanted, 1)
            hint = (
                f"did you mean ${close[0]}?"
                if close
                else "a table is a dataset, Arrow data or a dict of columns"
            )
            raise PlanError(
                f"SQL: {name} = {_shown(value)} is not used: the query has no ${name}, and "
                f"{describe_type(value)} is no table; {hint}"
            )
    scalars = {name: _scalar(name, values[name]) for name in wanted}
    return _with_lists(query, scalars)


def _as_given(name: str) -> str:
    return (
        f"{name}=…, or on the command line --param {name}=…" if name.isidentifier() else f'**{{"{name}": …}}'
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _scalar(name: str, value: Any) -> pa.Scalar:
    try:
        from mmflow.api.expressions.tree.literals import literal_scalar  # noqa: PLC0415  (slow)

        made = _list(value) if _is_list(value) else literal_scalar(value)
    except (PlanError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise PlanError(
            f"SQL: ${name} is {describe_type(value)}, which no type of SQL holds: {error}"
        ) from error
    if not is_supported(pa.field(name, made.type)):
        raise PlanError(
            f"SQL: ${name} is {describe_type(value)}: no parameter can be of type {_shown_type(made.type)}"
        )
    return made


def _shown_type(kind: pa.DataType) -> str:
    return type_text(public_schema(pa.schema([pa.field("value", kind)])).field(0).type)


def _is_list(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping | pa.Scalar):
        return False
    return isinstance(value, Sequence | set | frozenset | pa.Array | pa.ChunkedArray) or hasattr(
        value, "__array__"
    )


def _list(value: Any) -> pa.Scalar:
    """Return the list of a Python list, an array or a series."""
    if getattr(value, "ndim", 1) == 0:  # a scalar of numpy; pa.scalar takes no datetime64 of days
        return pa.array(np.asarray([value]))[0]
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    if not isinstance(value, pa.Array):
        items = list(value) if isinstance(value, Sequence | set | frozenset) else value
        if isinstance(items, list) and any(type(v) is int and abs(v) >= 1 << 63 for v in items):
            items = [None if v is None else decimal.Decimal(v) for v in items]
            value = pa.array(items, pa.decimal128(38, 0))
        else:
            value = pa.array(items)
    return pa.ListArray.from_arrays(pa.array([0, len(value)], pa.int32()), value)[0]


def _with_lists(query: str, scalars: dict[str, pa.Scalar]) -> tuple[str, dict[str, pa.Scalar]]:
    """Take lists apart that follow IN: `IN $x` is `IN ($x_1, $x_2)`, which means the same for nulls as IN does."""
    made = dict(scalars)
    parts: list[tuple[int, int, str]] = []
    for name, token in _lists(query):
        scalar = scalars[name]
        if not pa.types.is_list(scalar.type):
            raise PlanError(
                f"SQL: IN ${name} needs a list, and it is {_shown_type(scalar.type)}: write IN (${name})"
            )
        items = [] if scalar.as_py() is None else list(scalar.values)
        names = [_free(f"{name}_{n}", scalars) for n in range(1, len(items) + 1)]
        made |= zip(names, items, strict=True)
        listed = ", ".join(f"${n}" for n in names) or "SELECT NULL WHERE false"
        parts.append((token.start, token.end, f"({listed})"))
    written = replaced(query, parts)
    left = parameters_of(written)
    return written, {name: value for name, value in made.items() if name in left}


def _lists(query: str) -> Iterator[tuple[str, Token]]:
    before: Token | None = None
    for token in tokens(query):
        if token.kind == "parameter" and before is not None and before.is_word("IN"):
            yield token.name, token
        before = token


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


_INTEGER = lazy_regex(r"[+-]?[0-9]+")
_FLOAT = lazy_regex(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|nan)", re.IGNORECASE)
_DATE = lazy_regex(r"\d{4}-\d\d-\d\d")
_TIMESTAMP = lazy_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?")
_WORDS = {"true": True, "false": False, "null": None}


def parse_literal(text: str) -> Any:
    """Return the value of a text as it is written in SQL; what is nothing else is text.

    Raises:
        ValueError: It looks like a date or timestamp, and is none.

    >>> parse_literal("3"), parse_literal("1.5"), parse_literal("'3'"), parse_literal("abc"), parse_literal("null")
    (3, 1.5, '3', 'abc', None)
    >>> parse_literal("2024-02-29"), parse_literal("2024-02-29 12:00")
    (datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 0))
    >>> parse_literal("[1, 2]"), parse_literal("[a, 'b, c']")
    ([1, 2], ['a', 'b, c'])
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == "[" and text[-1] == "]":
        return [parse_literal(item) for item in _items(text[1:-1])]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _DATE.fullmatch(text):
        return dt.date.fromisoformat(text)
    if _TIMESTAMP.fullmatch(text):
        return dt.datetime.fromisoformat(text)
    return text


#: Item of a list: text in quotes, or what stands up to the next comma.
_ITEM = lazy_regex(r"\s*('(?:[^']|'')*'|[^,']*?)\s*(?:,|$)")


def _items(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            raise ValueError(
                f"[{text}] is no list: a quote is not closed, or stands within text without quotes"
            )
        yield item[1]
        at = item.end()
