"""Clocks of time zones: what they show at instants, and the instants at which they show something.

pyarrow 26 knows no summer time after 2037. zoneinfo does; it is asked for the days of a batch, not for each row.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.plan.errors import build_refusal

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ["clock_of", "instants_of"]

_I64 = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_DAY = 86_400
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def clock_of(ticks: _I64, zone: str, per_second: int) -> _I64:
    """Return what the clock of a zone shows at instants, in ticks, of which a second has `per_second`."""
    return ticks + _offsets(ticks, zone, per_second)


def instants_of(
    clock: _I64, zone: str, per_second: int, *, later: _Flags, gap: Literal["before", "behind"]
) -> _I64:
    """Return the instants at which the clock of a zone shows something.

    Args:
        clock: Ticks that it shows.
        zone: Name of the zone.
        per_second: Ticks of a second.
        later: Whether the later one counts of two instants at which it shows the same.
        gap: Clock that counts, that before the gap or that behind it, for what the zone's clock never shows.
    """
    day = _DAY * per_second
    one, two = _offsets(clock - day, zone, per_second), _offsets(clock + day, zone, per_second)
    changed = np.flatnonzero(one != two)
    made = clock - one
    if not len(changed):
        return made
    first, last = clock[changed] - one[changed], clock[changed] - two[changed]
    shown = [clock_of(ticks, zone, per_second) == clock[changed] for ticks in (first, last)]
    both = shown[0] & shown[1]
    picked = np.where(shown[1], last, first)
    picked = np.where(
        both, np.where(later[changed], np.maximum(first, last), np.minimum(first, last)), picked
    )
    never = ~shown[0] & ~shown[1]
    made[changed] = np.where(never, first if gap == "before" else last, picked)
    return made


def _offsets(ticks: _I64, zone: str, per_second: int) -> _I64:
    """Return how far the clock of a zone is before UTC at instants, in ticks."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  (slow)

    info = ZoneInfo(zone)
    days, place = np.unique(ticks // (_DAY * per_second), return_inverse=True)
    begins = [_offset(info, int(day) * _DAY) for day in days]
    ends = [_offset(info, (int(day) + 1) * _DAY) for day in days]
    offsets = np.array(begins, np.int64)[place]
    changing = np.flatnonzero((np.array(begins, np.int64) != np.array(ends, np.int64))[place])
    if len(changing):
        seconds, rows = np.unique(ticks[changing] // per_second, return_inverse=True)
        offsets[changing] = np.array([_offset(info, int(s)) for s in seconds], np.int64)[rows]
    return offsets * per_second


def _offset(zone: ZoneInfo, seconds: int) -> int:
    try:
        offset = (_EPOCH + dt.timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    except OverflowError:
        raise build_refusal(f"the clock of {zone.key} is known for the years 1 to 9999 only") from None
    assert offset is not None
    return round(offset.total_seconds())
