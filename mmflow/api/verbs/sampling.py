"""Samples of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

import pyarrow as pa
from datafusion import DataFrame

from mmflow.api import expressions as ex
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import PlanError
from mmflow.formats import PLACE
from mmflow.plan.catalog import planning

__all__ = ["SamplingVerbs"]


class SamplingVerbs(DatasetCore):
    """Verbs that pick rows at random."""

    def sample(self, fraction: float | None = None, seed: int = 0, *, n: int | None = None) -> Self:
        """Return random rows: a share of them, each picked independently with the same probability, or a number.

        The same seed picks the same rows. Rows that stand in files (or in the table of `from_arrow`) are told apart by
        their places there, so these are the same rows on every engine and for every shard size, also after `filter`,
        `select` and `sort`. Other rows (of joins, groups, functions) are told apart by the tasks that make them, so
        there another engine or shard size picks others.

        Parameters
        ----------
        fraction
            Probability of a row, from 0 (no row) to 1 (every row).
        seed
            Any integer. Samples of different seeds are independent.
        n
            Number of rows, all if there are fewer, in random order. Every set of so many rows is equally likely.

        Raises
        ------
        PlanError
            A fraction outside [0, 1], a negative number, both or neither of them, or a seed that is no integer.

        Examples
        --------
        >>> import mmflow as mf
        >>> 400 < mf.from_arrow({"a": range(1000)}).sample(0.5, seed=7).count() < 600
        True
        >>> mf.from_arrow({"a": range(1000)}).sample(n=10).count()
        10
        """
        from mmflow.api.sampling import check_sample  # noqa: PLC0415  (slow)

        check_sample(fraction, n, seed)
        if fraction == 1:
            return self
        placed = self._with_places()
        own = [ex.quoted_column(name) for name in self.columns]
        with planning("sample"):
            frame = placed()
            from mmflow.api.sampling import pick_number  # noqa: PLC0415  (slow)

            (number,) = ex.row_values(self._scope(frame), [pick_number(seed, self._samples)], "sample")
            if n is None:
                assert fraction is not None  # checked
                from mmflow.api.sampling import threshold  # noqa: PLC0415  (slow)

                made = frame.filter(number.raw < ex.literal(threshold(fraction)))
            else:
                made = frame.sort(number.raw.sort(ascending=True)).limit(n)
            return type(self)(self.context, made.select(*own), (), None, lambda: made, self._samples + 1)

    def _with_places(self) -> Callable[[], DataFrame]:
        """Return what plans the same rows with `PLACE`: where they stand, or else numbers of their tasks."""
        if PLACE in self.columns:
            raise PlanError(f"sample: there is a column {PLACE!r}; rename it before")
        if self._placed is not None:
            return self._placed
        schema = self._plan_schema().append(pa.field(PLACE, pa.int64()))
        from mmflow.worker.row_streams import append_places  # noqa: PLC0415  (slow)

        return lambda: self._streamed(partial(append_places, PLACE), schema, "number rows").frame
