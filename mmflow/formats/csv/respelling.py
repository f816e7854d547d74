"""Values of CSV in the spelling that pyarrow reads, from the one that a column has.

    "1.234,5" -> "1234.5"     "31.12.2024" -> "2024-12-31"     "ja" -> "true"     1700000000 -> "2023-11-14 22:13:20Z"

The reference decoder reads such columns as text, one value after the other. The kernel does the same while it parses
(`common/styles.inl.h`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa

from mmflow.formats.csv.strptime import Moment, parse_moment
from mmflow.formats.csv.styles import UNITS, ColumnStyle
from mmflow.lazy.patterns import lazy_regex

__all__ = ["respeller", "wall_time_problem"]

_NUMBER = lazy_regex(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_WALL = lazy_regex(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[ T]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?)?)?"
)
#: Days and a time, each with its sign, as Python, DuckDB and PostgreSQL write them.
_CLOCK = lazy_regex(r"(?:(-?[0-9]+) days?,? )?(-)?([0-9]{1,9}):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,9}))?")
_PERIOD = lazy_regex(
    r"(-)?P(?:([0-9]{1,9})D)?(?:T(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:\.([0-9]{1,9}))?S)?)?"
)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  (wall time)
_ORDINAL = dt.date(1970, 1, 1).toordinal()
_LEAST, _MOST = (dt.datetime(1, 1, 1) - _EPOCH) // dt.timedelta(seconds=1), 253402300799  # noqa: DTZ001


def respeller(kind: pa.DataType, style: ColumnStyle) -> Callable[[str], str | None]:
    """Return a function that gives a text in the usual spelling; None where it is not in the style of the column."""
    types = pa.types
    if style.epoch:
        return lambda text: _epoch(text, style.epoch, zoned=kind.tz is not None)
    if style.spans:
        return lambda text: _span(text, UNITS[kind.unit])
    if style.formats:
        return lambda text: _formatted(text, kind, style)
    if style.zone:
        return lambda text: _in_utc(text, style.zone)
    if types.is_boolean(kind):
        known = dict.fromkeys(style.true_values, "true") | dict.fromkeys(style.false_values, "false")
        return lambda text: known.get(text, text)
    if style.decimal != "." or style.thousands:
        return lambda text: number(text, style.decimal, style.thousands)
    return lambda text: text


@lru_cache(maxsize=64)
def _grouped(decimal: str, thousands: str) -> re.Pattern[str]:
    point, comma = re.escape(decimal), re.escape(thousands)
    groups = (
        rf"[0-9]{{1,3}}(?:{comma}[0-9]{{3}})+|[0-9]{{1,2}}(?:{comma}[0-9]{{2}})+{comma}[0-9]{{3}}|"
        if thousands
        else ""
    )
    return re.compile(rf"(\s*[-+]?)({groups}[0-9]*)(?:{point}([0-9]*))?([eE][-+]?[0-9]+)?(\s*)")


def number(text: str, decimal: str, thousands: str) -> str | None:
    """Return a number with a decimal point and no separators; text without either as it is, None for others.

    Groups are of three digits, or as in India: the last of three, those before it of two.

    >>> number("1.234,5", ",", "."), number("1.5", ",", ".")
    ('1234.5', None)
    """
    found = _grouped(decimal, thousands).fullmatch(text)
    if found is None:
        return None if "." in text or decimal in text or (thousands and thousands in text) else text
    before, whole, places, exponent, after = found.groups()
    if thousands:
        whole = whole.replace(thousands, "")
    fraction = "" if places is None else f".{places}"
    return f"{before}{whole}{fraction}{exponent or ''}{after}"


def _epoch(text: str, unit: str, *, zoned: bool) -> str | None:
    found = _NUMBER.fullmatch(text)
    if found is None or len(found[2]) > 30:
        return None
    fraction = found[3] or ""
    places = UNITS[unit] + len(fraction)
    seconds, rest = divmod(int(f"{found[1]}{found[2]}{fraction}"), 10**places)
    return _spelled(seconds, f"{rest:0{places}}".rstrip("0") if places else "", zoned=zoned)


def _spelled(seconds: int, fraction: str, *, zoned: bool) -> str | None:
    """Return a moment by ISO 8601; None beyond the years 1 to 9999."""
    if not _LEAST <= seconds <= _MOST:
        return None
    moment = _EPOCH + dt.timedelta(seconds=seconds)
    behind = (f".{fraction}" if fraction else "") + ("Z" if zoned else "")
    return f"{moment.date().isoformat()} {moment:%H:%M:%S}{behind}"


def _span(text: str, places: int) -> str | None:
    """Return a span of time as a number of 10^-places seconds; text of another form as it is."""
    clock, iso = _CLOCK.fullmatch(text), _PERIOD.fullmatch(text)
    if clock is not None:
        days, sign, hours, minutes, seconds, fraction = clock.groups()
    elif iso is not None and text[-1] not in "PT":
        sign, days, hours, minutes, seconds, fraction = iso.groups()
    else:
        return text
    fraction = (fraction or "").rstrip("0")
    if len(fraction) > places:
        return None
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    units = total * 10**places + int(f"{fraction:0<{places}}" or 0)
    whole = int(days or 0) * 86400 * 10**places
    if clock is not None:
        return str(whole + (-units if sign else units))
    return str(-(whole + units) if sign else whole + units)


def _formatted(text: str, kind: pa.DataType, style: ColumnStyle) -> str | None:
    for form in style.formats:
        moment = parse_moment(text, form)
        if moment is not None:
            return _moment_text(moment, kind, style)
    return None


def _moment_text(moment: Moment, kind: pa.DataType, style: ColumnStyle) -> str | None:
    fraction = moment.fraction.rstrip("0")
    if pa.types.is_date(kind):
        return dt.date.fromordinal(moment.days + _ORDINAL).isoformat()
    if pa.types.is_time(kind):
        clock = f"{moment.seconds // 3600:02}:{moment.seconds // 60 % 60:02}:{moment.seconds % 60:02}"
        return f"{clock}.{fraction}" if fraction else clock
    zoned = kind.tz is not None
    east: int | None = moment.east
    seconds = moment.days * 86400 + moment.seconds
    if east is None and style.zone:
        east = _offset(seconds, style.zone)
        if east is None:
            return None
    elif (east is not None) != zoned:
        return None
    return _spelled(seconds - (east or 0), fraction, zoned=zoned)


def _in_utc(text: str, zone: str) -> str | None:
    """Return wall time as UTC; text with an offset as it is."""
    found = _WALL.fullmatch(text)
    if found is None:
        return text
    seconds = _wall_seconds(found)
    if seconds is None:
        return None
    east = _offset(seconds, zone)
    return None if east is None else _spelled(seconds - east, (found[7] or "").rstrip("0"), zoned=True)


def _wall_seconds(found: re.Match[str]) -> int | None:
    parts = [int(part or 0) for part in found.groups()[:6]]
    try:
        return (dt.datetime(*parts) - _EPOCH) // dt.timedelta(seconds=1)  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None


def _offset(seconds: int, zone: str) -> int | None:
    """Return the offset from UTC of a wall time, in seconds; None where it comes twice or never."""
    offsets = _offsets(seconds, zone)
    return offsets[0] if offsets[0] == offsets[1] else None


def _offsets(seconds: int, zone: str) -> tuple[int, int]:
    """Return the offsets of a wall time as the first and as the second of its kind (`fold` of Python)."""
    if not _LEAST + 86400 <= seconds <= _MOST - 86400:
        return 0, 1
    import zoneinfo  # noqa: PLC0415  (slow)

    wall = (_EPOCH + dt.timedelta(seconds=seconds)).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    first, second = (wall.replace(fold=fold).utcoffset() or dt.timedelta() for fold in (0, 1))
    return int(first.total_seconds()), int(second.total_seconds())


def wall_time_problem(text: str, style: ColumnStyle) -> str | None:
    """Return why a text is no wall time of the column's zone; None where the clock is not the reason."""
    if not style.zone:
        return None
    seconds: int | None = None
    found = _WALL.fullmatch(text)
    if style.formats:
        moments = [m for m in (parse_moment(text, form) for form in style.formats) if m is not None]
        if moments and moments[0].east is None:
            seconds = moments[0].days * 86400 + moments[0].seconds
    elif found is not None:
        seconds = _wall_seconds(found)
    if seconds is None:
        return None
    first, second = _offsets(seconds, style.zone)
    if first == second:
        return None
    if first > second:
        return f"this wall time comes twice in {style.zone}, as clocks were set back"
    return f"this wall time never was in {style.zone}, as clocks were set forward"
