"""Protocol of one file's writer, and parsers of writer options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pyarrow as pa

__all__ = ["Writer", "choice_parser", "parse_boolean", "parse_names", "parse_positive"]


class Writer(Protocol):
    """Writer of one open file whose schema is bound; OSError and pa.ArrowInvalid pass through.

    `pending` is the memory that it holds for rows not written yet, in bytes.
    """

    pending: int

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows; may buffer them."""
        ...

    def flush(self) -> None:
        """Write the buffered rows."""
        ...

    def close(self) -> None:
        """Complete the file and close it."""
        ...

    def discard(self) -> None:
        """Close without completing the file; never raises."""
        ...


def parse_positive(value: Any) -> int:
    """Return an integer of at least 1, parsed from text if need be."""
    number = int(value)
    if number < 1 or isinstance(value, float):
        raise ValueError("must be a whole number of at least 1")
    return number


def parse_boolean(value: Any) -> bool:
    """Return True or False, parsed from text if need be."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text in ("true", "1")


def parse_names(value: Any) -> tuple[str, ...]:
    """Return names of columns, parsed from text with commas if need be."""
    return tuple(value.split(",")) if isinstance(value, str) else tuple(value)


def choice_parser(allowed: Iterable[str]) -> Callable[[Any], str]:
    """Return a parser that accepts only the given words."""
    words = tuple(allowed)

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return parse
