"""Formats of dates and times in the syntax of strptime, as small tables of steps.

    "%d/%m/%Y" -> steps (d)(')/(m)(')/(Y) -> Moment(days, seconds, fraction, east), by this module or by the kernel

The steps are those of Python's `datetime.strptime` with three differences: a number that another number follows at once
has all its digits (`%d%m%Y` reads 31122024), `%f` takes up to nine digits, and `%s` counts seconds since 1970. Letters
of names (`%a %A %b %B %p %Z`) may be of either case; names are English. A weekday is read, but not compared with the
date, as in Python. Formats with other directives (`%G`, `%U`, …) are left to Python, so the kernels don't know them.

Invariant: a text is a moment of the calendar, or no value; 31 February is never another day.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import Any

from mmflow.errors import ConfigError
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["Moment", "TimeFormat", "days_of", "parse_moment", "time_format"]

_SHORTHANDS = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y", "%h": "%b"}
_DATE, _TIME = set("YymdbBj"), set("HIpMSf")
_KNOWN = _DATE | _TIME | set("zZsaA")
_NUMBERS = set("YymdHIMSfjs")
#: Most digits of numbers; those of `%Y` and `%y` always have all of them.
_DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3, "f": 9, "s": 18}
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BLANKS = " \t\n\v\f\r"
_DIRECTIVE = lazy_regex(r"%-?.", re.DOTALL)
_SPLIT = lazy_regex(r"%-?.|[^%]", re.DOTALL)
_ZONE = lazy_regex(r"[zZ]|([-+])([0-9]{2})(?::?([0-9]{2}))?")
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """Format, compiled.

    Attributes:
        text: The format.
        steps: Pairs of an operation and its argument: a directive's letter, and `2` where all its digits must stand;
            `'` and a character; a blank, for one or more of them. None: only `datetime.strptime` knows the format.
        dated: It gives a date.
        timed: It gives a time of day.
        zoned: It gives an offset from UTC.
    """

    text: str
    steps: tuple[tuple[str, str], ...] | None
    dated: bool
    timed: bool
    zoned: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """Date and time that a text gives.

    Attributes:
        days: Days since 1970.
        seconds: Seconds since midnight.
        fraction: Digits behind the second.
        east: Offset from UTC, in seconds; None where the text has none.
    """

    days: int
    seconds: int
    fraction: str
    east: int | None


#: More than the 272 formats that advice on a timestamp goes through in turn: a smaller cache would never have the next.
@lru_cache(maxsize=512)
def time_format(text: str) -> TimeFormat:
    """Compile a format.

    Raises:
        ConfigError: It has an unknown directive, or gives neither a date nor a time.
    """
    text = _DIRECTIVE.sub(lambda found: _SHORTHANDS.get(found[0], found[0]), text)
    parts = _SPLIT.findall(text)
    if "".join(parts) != text:
        raise ConfigError(f"format {text!r} ends with a lone %; write %% for the character itself")
    letters = [p[-1] for p in parts if len(p) > 1 and p != "%%"]
    others = [letter for letter in letters if letter not in _KNOWN]
    if others:
        return _of_python(text, others)
    used = set(letters) - set("aA")
    doubled = next((letter for letter in letters if letters.count(letter) > 1), None)
    if doubled is not None:
        raise ConfigError(f"format {text!r}: %{doubled} stands twice")
    _check(text, used)
    dated = bool(used & _DATE) or "s" in used
    return TimeFormat(text, _steps(parts), dated, bool(used & _TIME) or "s" in used, bool(used & set("zZs")))


def _check(text: str, used: set[str]) -> None:
    problem = None
    day = "j" in used or ("d" in used and used & set("mbB"))
    if not used:
        problem = "it has no directive; an example is '%d.%m.%Y'"
    elif "s" in used:
        if used - set("sf"):
            problem = "%s is a whole moment, so only %f goes with it"
    elif used & _DATE and not (day and used & set("Yy")):
        problem = "a date needs a year (%Y or %y), a month (%m, %b or %B) and a day (%d), or a year and %j"
    elif not used & _DATE and used & set("zZ"):
        problem = "an offset from UTC needs a date"
    elif used & _TIME and not used & set("HI"):
        problem = "a time needs an hour (%H, or %I with %p)"
    elif ("I" in used) != ("p" in used):
        problem = "%I and %p go together; hours from 0 to 23 are %H"
    elif {"H", "I"} <= used or {"Y", "y"} <= used or len(used & set("mbB")) > 1 or {"j", "d"} <= used:
        problem = "it gives the same part twice"
    elif ("S" in used and "M" not in used) or ("f" in used and "S" not in used):
        problem = "%S needs %M, and %f needs %S"
    if problem is not None:
        raise ConfigError(f"format {text!r}: {problem}")


def _of_python(text: str, others: list[str]) -> TimeFormat:
    """Return a format that only Python knows.

    Raises:
        ConfigError: Python doesn't know it either.
    """
    try:
        dt.datetime.strptime("", text)  # noqa: DTZ007  (only whether it is a format)
    except ValueError as error:
        if "does not match" not in str(error):
            raise ConfigError(
                f"format {text!r} has the unknown directive %{others[0]}; "
                "directives are %Y %y %m %d %b %B %j %a %A %H %I %p %M %S %f %z %Z %s %%"
            ) from error
    timed = bool(_TIME & set(re.findall(r"%(.)", text))) or bool({"c", "X"} & set(others))
    return TimeFormat(text, None, True, timed, "%z" in text or "%Z" in text)


def _steps(parts: list[str]) -> tuple[tuple[str, str], ...]:
    made: list[tuple[str, str]] = []
    for place, part in enumerate(parts):
        if part == "%%" or len(part) == 1:
            literal = part[-1]
            if literal not in _BLANKS:
                made.append(("'", literal))
            elif not made or made[-1][0] != " ":
                made.append((" ", ""))
            continue
        letter = part[-1]
        after = parts[place + 1] if place + 1 < len(parts) else ""
        follows = (len(after) > 1 and after[-1] in _NUMBERS and after != "%%") or after.isdigit()
        made.append((letter, "2" if follows and letter not in "fs" else ""))
    return tuple(made)


def days_of(year: int, month: int, day: int) -> int | None:
    """Return the days since 1970 of a date; None where the calendar lacks it."""
    try:
        return dt.date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None


def parse_moment(text: str, form: TimeFormat) -> Moment | None:
    """Return the moment that a text gives in a format; None where it is not in that format.

    >>> parse_moment("31/12/2024", time_format("%d/%m/%Y"))
    Moment(days=20088, seconds=0, fraction='', east=None)
    """
    if form.steps is None:
        return _parse_by_python(text, form.text)
    at = 0
    found: dict[str, Any] = {}
    for operation, argument in form.steps:
        if operation == "'":
            if not text.startswith(argument, at):
                return None
            at += 1
        elif operation == " ":
            end = at
            while end < len(text) and text[end] in _BLANKS:
                end += 1
            if end == at:
                return None
            at = end
        else:
            end = _parse_part(text, at, operation, argument, found)
            if end < 0:
                return None
            at = end
    return _moment(found) if at == len(text) else None


def _parse_part(text: str, at: int, operation: str, argument: str, found: dict[str, Any]) -> int:
    """Read what one directive stands for; return the offset behind it, or -1."""
    if operation in _NUMBERS:
        negative = operation == "s" and text.startswith("-", at)
        begin = at + negative
        most = _DIGITS[operation]
        end = begin
        while end < len(text) and end - begin < most and "0" <= text[end] <= "9":
            end += 1
        fixed = argument == "2" or operation in "Yy"
        if end == begin or (fixed and end - begin < most):
            return -1
        digits = text[begin:end]
        found[operation] = digits if operation == "f" else -int(digits) if negative else int(digits)
        return end
    if operation == "p":
        half = text[at : at + 2].lower()
        if half not in ("am", "pm"):
            return -1
        found["p"] = half
        return at + 2
    if operation in "aAbB":
        for number, name in enumerate(_WEEKDAYS if operation in "aA" else _MONTHS, 1):
            name = name[:3] if operation in "ab" else name
            if text[at : at + len(name)].lower() == name:
                if operation in "bB":
                    found["m"] = number
                return at + len(name)
        return -1
    if operation == "Z":
        for name in ("utc", "gmt", "z"):
            if text[at : at + len(name)].lower() == name:
                found["z"] = 0
                return at + len(name)
        return -1
    zone = _ZONE.match(text, at)
    if zone is None:
        return -1
    hours, minutes = int(zone[2] or 0), int(zone[3] or 0)
    if hours > 23 or minutes > 59:
        return -1
    found["z"] = (-1 if zone[1] == "-" else 1) * (hours * 3600 + minutes * 60)
    return zone.end()


def _moment(found: dict[str, Any]) -> Moment | None:
    if "s" in found:
        days, seconds = divmod(found["s"], 86400)
        return Moment(days, seconds, found.get("f", ""), 0)
    hour, minute, second = found.get("H", 0), found.get("M", 0), found.get("S", 0)
    if "I" in found:
        if not 1 <= found["I"] <= 12:
            return None
        hour = found["I"] % 12 + (12 if found["p"] == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    days = 0
    if "Y" in found or "y" in found:
        year = found["Y"] if "Y" in found else found["y"] + (2000 if found["y"] < 69 else 1900)
        first = days_of(year, 1, 1)
        if "j" in found:
            leap = days_of(year, 2, 29) is not None
            if first is None or not 1 <= found["j"] <= 365 + leap:
                return None
            days = first + found["j"] - 1
        else:
            day = days_of(year, found["m"], found["d"])
            if day is None:
                return None
            days = day
    return Moment(days, hour * 3600 + minute * 60 + second, found.get("f", ""), found.get("z"))


def _parse_by_python(text: str, form: str) -> Moment | None:
    try:
        value = dt.datetime.strptime(text, form)  # noqa: DTZ007  (the format says whether it has a zone)
    except ValueError:
        return None
    offset = value.utcoffset()
    days = value.toordinal() - _EPOCH
    fraction = f"{value.microsecond:06}".rstrip("0")
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    east = None if offset is None else int(offset.total_seconds())
    if east is None and "%Z" in form:
        east = 0  # UTC and GMT are the names that it knows
    return Moment(days, seconds, fraction, east)
