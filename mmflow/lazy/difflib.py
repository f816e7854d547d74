"""difflib.get_close_matches, whose module is imported with the first name that is not known: 2 ms."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["get_close_matches"]


def get_close_matches(word: str, possibilities: Iterable[str], n: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the best matches of a word, as difflib does.

    >>> get_close_matches("delimeter", ["quote", "delimiter"], 1)
    ['delimiter']
    """
    import difflib  # noqa: PLC0415  (slow)

    return difflib.get_close_matches(word, list(possibilities), n, cutoff)
