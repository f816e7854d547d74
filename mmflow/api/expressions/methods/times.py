"""Methods of dates, timestamps and durations, `col("t").dt`. Those of a zone are its wall clock's."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.methods.namespace import Namespace
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.functions.spans import Span, SpanFunction

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["TimeNamespace", "of_ticks", "parsed_span", "zone_of"]

_TIMES = ("time", "zoned time")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
#: Intervals of one unit, which DataFusion truncates to.
_ONE = lazy_regex(r"1(s|m|h|d|w|mo|q|y)")
_CALENDAR = ("w", "mo", "q", "y")
_UNITS = {
    "s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "q": "quarter", "y": "year",
}  # fmt: skip


class TimeNamespace(Namespace):
    """Methods of dates, timestamps and durations."""

    __slots__ = ()

    _label = "dt"
    _families = _TIMES

    def _part(self, method: str, part: str) -> Expr:
        return self._apply(method, lambda e: F.date_part(part, e.raw))

    def year(self) -> Expr:
        """Return the year.

        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.date(1969, 12, 31)]})
        >>> ds.select(y=mf.col("t").dt.year(), w=mf.col("t").dt.weekday()).to_arrow().to_pydict()
        {'y': [1969], 'w': [3]}
        """
        return self._part("year", "year")

    def quarter(self) -> Expr:
        """Return the quarter, 1 to 4."""
        return self._part("quarter", "quarter")

    def month(self) -> Expr:
        """Return the month, 1 to 12."""
        return self._part("month", "month")

    def week(self) -> Expr:
        """Return the week of the year as ISO 8601 counts them, 1 to 53."""
        return self._part("week", "week")

    def day(self) -> Expr:
        """Return the day of the month, 1 to 31."""
        return self._part("day", "day")

    def ordinal_day(self) -> Expr:
        """Return the day of the year, 1 to 366."""
        return self._part("ordinal_day", "doy")

    def weekday(self) -> Expr:
        """Return the day of the week, 1 (Monday) to 7 (Sunday)."""
        return self._apply("weekday", _weekday)

    def hour(self) -> Expr:
        """Return the hour, 0 to 23."""
        return self._part("hour", "hour")

    def minute(self) -> Expr:
        """Return the minute, 0 to 59."""
        return self._part("minute", "minute")

    def second(self) -> Expr:
        """Return the second, 0 to 59."""
        return self._part("second", "second")

    def millisecond(self) -> Expr:
        """Return the whole milliseconds of the second, 0 to 999."""
        return self._apply("millisecond", lambda e: _fraction(e, 1_000_000))

    def microsecond(self) -> Expr:
        """Return the whole microseconds of the second, 0 to 999,999."""
        return self._apply("microsecond", lambda e: _fraction(e, 1_000))

    def nanosecond(self) -> Expr:
        """Return the nanoseconds of the second, 0 to 999,999,999."""
        return self._apply("nanosecond", lambda e: _fraction(e, 1))

    def date(self) -> Expr:
        """Return the date of the wall clock."""
        return self._apply("date", lambda e: _wall_clock(e).cast(pa.date32()))

    def truncate(self, every: str | dt.timedelta) -> Expr:
        """Return the start of the interval in which a time lies.

        Parameters
        ----------
        every
            Length of the intervals: a number and `ns`, `us`, `ms`, `s`, `m`, `h`, `d`, `w`, `mo`, `q` or `y`, or a
            timedelta. Those of days and less are counted from 1970-01-01, weeks from Monday, 1970-01-05, months,
            quarters and years from January 1970.

        Raises
        ------
        ConfigError
            There is no such interval.

        Examples
        --------
        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.datetime(2024, 5, 6, 7, 50)]})
        >>> ds.select(mf.col("t").dt.truncate("15m")).to_arrow()["t"][0].as_py().isoformat()
        '2024-05-06T07:45:00'
        """
        span = parsed_span("dt.truncate", every, "interval")
        return self._apply("truncate", lambda e: _truncated(e, span, str(every)))

    def round(self, every: str | dt.timedelta) -> Expr:
        """Return the start of an interval that is nearest to a time; of the later one, if two are equally near.

        Parameters and errors are those of `truncate`.

        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.datetime(2024, 5, 6, 7, 52, 30)]})
        >>> ds.select(mf.col("t").dt.round("15m")).to_arrow()["t"][0].as_py().isoformat()
        '2024-05-06T08:00:00'
        """
        span = parsed_span("dt.round", every, "interval")
        return self._apply("round", lambda e: _moved("round", e, span))

    def offset_by(self, by: str | dt.timedelta) -> Expr:
        """Return times moved by a span.

        Parameters
        ----------
        by
            Span such as `"1mo"`, `"-1d12h"`, or a timedelta. Months go first; a day that a month lacks becomes its
            last one. Days and more are those of the wall clock, where there is a zone.

        Raises
        ------
        ConfigError
            It is no span.

        Examples
        --------
        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"d": [dt.date(2024, 1, 31)]})
        >>> ds.select(mf.col("d").dt.offset_by("1mo")).to_arrow()["d"][0].as_py().isoformat()
        '2024-02-29'
        """
        span = parsed_span("dt.offset_by", by, "span")
        return self._apply("offset_by", lambda e: _moved("offset", e, span))

    def strftime(self, format: str) -> Expr:
        """Return text of a form such as `"%Y-%m-%d"`, as in Polars.

        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.date(1969, 12, 31)]})
        >>> ds.select(mf.col("t").dt.strftime("%d/%m/%Y")).to_arrow().to_pydict()
        {'t': ['31/12/1969']}
        """
        return self._apply("strftime", lambda e: F.to_char(e.raw, literal(format)))

    def epoch(self, time_unit: Literal["d", "s", "ms", "us", "ns"] = "us") -> Expr:
        """Return the time since 1970-01-01 in whole units, rounded down.

        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.datetime(1970, 1, 2)]})
        >>> ds.select(mf.col("t").dt.epoch("s")).to_arrow().to_pydict()
        {'t': [86400]}
        """
        if time_unit not in ("d", *_PER_SECOND):
            raise ConfigError(f"dt.epoch({time_unit!r}): must be d, s, ms, us or ns")
        return self._apply("epoch", lambda e: _epoch(e, time_unit))

    def convert_time_zone(self, zone: str) -> Expr:
        """Return the same times as another zone's clock shows them.

        Raises
        ------
        ConfigError
            There is no such zone.

        Examples
        --------
        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.datetime(2024, 7, 1, tzinfo=dt.UTC)]})
        >>> ds.select(mf.col("t").dt.convert_time_zone("Asia/Tokyo").dt.hour()).to_arrow().to_pydict()
        {'t': [9]}
        """
        _check_zone(zone)
        return self._apply(
            "convert_time_zone",
            lambda e: e.raw.cast(pa.timestamp(e.type.unit, zone)),
            families=("zoned time",),
        )

    def replace_time_zone(self, zone: str | None) -> Expr:
        """Return the times at which the clock of another zone shows the same; None is no zone.

        A wall clock that a zone skips or repeats fails the run.

        Raises
        ------
        ConfigError
            There is no such zone.
        """
        if zone is not None:
            _check_zone(zone)

        def build(operand: Resolved) -> Raw:
            if not types.is_timestamp(operand.type):
                raise PlanError(f"dt.replace_time_zone() does not take {operand.shown()}", code="MMF-PLN-004")
            clock = _wall_clock(operand)
            return clock if zone is None else clock.cast(pa.timestamp(operand.type.unit, zone))

        return self._apply("replace_time_zone", build)

    def _total(self, unit: str, nanoseconds: int) -> Expr:
        return self._apply(f"total_{unit}", lambda e: _total(e, nanoseconds), families=("duration",))

    def total_days(self) -> Expr:
        """Return the whole days of durations, without a rest."""
        return self._total("days", 86_400 * 10**9)

    def total_hours(self) -> Expr:
        """Return the whole hours of durations, without a rest."""
        return self._total("hours", 3_600 * 10**9)

    def total_minutes(self) -> Expr:
        """Return the whole minutes of durations, without a rest."""
        return self._total("minutes", 60 * 10**9)

    def total_seconds(self) -> Expr:
        """Return the whole seconds of durations, without a rest.

        >>> import mmflow as mf, datetime as dt
        >>> ds = mf.from_arrow({"t": [dt.timedelta(minutes=2, milliseconds=5)]})
        >>> ds.select(mf.col("t").dt.total_seconds()).to_arrow().to_pydict()
        {'t': [120]}
        """
        return self._total("seconds", 10**9)

    def total_milliseconds(self) -> Expr:
        """Return the whole milliseconds of durations, without a rest."""
        return self._total("milliseconds", 10**6)

    def total_microseconds(self) -> Expr:
        """Return the whole microseconds of durations, without a rest."""
        return self._total("microseconds", 10**3)

    def total_nanoseconds(self) -> Expr:
        """Return the nanoseconds of durations."""
        return self._total("nanoseconds", 1)


def _check_zone(zone: object) -> None:
    from zoneinfo import ZoneInfoNotFoundError  # noqa: PLC0415  (slow)

    try:
        from zoneinfo import ZoneInfo  # noqa: PLC0415  (slow)

        ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"there is no time zone {zone!r}") from error


def _wall_clock(operand: Resolved) -> Raw:
    zoned = types.is_timestamp(operand.type) and operand.type.tz is not None
    return F.to_local_time(operand.raw) if zoned else operand.raw


def _weekday(operand: Resolved) -> Raw:
    day = F.date_part("dow", operand.raw)
    return F.when(day == literal(0), literal(7)).otherwise(day).cast(pa.int32())


def _nanoseconds_of(unit: str) -> int:
    return 10**9 // _PER_SECOND[unit]


def _fraction(operand: Resolved, nanoseconds: int) -> Raw:
    made = F.date_part("nanosecond", operand.raw) % literal(10**9)
    return (made / literal(nanoseconds)).cast(pa.int32())


def _floored(raw: Raw, divisor: int) -> Raw:
    """Return the greatest multiple of the divisor that is not above, for int64."""
    rest = raw % literal(divisor)
    return raw - F.when(rest < literal(0), rest + literal(divisor)).otherwise(rest)


def parsed_span(what: str, given: str | dt.timedelta, kind: Literal["interval", "period", "span"]) -> Span:
    """Return a span that a user gave: one that divides time, one that is longer than nothing, or any.

    Raises:
        ConfigError: It is none.
    """
    try:
        span = Span.parse(given)
    except ValueError as error:
        raise ConfigError(
            f"{what}({given!r}): must be a number and ns, us, ms, s, m, h, d, w, mo, q or y, such as '15m'"
        ) from error
    if kind != "span" and not span.is_positive:
        raise ConfigError(f"{what}({given!r}): must be longer than 0")
    if kind == "interval" and not span.is_interval:
        raise ConfigError(f"{what}({given!r}): months, weeks and shorter units can't be mixed in an interval")
    return span


def _truncated(operand: Resolved, span: Span, every: str) -> Raw:
    kind = operand.type
    match = _ONE.fullmatch(every)
    if match is None or not (match[1] in _CALENDAR or (types.is_timestamp(kind) and kind.tz is not None)):
        return _moved("truncate", operand, span)
    if types.is_date(kind):
        return F.date_trunc(_UNITS[match[1]], operand.raw.cast(pa.timestamp("s"))).cast(kind)
    return F.date_trunc(_UNITS[match[1]], operand.raw).cast(kind)


def _moved(operation: str, operand: Resolved, span: Span) -> Raw:
    """Build times truncated, rounded or moved, by their ticks."""
    kind = operand.type
    if operation != "offset" and span.days and span.nanoseconds and (types.is_date(kind) or zone_of(kind)):
        raise PlanError(f"days and shorter units can't be mixed in an interval of {operand.shown()}")
    if types.is_date(kind):
        unit = "s" if span.nanoseconds % 10**9 == 0 else "ns"
        ticks = operand.raw.cast(pa.timestamp(unit)).cast(pa.int64())
        return of_ticks(called(SpanFunction(operation, span, unit, None))(ticks), kind, unit)
    _check_unit(span, operand)
    made = called(SpanFunction(operation, span, kind.unit, zone_of(kind)))(operand.raw.cast(pa.int64()))
    return of_ticks(made, kind)


def of_ticks(ticks: Raw, kind: pa.DataType, unit: str = "s") -> Raw:
    """Return ticks as times of a type; `unit` is that of ticks of dates."""
    if not types.is_date(kind):
        return ticks.cast(kind)
    # A cast to dates cuts off towards 1970.
    return _floored(ticks, 86_400 * _PER_SECOND[unit]).cast(pa.timestamp(unit)).cast(kind)


def _check_unit(span: Span, operand: Resolved) -> None:
    try:
        span.ticks(operand.type.unit)
    except ValueError as error:
        raise PlanError(f"the unit of {operand.shown()} is too coarse for the span: {error}") from error


def zone_of(kind: pa.DataType) -> str | None:
    """Return the zone whose clock counts for times of a type; None: that of instants."""
    return kind.tz if types.is_timestamp(kind) and kind.tz not in ("UTC", "+00:00") else None


def _epoch(operand: Resolved, unit: str) -> Raw:
    ticks = operand.raw.cast(pa.int64())
    if types.is_date32(operand.type):
        return ticks if unit == "d" else ticks * literal(86_400 * _PER_SECOND[unit])
    per_second = 1_000 if types.is_date64(operand.type) else _PER_SECOND[operand.type.unit]
    wanted = per_second * 86_400 if unit == "d" else per_second // _PER_SECOND[unit]
    if wanted:
        return _floored(ticks, wanted) / literal(wanted) if wanted > 1 else ticks
    return ticks * literal(_PER_SECOND[unit] // per_second)


def _total(operand: Resolved, nanoseconds: int) -> Raw:
    ticks, of_tick = operand.raw.cast(pa.int64()), _nanoseconds_of(operand.type.unit)
    if nanoseconds >= of_tick:
        return ticks / literal(nanoseconds // of_tick)
    return ticks * literal(of_tick // nanoseconds)
