"""Styles of values: decimal marks, thousands, dates, texts that mean null; only where the values leave no doubt."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import field

from mmflow.formats.sniffing.kinds import NULLS, TYPED, kind_of
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["Styles", "find_styles"]

_GROUPED = lazy_regex(r"[-+]?[0-9]{1,3}(?:([.,' \u00a0\u202f])[0-9]{3})(?:\1[0-9]{3})*(?:([.,])[0-9]+)?")
_PLAIN = lazy_regex(r"[-+]?[0-9]*(?:([.,])[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_DATE = lazy_regex(
    r"([0-9]{1,4})([-/. ])([0-9]{1,2}|[^\W\d_]{3,9})\2([0-9]{4}|[0-9]{1,2})(?:([T ,]{1,2})(.+))?", re.DOTALL
)
_TIMES = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_ISO = lazy_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}.*)?")
#: Cells of a column that are looked at.
_MOST = 400


@dataclass(slots=True)
class Styles:
    """Styles of a table's values.

    Attributes:
        decimal: Mark before decimals; None: a point, or no column says.
        thousands: Mark between groups of digits; None: there is none, or no column says.
        dates: Formats of dates by the number of their column, by strptime; ISO 8601 left out.
        moments: Formats of timestamps, likewise.
        nulls: Texts that mean null by the number of their column, beside the empty one.
        doubts: What the values don't say, for people.
    """

    decimal: str | None = None
    thousands: str | None = None
    dates: dict[int, str] = field(default_factory=dict)
    moments: dict[int, str] = field(default_factory=dict)
    nulls: dict[int, tuple[str, ...]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def find_styles(columns: Sequence[Sequence[str]]) -> Styles:
    """Return the styles of the values of columns, their header left out."""
    found = Styles()
    values: list[list[str]] = []
    for number, cells in enumerate(columns):
        texts = [t for c in cells[:_MOST] if (t := c.strip())]
        kept = [t for t in texts if t not in NULLS]
        marks = tuple(dict.fromkeys(t for t in texts if t in NULLS))
        if marks and kept and all(kind_of(t) in TYPED for t in kept):
            found.nulls[number] = marks
            texts = kept
        values.append(texts)
    _find_numbers(values, found)
    _find_dates(values, found)
    return found


def _find_numbers(columns: Sequence[Sequence[str]], found: Styles) -> None:
    decimals: dict[str, int] = {}
    groups: dict[str, int] = {}
    doubtful = False
    for texts in columns:
        kinds = {kind_of(t) for t in texts}
        if not kinds or not kinds <= {"int", "real", "comma", "grouped"} or not kinds - {"int"}:
            continue
        decimal, grouping, doubt = _number_marks(texts)
        if decimal is None and grouping is None:
            doubtful = doubtful or doubt
            continue
        if decimal is not None:
            decimals[decimal] = decimals.get(decimal, 0) + 1
        if grouping is not None:
            groups[grouping] = groups.get(grouping, 0) + 1
    if len(decimals) == 1:
        (decimal,) = decimals
        found.decimal = decimal if decimal == "," else None
    if len(groups) == 1 and (not decimals or (len(decimals) == 1 and next(iter(groups)) not in decimals)):
        (found.thousands,) = groups
    if len(decimals) > 1:
        found.doubts.append("some columns have decimals behind a comma, others behind a point")
    elif doubtful and found.decimal is None and found.thousands is None and "." not in decimals:
        found.doubts.append("numbers such as 1,234 may have three decimals, or thousands")


def _number_marks(texts: Sequence[str]) -> tuple[str | None, str | None, bool]:
    """Return the mark of decimals and of thousands that all texts of a column agree with, and whether that is open."""
    sure_decimal: set[str] = set()
    sure_group: set[str] = set()
    either: set[str] = set()
    for text in texts:
        grouped = _GROUPED.fullmatch(text)
        plain = _PLAIN.fullmatch(text)
        if grouped is not None and plain is None:
            sure_group.add(grouped[1])
            if grouped[2]:
                sure_decimal.add(grouped[2])
        elif plain is not None and plain[1]:
            if grouped is not None and not text.lstrip("+-").startswith("0"):
                either.add(plain[1])
            else:
                sure_decimal.add(plain[1])
        elif plain is None:
            return None, None, False
    if len(sure_decimal) > 1 or len(sure_group) > 1 or sure_decimal & sure_group:
        return None, None, False
    decimal = next(iter(sure_decimal), None)
    group = next(iter(sure_group), None)
    for mark in either:
        if mark not in (decimal, group):
            if decimal is not None and group is None and mark != decimal:
                group = mark
            elif group is not None and decimal is None:
                return None, None, True
            else:
                return (None, None, mark == ",") if decimal is None else (None, None, False)
    return decimal, group, False


def _find_dates(columns: Sequence[Sequence[str]], found: Styles) -> None:
    orders: set[str] = set()
    open_columns: list[tuple[int, list[str]]] = []
    for number, texts in enumerate(columns):
        if (
            not texts
            or not all(kind_of(t) in ("date", "moment") for t in texts)
            or all(map(_ISO.fullmatch, texts))
        ):
            continue
        formats = _formats(texts)
        if len(formats) == 1:
            _keep_date(found, number, formats[0])
            if (order := _order(formats[0])) is not None and "." not in formats[0]:
                orders.add(order)
        elif formats:
            open_columns.append((number, formats))
    for number, formats in open_columns:
        # The other columns of the table were written by the same hand.
        alike = [f for f in formats if len(orders) == 1 and _order(f) in orders]
        if len(alike) == 1:
            _keep_date(found, number, alike[0])
        else:
            example = columns[number][0]
            found.doubts.append(f"dates such as {example} may have the day or the month first")


def _keep_date(found: Styles, number: int, format: str) -> None:
    (found.moments if "%H" in format or "%I" in format else found.dates)[number] = format


def _order(format: str) -> str | None:
    return "day" if format.startswith("%d") else "month" if format.startswith("%m") else None


def _formats(texts: Sequence[str]) -> list[str]:
    """Return the formats by which all texts of a column are dates or timestamps."""
    first = _DATE.fullmatch(texts[0])
    if first is None:
        return []
    mark, middle, year = first[2], first[3], "%Y" if len(first[4]) == 4 else "%y"
    if len(first[1]) == 4:
        days = [f"%Y{mark}%m{mark}%d"] if middle.isdigit() else []
    elif not middle.isdigit():
        days = [f"%d{mark}{name}{mark}{year}" for name in ("%b", "%B")]
    elif mark == ".":
        days = [f"%d.%m.{year}"]
    else:
        days = [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]
    candidates = days
    if first[5]:
        candidates = [f"{day}{first[5]}{time}" for day in days for time in _TIMES]
    return [c for c in candidates if all(_parses(t, c) for t in texts)][:2] if candidates else []


def _parses(text: str, format: str) -> bool:
    try:
        dt.datetime.strptime(text, format)  # noqa: DTZ007  (only whether it parses)
    except ValueError:
        return False
    return True
