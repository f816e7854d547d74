"""What writes one file, and how the option texts of writers are parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pyarrow as pa

__all__ = ["Writer", "boolean", "one_of", "positive"]


class Writer(Protocol):
    """One open file; its schema is bound. OSError and pa.ArrowInvalid come through as they are.

    `pending` is the memory that it holds for rows not written yet, in bytes.
    """

    pending: int

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the next rows; may hold them back until there are enough."""
        ...

    def flush(self) -> None:
        """Write what is held back."""
        ...

    def close(self) -> None:
        """Complete the file and close it."""
        ...

    def discard(self) -> None:
        """Close without completing; never raises."""
        ...


def positive(value: Any) -> int:
    """An integer of at least 1, also from text."""
    number = int(value)
    if number < 1 or isinstance(value, float):
        raise ValueError("must be a whole number of at least 1")
    return number


def boolean(value: Any) -> bool:
    """True or false, also from text."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text in ("true", "1")


def one_of(allowed: Iterable[str]) -> Callable[[Any], str]:
    """A parser of one of some words."""
    words = tuple(allowed)

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return parse
