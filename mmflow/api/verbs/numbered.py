"""Rows by their numbers, read without a plan (docs/random-access.md)."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import pyarrow as pa

from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import PlanError

if TYPE_CHECKING:
    from mmflow.rows.selection import Selection

__all__ = ["NumberedVerbs"]


class NumberedVerbs(DatasetCore):
    """Verbs that read rows by their numbers."""

    @property
    def supports_random_access(self) -> bool:
        """True if rows can be read by their number: by `take`, `slice` and `ds[...]`.

        False for rows that were filtered, sorted or computed, and for compressed text and Arrow IPC streams.
        Raises SourceError if a file can't be opened.

        >>> import mmflow as mf
        >>> from pathlib import Path
        >>> _ = Path("t.csv").write_text("a\\n5\\n")
        >>> ds = mf.read_csv("t.csv")
        >>> ds.supports_random_access, ds.sort("a").supports_random_access
        (True, False)
        """
        options = self.context.settings.remote_options
        from mmflow.rows.source import random_access_problem  # noqa: PLC0415  (slow)

        return self._selection is not None and random_access_problem(self._selection, options) is None

    def take(self, indices: Any) -> pa.Table:
        """Return rows by their number in `to_arrow()`, without reading what lies before them (docs/random-access.md).

        The dataset must be as it was read; columns may be selected, dropped and renamed.

        Parameters
        ----------
        indices
            Integers, in any order and also several times; negative ones count from the end.

        Returns
        -------
        pyarrow.Table
            These rows in this order, shape (len(indices), columns).

        Raises
        ------
        OutOfRangeError
            There is no such row (also an IndexError).
        ConfigError
            An index is no integer.
        PlanError
            The rows have no numbers any more, or the files no random access.
        BadRecordError
            A row that was asked for is bad, and `on_bad_record` is `error`.
        SourceError
            A file can't be read, or changed meanwhile.

        Examples
        --------
        >>> import mmflow as mf
        >>> from pathlib import Path
        >>> _ = Path("t.csv").write_text("a\\n5\\n6\\n7\\n")
        >>> mf.read_csv("t.csv").take([-1, 0]).to_pydict()
        {'a': [7, 5]}
        """
        from mmflow.rows.take import take_rows  # noqa: PLC0415  (slow)

        return take_rows(self._numbered("take()"), indices, self.context.settings)

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> pa.Table: ...
    def __getitem__(self, index: SupportsIndex | builtins.slice) -> dict[str, Any] | pa.Table:
        """Return row `index` as a dict of Python values, or the rows of a slice as a table.

        Raises as `take`, and a row as `to_dicts`.
        """
        selection = self._numbered("ds[...]")
        from mmflow.rows.row_numbers import row_number  # noqa: PLC0415  (slow)

        if not isinstance(index, builtins.slice):
            from mmflow.formats.decoding.python_rows import python_rows  # noqa: PLC0415  (slow)
            from mmflow.rows.take import take_rows  # noqa: PLC0415  (slow)

            table = take_rows(selection, [row_number(index, "ds[...]")], self.context.settings)
            return python_rows(table)[0]
        ends = [
            None if e is None else row_number(e, "ds[...]") for e in (index.start, index.stop, index.step)
        ]
        step = 1 if ends[2] is None else ends[2]
        from mmflow.rows.take import slice_rows  # noqa: PLC0415  (slow)

        return slice_rows(selection, ends[0], ends[1], self.context.settings, step)

    def _numbered(self, what: str) -> Selection:
        if self._selection is None:
            raise PlanError(
                f"{what} needs a dataset as it was read (columns may be selected, dropped and renamed), since other "
                "rows have no numbers to find them by; take limit(count, offset) of it, or write it out and read that"
            )
        return self._selection
