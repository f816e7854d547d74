"""Styles of columns as the CSV kernel gets them: texts as bytes, formats as steps, time zones as tables of offsets."""

from __future__ import annotations

import datetime as dt
import struct
from functools import lru_cache
from typing import Any

import numpy as np

from mmflow.formats.csv.strptime import TimeFormat
from mmflow.formats.csv.styles import UNITS, ColumnStyle

__all__ = ["kernel_style", "wall_clock"]

_NONE = -(1 << 63)  # WallClock::kNone
_UTC_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Years of which the tables hold the offsets; wall times of others are left to the reference.
_YEARS = (1900, 2100)


def kernel_style(style: ColumnStyle) -> tuple[Any, ...] | None:
    """Return a style as the kernel knows it (`Style` in `common/styles.h`); None where it doesn't."""
    if any(form.steps is None for form in style.formats):
        return None
    return (
        None if style.nulls is None else tuple(text.encode() for text in style.nulls),
        ord(style.decimal),
        style.thousands.encode(),
        tuple(text.encode() for text in style.true_values),
        tuple(text.encode() for text in style.false_values),
        tuple((_steps(form), _date_layout(form)) for form in style.formats),
        wall_clock(style.zone) if style.zone else None,
        UNITS[style.epoch] if style.epoch else -1,
    )


def _steps(form: TimeFormat) -> bytes:
    made = bytearray()
    for operation, argument in form.steps or ():
        if operation == "'":
            for byte in argument.encode():
                made += bytes((ord("'"), byte))
        else:
            made += bytes((ord(operation), ord(argument or "\0")))
    return bytes(made)


def _date_layout(form: TimeFormat) -> bytes:
    """Return `DateLayout` of numbers of day, month and year with at most two bytes beside them; empty for others."""
    at, places, marks = 0, {}, []
    for operation, argument in form.steps or ():
        if operation in ("d", "m", "Y"):
            places[operation] = at
            at += 4 if operation == "Y" else 2
        elif operation in ("'", " ") and len((argument or " ").encode()) == 1:
            marks.append((at, ord(argument or " ")))
            at += 1
        else:
            return b""
    if set(places) != {"d", "m", "Y"} or len(marks) > 2:
        return b""
    (first, one), (second, two) = (*marks, (0, 0), (0, 0))[:2]
    return struct.pack("8B", at, places["d"], places["m"], places["Y"], first, second, one, two)


@lru_cache(maxsize=32)
def wall_clock(zone: str) -> tuple[bytes, bytes]:
    """Return the offsets from UTC of a zone by wall time: where each begins, and what it is, in seconds, as int64.

    Wall times that come twice or never have no offset, nor have those of other years than `_YEARS`.
    """
    import zoneinfo  # noqa: PLC0415  (slow)

    place = zoneinfo.ZoneInfo(zone)
    begin, end = (
        int((dt.datetime(year, 1, 1, tzinfo=dt.UTC) - _UTC_EPOCH).total_seconds()) for year in _YEARS
    )

    def offset(second: int) -> int:
        local = (_UTC_EPOCH + dt.timedelta(seconds=second)).astimezone(place)
        east = local.utcoffset()
        assert east is not None
        return int(east.total_seconds())

    starts, offsets = [begin + 86400], [offset(begin)]
    before = offsets[0]
    for low in range(begin, end, 86400):
        high = low + 86400
        after = offset(high)
        if after == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == before else (low, middle)
        starts += [high + min(before, after), high + max(before, after)]
        offsets += [_NONE, after]
        before = after
    starts.append(end - 86400)
    offsets.append(_NONE)
    return np.array(starts, np.int64).tobytes(), np.array(offsets, np.int64).tobytes()
