"""Groups of narwhals as those of mmflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from narwhals._sql.group_by import SQLGroupBy

__all__ = ["MmflowGroupBy"]


class MmflowGroupBy(SQLGroupBy):
    """Groups that wait for their aggregates."""

    def __init__(self, df: Any, keys: Sequence[Any], /, *, drop_null_keys: bool) -> None:
        frame, self._keys, self._output_key_names = self._parse_keys(df, keys=keys)
        self._compliant_frame = frame.drop_nulls(self._keys) if drop_null_keys else frame

    def agg(self, *exprs: Any) -> Any:
        frame = self.compliant
        aggregates = [*self._evaluate_exprs(exprs)]
        with frame.errors(aggregates):
            made = (
                frame.native.group_by(self._keys).agg(aggregates)
                if aggregates
                else frame.native.select(self._keys).unique()
            )
        names = {k: n for k, n in zip(self._keys, self._output_key_names, strict=True) if k != n}
        return frame._with_native(made).rename(names)
