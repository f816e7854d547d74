"""Windows of time that may overlap or leave gaps: for each row the starts of those in which it lies.

    t       every 1h, period 2h       t is in [09:00, 11:00) and in [10:00, 12:00)
    10:30   [09:00, 10:00]            a row for each of them, by `explode`, then groups

Windows that no row of a group lies in front of count from its first row on, as in Polars (`Windows.first`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.types as types

from mmflow.api.expressions.comparing import family
from mmflow.api.expressions.expr import Expr, col
from mmflow.api.expressions.methods.times import of_ticks, parsed_span, zone_of
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.plan.functions.spans import FirstStart, Span, Windows, WindowStarts

__all__ = ["ClosedInterval", "Label", "StartBy", "first_start", "starts", "starts_as", "windows"]

ClosedInterval: TypeAlias = Literal["left", "right", "both", "none"]
Label: TypeAlias = Literal["left", "right", "datapoint"]
StartBy: TypeAlias = Literal[
    "window", "datapoint", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
]
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OPERATION = "group_by_dynamic"


def windows(
    every: str | dt.timedelta,
    period: str | dt.timedelta | None,
    offset: str | dt.timedelta | None,
    closed: ClosedInterval,
    label: Label,
    start_by: StartBy,
) -> Windows:
    """Return the windows of the arguments of `group_by_dynamic`.

    Raises:
        ConfigError: They mean nothing.
    """
    for name, value, known in (
        ("closed", closed, ("left", "right", "both", "none")),
        ("label", label, ("left", "right", "datapoint")),
        ("start_by", start_by, ("window", "datapoint", *_WEEKDAYS)),
    ):
        if value not in known:
            raise ConfigError(f"{_OPERATION}({name}={value!r}): must be one of {', '.join(known)}")
    step = parsed_span(f"{_OPERATION} every=", every, "interval")
    length = step if period is None else parsed_span(f"{_OPERATION} period=", period, "period")
    moved = Span() if offset is None else parsed_span(f"{_OPERATION} offset=", offset, "span")
    return Windows(step, length, moved, closed, start_by)


def starts(made: Windows, index: Expr, first: Expr) -> Expr:
    """Return the starts of the windows of each row, as a list of ticks; `first` is the first time of its group."""
    return index._apply(_OPERATION, _called(made, WindowStarts), first)


def first_start(made: Windows, first: Expr) -> Expr:
    """Return the start of the first window of a group, in ticks, by its first time."""
    return first._apply(_OPERATION, _called(made, FirstStart))


def starts_as(ticks: str, kind: pa.DataType) -> Expr:
    """Return a column of starts as times of a type."""
    return col(ticks)._apply(_OPERATION, lambda e: of_ticks(e.raw, kind))


def _called(made: Windows, function: type[WindowStarts | FirstStart]) -> Callable[..., Raw]:
    def build(*operands: Resolved) -> Raw:
        operand = operands[0]
        kind = operand.type
        if family(kind) not in ("time", "zoned time"):
            raise PlanError(f"{_OPERATION}() takes dates and timestamps, but not {operand.shown()}")
        unit = "s" if types.is_date(kind) else str(kind.unit)
        spans = (made.every, made.period, made.offset)
        try:
            for span in spans:
                span.ticks(unit)
        except ValueError as error:
            raise PlanError(f"{_OPERATION}(): windows are too fine for {operand.shown()}: {error}") from error
        zone = zone_of(kind)
        if zone is not None and not all(span.is_calendar for span in spans):
            raise PlanError(
                f"{_OPERATION}(): hours and less, in windows that overlap, leave gaps or are moved, are not those of "
                f"the clock of {zone}, which repeats and skips some: dt.convert_time_zone('UTC') before"
            )
        times = [o.raw.cast(pa.timestamp("s")) if types.is_date(kind) else o.raw for o in operands]
        call: Any = called(function(made, unit, zone))
        raw: Raw = call(*(t.cast(pa.int64()) for t in times))
        return raw

    return build
