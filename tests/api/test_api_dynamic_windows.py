"""Windows of time are those of Polars: overlapping ones, those with gaps, moved ones, and those of a group's first row."""

from __future__ import annotations

import itertools
import random
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf

_DAY = 86_400 * 10**6
_NEW_YORK = pa.timestamp("us", "America/New_York")
_US = pa.timestamp("us")
#: Type of the times, their range in its units, every, period and offset.
CASES: list[tuple[pa.DataType, int, str, str | None, str | None]] = [
    (_US, 5 * _DAY, "1d", None, None),
    (_US, 5 * _DAY, "1d", "3d", None),
    (_US, 5 * _DAY, "1d", "6h", None),
    (_US, 5 * _DAY, "12h", "1d", "3h"),
    (_US, 5 * _DAY, "1d", None, "-5h"),
    (_US, 90 * _DAY, "1w", "10d", None),
    (_US, 300 * _DAY, "1mo", "2mo", None),
    (_US, 300 * _DAY, "2mo", "1mo", "10d"),
    (_US, 300 * _DAY, "1q", "1q", "1mo"),
    (pa.timestamp("ms", "UTC"), 10**8, "1h", "90m", None),
    (pa.date32(), 60, "1w", "1w", "2d"),
    (_NEW_YORK, 60 * _DAY, "1d", "3d", None),
    (_NEW_YORK, 300 * _DAY, "1mo", None, "3d"),
]
_CLOSED, _LABELS = ("left", "right", "both", "none"), ("left", "right", "datapoint")
_STARTS = ("window", "datapoint", "monday", "thursday")


def _rows(groups: Any) -> list[tuple[Any, ...]]:
    table = groups.to_arrow()
    columns = table.to_pydict().values()
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize(("kind", "reach", "every", "period", "offset"), CASES)
def test_windows_are_those_of_polars(
    kind: pa.DataType, reach: int, every: str, period: str | None, offset: str | None
) -> None:
    made = random.Random(every + str(period))
    times = sorted(made.randint(-reach, reach) for _ in range(40))
    # Some lie on the ends of windows.
    times[5:7] = [0, 0] if times[5] < 0 < times[7] else times[5:7]
    table = pa.table({"t": pa.array(times, kind), "k": [made.choice("xy") for _ in times], "v": [*range(40)]})
    ds, df = mf.Session(partitions=2).from_arrow(table).repartition(2), pl.from_arrow(table)
    assert isinstance(df, pl.DataFrame)
    # Each of the four with each other, in four runs.
    for number, (closed, start_by) in enumerate(zip(_CLOSED, made.sample(_STARTS, 4), strict=True)):
        keys = ["k"] if number % 2 else []
        options: dict[str, Any] = {
            "every": every, "period": period, "offset": offset, "closed": closed,
            "label": _LABELS[(number + len(every)) % 3], "start_by": start_by,
        }  # fmt: skip
        wanted = df.group_by_dynamic("t", group_by=keys or None, **options).agg(
            n=pl.len(), s=pl.col("v").sum()
        )
        got = ds.group_by_dynamic("t", group_by=keys, **options).agg(n=mf.len(), s=mf.col("v").sum())
        assert _rows(got) == _rows(wanted.select(*keys, "t", "n", "s")), options


def test_rows_on_the_ends_of_windows() -> None:
    table = pa.table({"t": pa.array([0, 3600, 5400, 7200], pa.timestamp("s")), "v": [1, 2, 4, 8]})
    df = pl.from_arrow(table)
    assert isinstance(df, pl.DataFrame)
    for closed, period, start_by in itertools.product(_CLOSED, ("1h", "2h"), ("window", "datapoint")):
        options: dict[str, Any] = {"every": "1h", "period": period, "closed": closed, "start_by": start_by}
        got = mf.from_arrow(table).group_by_dynamic("t", **options).agg(mf.col("v").sum())
        assert _rows(got) == _rows(df.group_by_dynamic("t", **options).agg(pl.col("v").sum())), options


def test_no_rows_give_no_windows() -> None:
    table = pa.table({"t": pa.array([None], _US), "v": [1]})
    for start_by in ("window", "datapoint"):
        options: dict[str, Any] = {"every": "1h", "period": "2h", "start_by": start_by}
        for rows in (table, table.slice(1)):
            assert not mf.from_arrow(rows).group_by_dynamic("t", **options).len().count()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"every": "0d"}, "longer than 0"),
        ({"every": "1d", "period": "-1d"}, "longer than 0"),
        ({"every": "1mo1d"}, "can't be mixed"),
        ({"every": "1d", "closed": "open"}, "closed='open'"),
        ({"every": "1d", "label": "middle"}, "label='middle'"),
        ({"every": "1d", "start_by": "today"}, "start_by='today'"),
    ],
)
def test_windows_that_mean_nothing_are_refused(options: dict[str, Any], error: str) -> None:
    ds = mf.from_arrow(pa.table({"t": pa.array([0], _US)}))
    with pytest.raises(mf.ConfigError, match=error):
        ds.group_by_dynamic("t", **options)


def test_hours_that_a_clock_repeats_are_refused() -> None:
    ds = mf.from_arrow(pa.table({"t": pa.array([0], _NEW_YORK), "v": [1]}))
    with pytest.raises(mf.PlanError, match=r"convert_time_zone\('UTC'\) before"):
        ds.group_by_dynamic("t", every="1h", period="2h").len()
    with pytest.raises(mf.PlanError, match="dates and timestamps"):
        ds.group_by_dynamic("v", every="1h", period="2h").len()
