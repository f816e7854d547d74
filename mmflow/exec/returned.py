"""What a user's function may return: batches in any of several wrappings."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

__all__ = ["returned_batches"]


def returned_batches(made: object) -> list[pa.RecordBatch]:
    """What a user's function returned, as batches.

    Raises:
        TypeError: It is not a RecordBatch, a Table or an iterable of them.
    """
    if isinstance(made, pa.RecordBatch):
        return [made]
    if isinstance(made, pa.Table):
        return made.to_batches()  # type: ignore[no-any-return]
    if isinstance(made, Iterable) and not isinstance(made, str | bytes | dict):
        return [b for item in made for b in returned_batches(item)]
    raise TypeError(
        f"it returned {type(made).__name__}, expected a RecordBatch, a Table or an iterable of them"
    )
