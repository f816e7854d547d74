"""Spans of time such as `2w`, `3mo` or `-1d12h`, and moments moved, truncated and rounded by them.

Moments are integers: ticks of a unit since 1970-01-01 of a wall clock. Months, quarters and years are counted from
1970-01, weeks from the Monday 1970-01-05, shorter spans from 1970-01-01.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.functions.base import PlanFunction
from mmflow.plan.functions.clocks import clock_of, instants_of
from mmflow.plan.functions.lists import list_array, type_digest

__all__ = ["FirstStart", "Span", "SpanFunction", "WindowStarts", "Windows"]

_I64 = npt.NDArray[np.int64]
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_DAY = 86_400 * 10**9
_PART = lazy_regex(r"([0-9]+)(ns|us|ms|s|mo|m|h|d|w|q|y)")
_MONDAY = 4  # 1970-01-05, in days
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class Span:
    """Span of time: months, weeks, days and nanoseconds, added in this order. All of them may be negative."""

    months: int = 0
    weeks: int = 0
    days: int = 0
    nanoseconds: int = 0

    @classmethod
    def parse(cls, given: str | dt.timedelta) -> Span:
        """Return the span of a text such as `1mo2d`, `-90m`, or of a timedelta.

        Raises:
            ValueError: It is none.

        >>> Span.parse("1y2w"), Span.parse("-1d12h")
        (Span(months=12, weeks=2, days=0, nanoseconds=0), Span(months=0, weeks=0, days=-1, nanoseconds=-43200000000000))
        """
        if isinstance(given, dt.timedelta):
            rest = given - dt.timedelta(days=given.days)
            return cls(0, 0, given.days, rest // dt.timedelta(microseconds=1) * 1000)
        text = given.removeprefix("-") if isinstance(given, str) else ""
        parts = _PART.findall(text)
        if not parts or "".join(map("".join, parts)) != text:
            raise ValueError(f"{given!r} is no span of time")
        sign = -1 if given.startswith("-") else 1
        totals = {"mo": 0, "w": 0, "d": 0, "ns": 0}
        for digits, unit in parts:
            count = sign * int(digits)
            if unit in _MONTHS:
                totals["mo"] += count * _MONTHS[unit]
            elif unit in ("w", "d"):
                totals[unit] += count
            else:
                totals["ns"] += count * _NANOSECONDS[unit]
        return cls(totals["mo"], totals["w"], totals["d"], totals["ns"])

    @property
    def is_positive(self) -> bool:
        """True if it is longer than nothing, and has no negative part."""
        return min(self._all) >= 0 and max(self._all) > 0

    @property
    def is_interval(self) -> bool:
        """True if it divides time into intervals: it is of months, of weeks, or of days and less."""
        shorter = bool(self.days or self.nanoseconds)
        return self.is_positive and (self.months > 0) + (self.weeks > 0) + shorter == 1

    @property
    def is_calendar(self) -> bool:
        """True if it is of whole days, which a wall clock counts."""
        return not self.nanoseconds

    @property
    def _all(self) -> tuple[int, int, int, int]:
        return self.months, self.weeks, self.days, self.nanoseconds

    def __neg__(self) -> Span:
        return Span(*(-part for part in self._all))

    @property
    def least(self) -> int:
        """Least number of nanoseconds that it may be."""
        return self.months * 28 * _DAY + self._constant

    @property
    def most(self) -> int:
        """Greatest number of nanoseconds that it may be."""
        return self.months * 31 * _DAY + self._constant

    @property
    def _constant(self) -> int:
        return (7 * self.weeks + self.days) * _DAY + self.nanoseconds

    def ticks(self, unit: str) -> int:
        """Return its length without months in ticks of a unit.

        Raises:
            ValueError: The unit is too coarse for it.
        """
        made, rest = divmod(self._constant, _NANOSECONDS[unit])
        if rest:
            raise ValueError(f"a column in {unit} has no such fractions")
        return made

    def added(self, moments: _I64, unit: str, times: _I64 | int = 1) -> _I64:
        """Return moments moved by a number of spans; a day that a month lacks becomes its last one."""
        if self.months:
            moments = _with_months(moments, self.months * times, unit)
        return moments + self.ticks(unit) * times

    def index(self, moments: _I64, unit: str) -> _I64:
        """Return the number of the interval in which each moment lies."""
        if self.months:
            return _month_of(moments, unit) // self.months
        return (moments - self._origin(unit)) // self.ticks(unit)

    def start(self, index: _I64, unit: str) -> _I64:
        """Return the first moments of intervals."""
        if self.months:
            return _of_month(index * self.months, unit)
        return index * self.ticks(unit) + self._origin(unit)

    def _origin(self, unit: str) -> int:
        return Span(days=_MONDAY).ticks(unit) if self.weeks else 0

    def truncated(self, moments: _I64, unit: str) -> _I64:
        """Return the first moments of the intervals in which moments lie."""
        return self.start(self.index(moments, unit), unit)

    def rounded(self, moments: _I64, unit: str) -> _I64:
        """Return the nearest first moments of intervals; the later one of two that are equally near."""
        index = self.index(moments, unit)
        below, above = self.start(index, unit), self.start(index + 1, unit)
        return np.where(moments - below < above - moments, below, above)


def _moments(ticks: _I64, unit: str) -> npt.NDArray[np.datetime64]:
    return ticks.view(f"M8[{unit}]")


def _month_of(ticks: _I64, unit: str) -> _I64:
    """Return the number of months from 1970-01 to moments."""
    months: _I64 = _moments(ticks, unit).astype("M8[M]").astype(np.int64)
    return months


def _of_month(months: _I64, unit: str) -> _I64:
    ticks: _I64 = months.astype("M8[M]").astype(f"M8[{unit}]").astype(np.int64)
    return ticks


def _with_months(ticks: _I64, count: Any, unit: str) -> _I64:
    month = _month_of(ticks, unit)
    within = ticks - _of_month(month, unit)
    day = Span(days=1).ticks(unit)
    begin, end = _of_month(month + count, unit), _of_month(month + count + 1, unit)
    last = (end - begin) // day - 1
    made: _I64 = begin + np.minimum(within // day, last) * day + within % day
    return made


class SpanFunction(PlanFunction):
    """Scalar function that truncates, rounds or moves ticks: `truncate`, `round` or `offset`.

    Args:
        operation: Name of the operation.
        span: Span of it.
        unit: Unit of the ticks, which are those of instants.
        zone: Zone whose wall clock counts. None: there is none.
    """

    def __init__(self, operation: str, span: Span, unit: str, zone: str | None) -> None:
        second = Span(nanoseconds=10**9).ticks(unit)

        def moved(moments: _I64, by: Span) -> _I64:
            match operation:
                case "truncate":
                    return by.truncated(moments, unit)
                case "round":
                    return by.rounded(moments, unit)
                case _:
                    return by.added(moments, unit)

        def call(array: pa.Array) -> pa.Array:
            missing = null_places(array)
            ticks = np.where(missing, 0, numpy_values(array))
            if zone is None:
                made = moved(ticks, span)
            elif operation == "offset":
                # Hours are those of time itself, days those of the clock.
                whole = Span(span.months, span.weeks, span.days)
                made = ticks if whole == Span() else on_clock(ticks, whole)
                made = moved(made, Span(nanoseconds=span.nanoseconds))
            else:
                made = on_clock(ticks, span)
            return pa.array(made, pa.int64(), mask=missing)

        def on_clock(ticks: _I64, by: Span) -> _I64:
            assert zone is not None
            clock = clock_of(ticks, zone, second)
            first = instants_of(clock, zone, second, later=np.zeros(len(clock), np.bool_), gap="before")
            # What lies in the later of two equal hours stays in it.
            gap: Literal["before", "behind"] = "behind" if operation == "offset" else "before"
            return instants_of(moved(clock, by), zone, second, later=first != ticks, gap=gap)

        name = f"mmflow_span_{operation}_{type_digest(span, unit, zone)}"
        super().__init__(name, call, [pa.int64()], pa.int64(), (operation, span, unit, zone))


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of time, which may overlap or leave gaps.

    Attributes:
        every: Time from the start of a window to that of the next one.
        period: Length of a window.
        offset: Time by which all windows are moved.
        closed: Ends that belong to a window: left, right, both or none.
        start_by: `window` (the windows are the intervals of `every`, moved), `datapoint` or a weekday: the first one
            starts at the first moment of the group, or at the weekday of its week, and is moved back until it does not
            start behind that moment.
    """

    every: Span
    period: Span
    offset: Span
    closed: Literal["left", "right", "both", "none"]
    start_by: str

    @property
    def is_truncation(self) -> bool:
        """True if each moment lies in one window, whose start is that of its interval."""
        return self.is_separate and self.period == self.every and self.offset == Span()

    @property
    def is_separate(self) -> bool:
        """True if no moment lies in two windows that start by `window`, and none before the first one's."""
        separate = self.period == self.every or self.period.most <= self.every.least
        return separate and self.start_by == "window" and self.closed == "left"

    def first(self, moments: _I64, unit: str) -> _I64:
        """Return the start of the first window of a group, of whose first moment."""
        if self.start_by == "datapoint":
            return moments
        if self.start_by == "window":
            number = self.every.index((-self.offset).added(moments, unit), unit) + 1
            while (late := self._is_late(self._start(number, unit), moments)).any():
                number = number - late
            return self._start(np.minimum(number, self.every.index(moments, unit)), unit)
        day = Span(days=1).ticks(unit)
        week = moments - (moments - _MONDAY * day) % (7 * day)
        start = self.offset.added(week + _WEEKDAYS.index(self.start_by) * day, unit)
        if not self.every.months:
            step = self.every.ticks(unit)
            behind = start - moments + (0 if self.closed in ("left", "both") else 1)
            moved: _I64 = start - np.maximum(0, -(-behind // step)) * step
            return moved
        while (late := self._is_late(start, moments)).any():
            start = np.where(late, (-self.every).added(start, unit), start)
        return start

    def _is_late(self, starts: _I64, moments: _I64) -> npt.NDArray[np.bool_]:
        return starts > moments if self.closed in ("left", "both") else starts >= moments

    def _start(self, number: _I64, unit: str) -> _I64:
        return self.offset.added(self.every.start(number, unit), unit)

    def near(self, moments: _I64, firsts: _I64, unit: str) -> tuple[_I64, npt.NDArray[np.bool_]]:
        """Return starts of windows near each moment, shape (moments, windows), and whether it lies in them.

        Args:
            moments: Moments.
            firsts: First moments of their groups. They count only where windows do not start by `window`.
            unit: Unit of both.
        """
        of_all = self.start_by == "window"
        base = firsts if of_all else self.first(firsts, unit)
        if of_all:
            last = self.every.index((-self.offset).added(moments, unit), unit) + 1
        elif self.every.months:
            last = (_month_of(moments, unit) - _month_of(base, unit)) // self.every.months + 1
        else:
            last = (moments - base) // self.every.ticks(unit) + 1
        columns, flags = [], []
        for back in range(-(-self.period.most // self.every.least) + 2, -1, -1):
            number = last - back
            start = self._start(number, unit) if of_all else self.every.added(base, unit, number)
            end = self.period.added(start, unit)
            after = moments >= start if self.closed in ("left", "both") else moments > start
            before = moments <= end if self.closed in ("right", "both") else moments < end
            columns.append(start)
            flags.append(after & before & (of_all | (number >= 0)))
        return np.stack(columns, axis=1), np.stack(flags, axis=1)


class WindowStarts(PlanFunction):
    """Scalar function that returns the starts of the windows in which a moment lies, as a list of ticks.

    Its second argument is the first moment of the group.

    Args:
        windows: The windows.
        unit: Unit of the ticks, which are those of instants.
        zone: Zone whose wall clock counts. None: there is none.
    """

    def __init__(self, windows: Windows, unit: str, zone: str | None) -> None:
        def call(array: pa.Array, firsts: pa.Array) -> pa.Array:
            missing = null_places(array)
            ticks, first = (_shown(a, missing, unit, zone) for a in (array, firsts))
            starts, inside = windows.near(ticks, first, unit)
            inside &= ~missing[:, None]
            chosen = _instants(starts[inside], unit, zone)
            return list_array(pa.list_(pa.int64()), pa.array(chosen), inside.sum(axis=1), missing)

        name = f"mmflow_windows_{type_digest(windows, unit, zone)}"
        super().__init__(name, call, [pa.int64()] * 2, pa.list_(pa.int64()), (windows, unit, zone))


class FirstStart(PlanFunction):
    """Scalar function that returns the start of the first window of a group, of whose first moment, in ticks.

    Arguments are those of `WindowStarts`.
    """

    def __init__(self, windows: Windows, unit: str, zone: str | None) -> None:
        def call(array: pa.Array) -> pa.Array:
            missing = null_places(array)
            starts = windows.first(_shown(array, missing, unit, zone), unit)
            return pa.array(_instants(starts, unit, zone), pa.int64(), mask=missing)

        name = f"mmflow_first_{type_digest(windows, unit, zone)}"
        super().__init__(name, call, [pa.int64()], pa.int64(), (windows, unit, zone))


def _shown(array: pa.Array, missing: npt.NDArray[np.bool_], unit: str, zone: str | None) -> _I64:
    ticks = np.where(missing, 0, numpy_values(array))
    return ticks if zone is None else clock_of(ticks, zone, Span(nanoseconds=10**9).ticks(unit))


def _instants(clock: _I64, unit: str, zone: str | None) -> _I64:
    if zone is None:
        return clock
    earlier = np.zeros(len(clock), np.bool_)
    return instants_of(clock, zone, Span(nanoseconds=10**9).ticks(unit), later=earlier, gap="before")
