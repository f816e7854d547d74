"""Sums, means and moments of floats over frames that move, computed anew from the rows of each frame.

DataFusion 55 adds what comes into a frame and subtracts what leaves it, so an infinity that has left leaves NaN behind,
and a large number its rounding error. Here nothing is subtracted: a frame is put together from blocks of 1, 2, 4, ...
rows, which costs O(rows * log(frame)).

    blocks of 1   a  b  c  d  e  f          state of each row
    blocks of 2   ab bc cd de ef            combine(block, next block)
    blocks of 4   abcd bcde cdef
    frame b..f    b + cdef                  the bits of its length, 5 = 1 + 4

A state is the number of rows without null, then a sum, or means and central moments (Chan's updating formula).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
from datafusion import WindowUDF
from datafusion.user_defined import WindowEvaluator

from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt

__all__ = ["MOVING", "MovingFunction", "moving_name"]

_Numbers = npt.NDArray[np.float64]
_State = tuple[_Numbers, ...]
_Row = tuple[float, ...]
_AnyState = TypeVar("_AnyState", _State, _Row)
_Result = tuple[_Numbers, npt.NDArray[np.bool_]]


def _total(state: _State) -> _Result:
    return state[1], state[0] > 0


def _mean(state: _State) -> _Result:
    return state[1] / state[0], state[0] > 0


def _variance(state: _State, divisor: int) -> _Result:
    # One row has none, also of infinity, as in DataFusion's aggregates.
    return np.where(state[0] == 1, 0.0, state[2] / (state[0] - divisor)), state[0] > divisor


def _deviation(state: _State, divisor: int) -> _Result:
    variance, known = _variance(state, divisor)
    return np.sqrt(variance), known


def _covariance(state: _State, divisor: int) -> _Result:
    return state[5] / (state[0] - divisor), state[0] > divisor


def _correlation(state: _State) -> _Result:
    spread = np.sqrt(state[3]) * np.sqrt(state[4])
    return state[5] / spread, spread > 0


def _slope(state: _State) -> _Result:
    return state[5] / state[4], (state[0] > 1) & (state[4] != 0)


def _intercept(state: _State) -> _Result:
    slope, known = _slope(state)
    return state[1] - slope * state[2], known


def _determination(state: _State) -> _Result:
    known = (state[0] > 1) & (state[3] != 0) & (state[4] != 0)
    return (state[5] / state[3]) * (state[5] / state[4]), known


def _moment(state: _State, number: int) -> _Result:
    return state[number], state[0] > 0


#: Functions by their name in DataFusion: columns, entries of their state, and the result from a state. The two columns
#: are y and x, and their state is the count, mean of y, mean of x, moments yy, xx and xy.
MOVING: dict[str, tuple[int, int, Callable[[_State], _Result]]] = {
    "sum": (1, 2, _total),
    "avg": (1, 2, _mean),
    "var": (1, 3, lambda s: _variance(s, 1)),
    "var_pop": (1, 3, lambda s: _variance(s, 0)),
    "stddev": (1, 3, lambda s: _deviation(s, 1)),
    "stddev_pop": (1, 3, lambda s: _deviation(s, 0)),
    "covar_samp": (2, 6, lambda s: _covariance(s, 1)),
    "covar_pop": (2, 6, lambda s: _covariance(s, 0)),
    "corr": (2, 6, _correlation),
    "regr_slope": (2, 6, _slope),
    "regr_intercept": (2, 6, _intercept),
    "regr_r2": (2, 6, _determination),
    "regr_avgy": (2, 6, lambda s: _moment(s, 1)),
    "regr_avgx": (2, 6, lambda s: _moment(s, 2)),
    "regr_syy": (2, 6, lambda s: _moment(s, 3)),
    "regr_sxx": (2, 6, lambda s: _moment(s, 4)),
    "regr_sxy": (2, 6, lambda s: _moment(s, 5)),
}


class MovingFunction:
    """Window function of floats, a `plan.stages.Function`.

    Args:
        kind: Name of DataFusion's function, of `MOVING`.
        rows: First and last row of a ROWS frame, counted from the current row; None: the partition has no such bound.
            Without `rows` DataFusion gives the frame of each row, which costs some 40 µs a row.
    """

    def __init__(self, kind: str, rows: tuple[int | None, int | None] | None = None) -> None:
        self._recipe = kind, rows
        self.name = moving_name(kind, rows)
        columns = MOVING[kind][0]

        def evaluator() -> WindowEvaluator:
            return _Frames(kind) if rows is None else _Rows(kind, *rows)

        types = [pa.float64()] * columns
        self.made = WindowUDF(self.name, evaluator, types, pa.float64(), "immutable")

    def __reduce__(self) -> tuple[type[MovingFunction], tuple[object, ...]]:
        return type(self), self._recipe


def moving_name(kind: str, rows: tuple[int | None, int | None] | None = None) -> str:
    """Return the name in plans of a `MovingFunction`."""
    shown = "" if rows is None else "_rows" + "".join(_shown(bound) for bound in rows)
    return f"mmflow_moving_{kind}{shown}"


def _shown(bound: int | None) -> str:
    return "_all" if bound is None else f"_{'p' if bound < 0 else 'f'}{abs(bound)}"


class _Rows(WindowEvaluator):
    """Evaluator of a ROWS frame: all rows of a partition at once."""

    def __init__(self, kind: str, first: int | None, last: int | None) -> None:
        self._kind, self._first, self._last = kind, first, last

    def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
        with np.errstate(all="ignore"):
            state = _frames_of_rows(_states(self._kind, values), num_rows, self._first, self._last)
            result, known = MOVING[self._kind][2](state)
        return pa.array(result, pa.float64(), mask=~known)


class _Frames(WindowEvaluator):
    """Evaluator of any frame, which is asked once for each row of a partition.

    Both ends of a frame move forward from row to row. The frame is two parts that meet at `middle`: of the front, the
    state of each of its ends is kept, and the back is added up as it grows. Once the front is used up, the back becomes
    the front: so each row is combined twice.
    """

    def __init__(self, kind: str) -> None:
        columns, entries, self._result = MOVING[kind]
        self._kind, self._columns, self._nothing = kind, columns, (0.0,) * entries
        self._rows: list[_Row] = []
        self._restart(0)

    def _restart(self, start: int) -> None:
        self._first = self._middle = self._end = start
        self._front: list[_Row] = []
        self._back = self._nothing

    def uses_window_frame(self) -> bool:
        return True

    def evaluate(self, values: list[pa.Array], eval_range: tuple[int, int]) -> pa.Scalar:
        start, end = eval_range
        if len(self._rows) != len(values[0]):
            with np.errstate(all="ignore"):
                states = _states(self._kind, values[: self._columns])
            self._rows = list(zip(*(column.tolist() for column in states), strict=True))
        if start < self._first or end < self._end or start > self._end:
            self._restart(start)
        if start >= self._middle:
            self._turn(start, end)
        for row in self._rows[self._end : end]:
            self._back = _combined(self._back, row)
        self._end = max(end, self._end)
        front = self._front[self._middle - start - 1] if start < self._middle else self._nothing
        state = tuple(np.array([entry]) for entry in _combined(front, self._back))
        with np.errstate(all="ignore"):
            result, known = self._result(state)
        return pa.scalar(float(result[0]) if known[0] else None, pa.float64())

    def _turn(self, start: int, end: int) -> None:
        """Make the front of all rows of a frame."""
        state, self._front = self._nothing, []
        for row in reversed(self._rows[start:end]):
            state = _combined(row, state)
            self._front.append(state)
        self._first, self._middle, self._end = start, max(start, end), max(start, end)
        self._back = self._nothing


def _states(kind: str, columns: Sequence[pa.Array]) -> _State:
    """Return the state of each row."""
    null = np.logical_or.reduce([null_places(c) for c in columns])
    floats = [np.where(null, 0.0, numpy_values(c)) for c in columns]
    count = (~null).astype(np.float64)
    match MOVING[kind][1]:
        case 2:
            return count, floats[0]
        case 3:
            return count, floats[0], floats[0] - floats[0]  # NaN where it is not finite, else 0
        case _:
            y, x = floats
            return count, y, x, y - y, x - x, (y - y) * (x - x)


def _combined(a: _AnyState, b: _AnyState) -> _AnyState:
    """Return the states of the rows of `a` and `b` together: of many frames as arrays, or of one."""
    count = a[0] + b[0]
    if len(a) == 2:
        return count, a[1] + b[1]
    share = b[0] / (count + (count == 0))
    weight = a[0] * share
    if len(a) == 3:
        by = b[1] - a[1]
        return count, a[1] + by * share, a[2] + b[2] + weight * by * by
    dy, dx = b[1] - a[1], b[2] - a[2]
    return (
        count,
        a[1] + dy * share,
        a[2] + dx * share,
        a[3] + b[3] + weight * dy * dy,
        a[4] + b[4] + weight * dx * dx,
        a[5] + b[5] + weight * dy * dx,
    )


def _frames_of_rows(rows: _State, count: int, first: int | None, last: int | None) -> _State:
    """Return the state of the frame of each row."""
    places = np.arange(count)
    start = np.zeros(count, np.int64) if first is None else np.clip(places + _near(first, count), 0, count)
    end = np.full(count, count) if last is None else np.clip(places + (_near(last, count) + 1), 0, count)
    if first is None and len(rows) == 2:
        before = tuple(np.concatenate([[0.0], np.cumsum(column)]) for column in rows)
        return tuple(column[end] for column in before)
    left = np.maximum(end - start, 0)
    made: _State = tuple(np.zeros(count) for _ in rows)
    size = 1
    while size <= (left.max() if count else 0):
        chosen = np.flatnonzero(left & size)
        part = _combined(_taken(made, chosen), _taken(rows, start[chosen]))
        for column, values in zip(made, part, strict=True):
            column[chosen] = values
        start[chosen] += size
        rows = _combined(tuple(c[:-size] for c in rows), tuple(c[size:] for c in rows))
        size *= 2
    return made


def _near(offset: int, count: int) -> int:
    return max(-count, min(offset, count))


def _taken(state: _State, rows: npt.NDArray[np.intp]) -> _State:
    return tuple(column[rows] for column in state)
