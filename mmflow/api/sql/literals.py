"""Places of a query where DataFusion 55 takes a literal only: parameters there become literals of their values.

    ROWS $n PRECEDING                  ROWS 2 PRECEDING
    INTERVAL $n DAY                    INTERVAL '2 DAY'
    ts AT TIME ZONE $zone              ts AT TIME ZONE 'Asia/Tokyo'
    FROM range($n + 1)                 FROM range(3)
    date_part($part, d), s[$field]     date_part('year', d), s['a']

Invariant: a literal is made of a typed value, and quotes within text are doubled; no text of a value becomes SQL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import PlanError
from mmflow.plan.tokens import Token, closing, replaced, split_arguments, tokens

__all__ = ["with_literals"]

_UNITS = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND")
_INTERVAL_UNITS = frozenset((*_UNITS, *(f"{unit}S" for unit in _UNITS)))
#: Table functions of DataFusion whose arguments are literals.
_SERIES = ("range", "generate_series")
#: Position of the argument that names a part or a type, by function.
_NAMING = {"date_part": 0, "datepart": 0, "arrow_cast": 1, "arrow_try_cast": 1}
_CLAUSES = frozenset(
    ("SELECT", "FROM", "WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "VALUES", "ON", "USING")
)  # fmt: skip

_Part = tuple[int, int, str]


def with_literals(query: str, scalars: Mapping[str, pa.Scalar], constant: Callable[[str], Any]) -> str:
    """Return a query with literals where DataFusion takes no parameter.

    Args:
        query: SQL.
        scalars: Values of its parameters.
        constant: Function that computes the value of an expression.

    Raises:
        PlanError: A value does not fit its place, or an argument of range() is no constant.
    """
    values = {name: scalar.as_py() for name, scalar in scalars.items()}
    listed = tokens(query)
    parts: list[_Part] = []
    for part in _parts(query, listed, values, constant):
        if not parts or part[0] >= parts[-1][1]:  # else within another
            parts.append(part)
    return replaced(query, parts)


def _parts(
    query: str, listed: Sequence[Token], values: Mapping[str, Any], constant: Callable[[str], Any]
) -> Iterator[_Part]:
    clauses = [""]  # of each bracket that is open
    frame = ""
    for number, token in enumerate(listed):
        before = listed[number - 1] if number else None
        after = listed[number + 1] if number + 1 < len(listed) else None
        if token.text == "(":
            clauses.append("")
        elif token.text == ")" and len(clauses) > 1:
            clauses.pop()
        elif token.is_word(*_CLAUSES):
            clauses[-1] = token.text.upper()
        if token.is_word("ROWS", "RANGE", "GROUPS") and (after is None or after.text != "("):
            frame = token.text.upper()
        elif token.is_word("INTERVAL"):
            yield from _interval(listed, number, values)
        elif token.kind == "parameter" and after is not None and after.is_word("PRECEDING", "FOLLOWING"):
            yield token.start, token.end, _frame_bound(token, frame, values[token.name])
        elif token.kind == "parameter" and _is_zone(listed, number):
            yield token.start, token.end, _text(token, values[token.name], "AT TIME ZONE")
        elif token.kind == "parameter" and _is_field(listed, number) and type(values[token.name]) is str:
            yield token.start, token.end, _text(token, values[token.name], "a field")
        elif token.kind == "word" and after is not None and after.text == "(":
            name = token.text.lower()
            end = closing(listed, number + 1)
            arguments = list(split_arguments(listed[number + 2 : end]))
            at = _NAMING.get(name)
            if at is not None and len(arguments) > at:
                (first, *more) = arguments[at]
                if first.kind == "parameter" and not more:
                    yield first.start, first.end, _text(first, values[first.name], f"{name}()")
            table = before is not None and (
                before.is_word("FROM", "JOIN", "LATERAL") or (before.text == "," and clauses[-1] == "FROM")
            )
            if name in _SERIES and table:
                for argument in arguments:
                    yield from _series_argument(query, name, argument, constant)


def _is_zone(listed: Sequence[Token], number: int) -> bool:
    words = [t.text.upper() for t in listed[max(0, number - 3) : number]]
    return words == ["AT", "TIME", "ZONE"]


def _is_field(listed: Sequence[Token], number: int) -> bool:
    """Return whether a token is all that stands in the brackets behind an operand."""
    if number < 2 or number + 1 >= len(listed):
        return False
    operand, opening, end = listed[number - 2], listed[number - 1], listed[number + 1]
    return (
        opening.text == "["
        and end.text == "]"
        and (operand.kind != "sign" or operand.text in (")", "]", "}"))
    )


def _series_argument(
    query: str, name: str, argument: Sequence[Token], constant: Callable[[str], Any]
) -> Iterator[_Part]:
    if not any(t.kind == "parameter" or t.text in ("+", "*", "/", "(") for t in argument):
        return
    start, end = argument[0].start, argument[-1].end
    text = query[start:end]
    try:
        value = constant(text)
    except PlanError as error:
        raise PlanError(
            f"SQL: {name}() as a table takes constants, and {text} is none: "
            f"unnest({name}(…)) in SELECT makes rows of each row"
        ) from error
    yield start, end, _series_literal(name, text, value)


def _series_literal(name: str, text: str, value: Any) -> str:
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, dt.timedelta | pa.MonthDayNano):
        return _interval_literal(value)
    raise PlanError(
        f"SQL: {name}() takes integers, dates, timestamps without zones and intervals, and {text} is {value!r}"
    )


def _frame_bound(token: Token, frame: str, value: Any) -> str:
    if frame == "RANGE":
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return repr(value)
        if isinstance(value, dt.timedelta) and value >= dt.timedelta(0):
            return _interval_literal(value)
        wanted = "a number or a duration, and not negative"
    else:
        if type(value) is int and value >= 0:
            return str(value)
        wanted = "an integer, and not negative"
    raise PlanError(f"SQL: {token.text} is the bound of a window frame, which is {wanted}: it is {value!r}")


def _interval(listed: Sequence[Token], number: int, values: Mapping[str, Any]) -> Iterator[_Part]:
    """Yield the literal of an interval of a number or a parameter: INTERVAL 1 DAY, INTERVAL $n, INTERVAL ($n) DAY."""
    rest = listed[number + 1 : number + 5]
    bracketed = len(rest) > 2 and rest[0].text == "(" and rest[2].text == ")"
    amount = rest[1] if bracketed else rest[0] if rest else None
    end = 3 if bracketed else 1
    unit = rest[end] if len(rest) > end and rest[end].is_word(*_INTERVAL_UNITS) else None
    if amount is not None and amount.kind in ("number", "parameter"):
        value = values[amount.name] if amount.kind == "parameter" else amount.text
        last = rest[end - 1] if unit is None else unit
        yield listed[number].start, last.end, _interval_of(amount, value, unit)
    elif rest and rest[0].text == "(":
        raise PlanError(
            "SQL: INTERVAL (expression) is not supported: write INTERVAL '2 days', or INTERVAL $n DAY with a "
            "parameter; date + n adds days"
        )


def _interval_of(amount: Token, value: Any, unit: Token | None) -> str:
    if value is None:
        return "CAST(NULL AS INTERVAL)"
    if unit is None and isinstance(value, dt.timedelta | pa.MonthDayNano):
        return _interval_literal(value)
    if unit is not None and (amount.kind == "number" or (isinstance(value, int | float) and value == value)):
        count, quarters = str(value), unit.is_word("QUARTER", "QUARTERS")
        if quarters:
            return f"INTERVAL '{float(count) * 3:g} MONTHS'"
        return f"INTERVAL '{count} {unit.text}'"
    if unit is None and type(value) is str and amount.kind == "parameter":
        return f"INTERVAL {_quoted(value)}"
    if amount.kind == "number":
        raise PlanError(f"SQL: INTERVAL {amount.text} needs a unit, such as DAY")
    wanted = (
        "a number" if unit else "text such as '2 days', or a timedelta; a number needs a unit, such as DAY"
    )
    raise PlanError(f"SQL: INTERVAL {amount.text} takes {wanted}: {amount.text} is {value!r}")


def _interval_literal(value: dt.timedelta | pa.MonthDayNano) -> str:
    if isinstance(value, dt.timedelta):
        seconds, microseconds = value.seconds, value.microseconds
        return f"INTERVAL '{value.days} days {seconds} seconds {microseconds} microseconds'"
    return f"INTERVAL '{value.months} months {value.days} days {value.nanoseconds} nanoseconds'"


def _text(token: Token, value: Any, place: str) -> str:
    if type(value) is not str:
        raise PlanError(f"SQL: {token.text} must be text for {place}: it is {value!r}")
    return _quoted(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
