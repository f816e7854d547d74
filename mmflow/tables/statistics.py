"""Bounds of whole files that the log of a table states, by which a plan leaves files out without opening them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from mmflow.formats.base import Comparison
from mmflow.formats.parquet.statistics import Bounds, may_match
from mmflow.lazy.dataclasses import dataclass

__all__ = ["FileStatistics", "can_bound"]


def can_bound(kind: pa.DataType) -> bool:
    """Return whether bounds of a column are used: those of floats don't say whether there are NaNs."""
    types = pa.types
    tests = (
        types.is_integer, types.is_date32, types.is_string, types.is_string_view, types.is_timestamp,
    )  # fmt: skip
    return any(test(kind) for test in tests)


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """Bounds of columns by file; a column that is not there is unknown.

    Workers get none: files are left out before tasks are made.
    """

    bounds: Mapping[str, Mapping[str, Bounds]]

    def may_hold(self, path: str, prune: Sequence[Comparison]) -> bool:
        """Return whether a file may hold a row that satisfies all comparisons."""
        known = self.bounds.get(path, {})
        return all(c.column not in known or may_match(c, known[c.column]) for c in prune)

    def __reduce__(self) -> tuple[type[FileStatistics], tuple[Mapping[str, Mapping[str, Bounds]]]]:
        return FileStatistics, ({},)
