"""Advice on a value that is not of its column's type: the option with which its text would be one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from mmflow.formats.csv.respelling import number, wall_time_problem
from mmflow.formats.csv.strptime import parse_moment, time_format
from mmflow.formats.csv.styles import ColumnStyle
from mmflow.lazy.patterns import lazy_regex

if TYPE_CHECKING:
    from mmflow.formats.csv.decoder import CsvTypes

__all__ = ["DATE_STYLES", "TIME_STYLES", "advice"]

#: Common formats of dates, day first before month first.
DATE_STYLES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%y",
               "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")  # fmt: skip
#: Common formats of times of day.
TIME_STYLES = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_TRUTH = (
    ("yes", "no"), ("y", "n"), ("t", "f"), ("ja", "nein"), ("j", "n"), ("oui", "non"), ("o", "n"), ("si", "no"),
    ("sí", "no"), ("sim", "não"), ("on", "off"), ("wahr", "falsch"), ("vrai", "faux"), ("da", "net"),
)  # fmt: skip
_NULLS = {
    "na",
    "n/a",
    "null",
    "none",
    "nil",
    "nan",
    "-",
    "--",
    "?",
    ".",
    "\\n",
    "#n/a",
    "#n/v",
    "missing",
    "(null)",
}
_PLAIN = lazy_regex(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SEPARATORS = ".,' _\u00a0\u202f\u2019"
_ISO = lazy_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?")
_WHOLE = lazy_regex(r"[0-9]{9,19}")
_UNIT_OF = {range(9, 12): "s", range(12, 15): "ms", range(15, 18): "us", range(18, 20): "ns"}


def advice(text: str, name: str, kind: pa.DataType, types: CsvTypes) -> str:
    """Return the option that reads a text as a value of a type; empty where none is known."""
    style = types.styles.get(name, ColumnStyle())
    found = ""
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_integer(kind):
        found = _for_number(text, kind, style)
    elif pa.types.is_boolean(kind):
        found = _for_truth(text)
    elif pa.types.is_date(kind):
        found = _for_date(text)
    elif pa.types.is_timestamp(kind):
        found = wall_time_problem(text, style) or _for_timestamp(text, name, kind, style)
    elif pa.types.is_time(kind):
        formats = [f for f in TIME_STYLES if _fits(text, f)]
        found = f"set timestamp_format={{{name!r}: {formats[0]!r}}}" if formats else ""
    if not found and text.strip().lower() in _NULLS:
        found = f"set null={[*types.nulls_of(name), text]!r} if that means null"
    return found


def _for_number(text: str, kind: pa.DataType, style: ColumnStyle) -> str:
    whole = pa.types.is_integer(kind)
    pairs = [(style.decimal, t) for t in _SEPARATORS if t != style.decimal]
    other = "." if style.decimal == "," else ","
    pairs = [(other, ""), *pairs, *((other, t) for t in _SEPARATORS if t != other)]
    for decimal, thousands in pairs:
        usual = number(text, decimal, thousands)
        same = usual == text and decimal == style.decimal
        if usual is None or not _PLAIN.fullmatch(usual) or same or (whole and "." in usual):
            continue
        options = [f"decimal={decimal!r}"] if decimal != style.decimal else []
        options += [f"thousands={thousands!r}"] if thousands else []
        return f"set {' and '.join(options)}"
    return ""


def _for_truth(text: str) -> str:
    for pair in _TRUTH:
        for spelled in (pair, tuple(map(str.title, pair)), tuple(map(str.upper, pair))):
            if text in spelled:
                return f"set true_values=[{spelled[0]!r}] and false_values=[{spelled[1]!r}]"
    return ""


def _fits(text: str, form: str) -> bool:
    return parse_moment(text, time_format(form)) is not None


def _named(option: str, formats: list[str]) -> str:
    either = f", or {option}={formats[1]!r}" if len(formats) > 1 else ""
    return f"set {option}={formats[0]!r}{either}" if formats else ""


def _for_date(text: str) -> str:
    return _named("date_format", [f for f in DATE_STYLES if _fits(text, f)][:2])


def _for_timestamp(text: str, name: str, kind: pa.DataType, style: ColumnStyle) -> str:
    if kind.tz is not None and not style.zone and not style.formats and _ISO.fullmatch(text):
        return "it has no offset from UTC: set time_zone= to the zone in which it is wall time"
    if _WHOLE.fullmatch(text) and not style.epoch:
        unit = next(u for lengths, u in _UNIT_OF.items() if len(text) in lengths)
        return f"set epoch={{{name!r}: {unit!r}}}"
    dates = ("%Y-%m-%d", *DATE_STYLES)
    times = ("", *(f"{between}{time}" for between in (" ", "T", ", ") for time in TIME_STYLES))
    formats = [f"{d}{t}" for d in dates for t in times if _fits(text, f"{d}{t}")]
    return _named("timestamp_format", formats[:2])
