"""Joins with the nearest earlier or later row of another dataset."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa
from datafusion import DataFrame

from mmflow.api import expressions as ex
from mmflow.api.verbs.common_types import cast_column, common_type, shown_type
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import plan_schema
from mmflow.formats.schemas.schema import public_schema
from mmflow.plan.catalog import RepartitionLeaf, planning

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw

__all__ = ["AsofVerbs"]

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class AsofVerbs(DatasetCore):
    """Verbs that join by the order of values."""

    def join_asof(
        self,
        other: Self,
        *,
        on: str | None = None,
        left_on: str | None = None,
        right_on: str | None = None,
        by: str | Sequence[str] = (),
        strategy: Literal["backward", "forward", "nearest"] = "backward",
        tolerance: float | str | dt.timedelta | None = None,
        suffix: str = "_right",
    ) -> Self:
        """Return each row with the nearest row of another dataset: of equal `by`, not later, say, by `on`.

        Neither dataset needs to be sorted. All rows of a partition by `by` are held in memory at once; without `by`,
        these are all rows. The result comes in no particular order.

        Parameters
        ----------
        other
            Dataset of the same session.
        on
            Column of numbers, dates or times of both sides. It comes once.
        left_on, right_on
            Columns of the two sides, where their names differ.
        by
            Columns that must be equal; they come once. Nulls equal nothing.
        strategy
            `backward`: the last row that is not later; `forward`: the first that is not earlier; `nearest`: the nearer
            of both, and the later one of two that are equally near.
        tolerance
            Most difference: a number, or for times a timedelta or text such as `'90m'`. Rows without a match have
            nulls.
        suffix
            Text added to columns of the other side whose name is taken.

        Raises
        ------
        PlanError
            An unknown column or strategy, or types that can't be compared.

        Examples
        --------
        >>> import mmflow as mf
        >>> trades = mf.from_arrow({"t": [3, 7], "amount": [10, 20]})
        >>> quotes = mf.from_arrow({"t": [1, 5, 6], "price": [1.0, 1.5, 1.7]})
        >>> trades.join_asof(quotes, on="t").to_arrow().to_pydict()
        {'t': [3, 7], 'amount': [10, 20], 'price': [1.0, 1.7]}
        """
        if strategy not in ("backward", "forward", "nearest"):
            raise PlanError(f"join_asof: strategy = {strategy!r}: must be backward, forward or nearest")
        left, right = (on, on) if on is not None else (left_on, right_on)
        if left is None or right is None or (on is not None and not (left_on is right_on is None)):
            raise PlanError("join_asof: give either on, or both left_on and right_on")
        keys = self._named(by or [], "join_asof")
        self._named(left, "join_asof")
        other._named([*dict.fromkeys([*keys, right])], "join_asof")
        mine, its = self._plan_schema(), other._plan_schema()
        kinds = [
            _common(mine.field(a).type, its.field(b).type, a)
            for a, b in [*((k, k) for k in keys), (left, right)]
        ]
        time = kinds[-1]
        moment = pa.types.is_timestamp(time) or pa.types.is_duration(time)
        if not (moment or pa.types.is_date(time) or pa.types.is_integer(time) or pa.types.is_floating(time)):
            raise PlanError(
                f"join_asof: column {left!r} is {shown_type(time)}, not of numbers, dates or times"
            )
        if floats := [k for k, kind in zip(keys, kinds, strict=False) if pa.types.is_floating(kind)]:
            raise PlanError(
                f"join_asof: column {floats[0]!r} of by holds floats, which are not compared for equality"
            )
        dropped = {*keys, right} if on is not None else {*keys}
        given = [f for f in its if f.name not in dropped]
        names = {f.name: f.name if f.name not in mine.names else f.name + suffix for f in given}
        if again := next((n for n in names.values() if [*mine.names, *names.values()].count(n) > 1), None):
            raise PlanError(f"join_asof: there would be two columns {again!r}; give another suffix")
        marks = tuple(f"__key_{i}" for i in range(len(kinds)))
        with planning("join_asof"):
            own = [ex.quoted_column(f.name).alias(f"__own_{i}") for i, f in enumerate(mine)]
            theirs = [ex.quoted_column(f.name).alias(f"__other_{i}") for i, f in enumerate(given)]
            lefts = [cast_column(n, mine.field(n).type, t) for n, t in zip([*keys, left], kinds, strict=True)]
            rights = [
                cast_column(n, its.field(n).type, t) for n, t in zip([*keys, right], kinds, strict=True)
            ]
            one = self._side(self.frame, lefts, ex.literal(False), own)
            two = self._side(other.frame, rights, ex.literal(True), theirs)
            one = one._padded([pa.field(f"__other_{i}", f.type) for i, f in enumerate(given)])
            two = two._padded([pa.field(f"__own_{i}", f.type) for i, f in enumerate(mine)])
            order = [*marks, "__other", *(f"__own_{i}" for i in range(len(mine)))]
            order += [f"__other_{i}" for i in range(len(given))]
            both = one.frame.select(*map(ex.quoted_column, order)).union(
                two.frame.select(*map(ex.quoted_column, order))
            )
            schema = self.context.catalog.schema(both)
            numbers = tuple(range(len(keys)))
            spread = self.context.catalog.add(RepartitionLeaf(both, None if keys else 1, numbers, schema))
        shown = public_schema(schema)
        from mmflow.worker.asof import Asof  # noqa: PLC0415  (slow)

        function = Asof(
            marks[:-1], marks[-1], "__other", tuple(f"__own_{i}" for i in range(len(mine))),
            tuple(f"__other_{i}" for i in range(len(given))), strategy, _difference(tolerance, time), shown,
        )  # fmt: skip
        result = plan_schema(
            pa.schema([*self.schema, *(other.schema.field(n).with_name(names[n]) for n in names)])
        )
        return self._new(spread)._streamed(function, result, f"{strategy} asof join", public=True)

    def _side(self, frame: DataFrame, keys: Sequence[Raw], other: Raw, columns: Sequence[Raw]) -> Self:
        named = [key.alias(f"__key_{i}") for i, key in enumerate(keys)]
        return self._new(frame.select(*named, other.alias("__other"), *columns))

    def _padded(self, fields: Sequence[pa.Field]) -> Self:
        """Return the rows with further columns of nulls."""
        schema = pa.schema([*self._plan_schema(), *fields])
        from mmflow.worker.row_streams import append_nulls  # noqa: PLC0415  (slow)

        return self._streamed(partial(append_nulls, tuple(fields)), schema, "nulls")


def _common(one: pa.DataType, other: pa.DataType, name: str) -> pa.DataType:
    both = common_type(one, other)
    if both is None:
        raise PlanError(
            f"join_asof: {name!r} is {shown_type(one)} here and {shown_type(other)} there, and no type holds both "
            "exactly; cast one of them"
        )
    return both


def _difference(tolerance: float | str | dt.timedelta | None, time: pa.DataType) -> float | None:
    """Return the most difference in the unit of a column's values."""
    if tolerance is None:
        return None
    if isinstance(tolerance, str):
        from mmflow.api.expressions.methods.times import parsed_span  # noqa: PLC0415  (slow)

        span = parsed_span("join_asof tolerance=", tolerance, "period")
        if span.months:
            raise PlanError(f"join_asof: tolerance = {tolerance!r}: months differ in length; give days")
        tolerance = dt.timedelta(days=span.days, weeks=span.weeks, microseconds=span.nanoseconds / 1000)
    moment = pa.types.is_timestamp(time) or pa.types.is_duration(time) or pa.types.is_date(time)
    if isinstance(tolerance, dt.timedelta) != moment:
        raise PlanError(
            f"join_asof: tolerance = {tolerance!r}: give a timedelta or text such as '90m' for times, and a number "
            "for numbers"
        )
    if not isinstance(tolerance, dt.timedelta):
        return float(tolerance)
    if pa.types.is_date32(time):
        return tolerance / dt.timedelta(days=1)
    return tolerance / dt.timedelta(seconds=1) * _UNITS["ms" if pa.types.is_date(time) else time.unit]
