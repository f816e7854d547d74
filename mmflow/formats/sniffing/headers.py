"""Header of a table: whether its first row names the columns, and how many rows do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mmflow.formats.sniffing.kinds import TYPED, kind_of
from mmflow.lazy.patterns import lazy_regex

__all__ = ["find_header"]

_NAME = lazy_regex(r"[^\W\d][\w .\-/()%°#$€\[\]:&+']{0,60}")
_USUAL = 0.8
_NUMBERS = frozenset(("int", "real", "comma", "grouped", "percent", "money"))


def find_header(rows: Sequence[Sequence[str]]) -> tuple[int, float, str]:
    """Return the number of rows of a header, how sure that is, and why.

    A header has texts where the rows below have numbers, dates or other typed values, as in DuckDB's sniffer. Where all
    columns are text, names that are like identifiers, and occur only once, speak for one; that is never sure.

    Args:
        rows: Rows of the table, of one width; its first ones among them.
    """
    if len(rows) < 2:
        names = bool(rows) and _are_names(rows[0])
        return (1, 0.5, "there is one row alone") if names else (0, 0.5, "there is one row alone")
    first = rows[0]
    body = rows[3:] if len(rows) > 6 else rows[1:]
    kinds = [_column_kind([r[i] for r in body]) for i in range(len(first))]
    typed = [i for i, kind in enumerate(kinds) if kind in TYPED]
    against = [i for i in typed if _same(kind_of(first[i]), kinds[i])]
    votes = [
        i
        for i in typed
        if kind_of(first[i]) not in TYPED and first[i].strip() and kind_of(first[i]) != "null"
    ]
    empty = sum(not c.strip() for c in first)
    if against and len(against) >= len(votes):
        years = all(kind_of(c) == "int" and 1900 <= int(c) <= 2100 for c in (first[i] for i in against))
        if years and votes and len({first[i] for i in against}) == len(against):
            return 1, 0.5, "its first row may name years"
        return 0, 0.95 if not votes else 0.6, "its first row has values as the rows below have"
    if votes:
        more = _further_rows(rows, typed)
        if more:
            return 1 + more, 0.7, f"its first {1 + more} rows have text where those below have values"
        sure = 0.97 if len(votes) == len(typed) and empty <= 1 else 0.85 if empty <= len(first) // 2 else 0.6
        return 1, sure, "its first row has text where those below have values"
    if typed:  # the first row is empty there
        return (
            (1, 0.6, "its first row has names")
            if _are_names(first)
            else (0, 0.6, "its first row has no names")
        )
    return _all_text(rows)


def _column_kind(cells: Sequence[str]) -> str:
    counts = Counter(k for c in cells if (k := kind_of(c)) not in ("empty", "null"))
    if not counts:
        return "empty"
    if counts.keys() <= _NUMBERS:
        return "real"
    kind, count = counts.most_common(1)[0]
    return kind if count >= _USUAL * sum(counts.values()) else "text"


def _same(kind: str, usual: str) -> bool:
    return kind == usual or (kind in _NUMBERS and usual in _NUMBERS) or {kind, usual} == {"date", "moment"}


def _are_names(cells: Sequence[str]) -> bool:
    named = [c.strip() for c in cells if c.strip()]
    return len(named) == len(set(named)) and len(named) > len(cells) // 2 and all(map(_NAME.fullmatch, named))


def _further_rows(rows: Sequence[Sequence[str]], typed: Sequence[int]) -> int:
    """Return the number of rows behind the first that have text, or nothing, in all typed columns, such as units."""
    if len(typed) < 2 or len(rows) < 6:
        return 0
    count = 0
    for row in rows[1:3]:
        kinds = [kind_of(row[i]) for i in typed]
        if any(k in TYPED or k == "null" for k in kinds) or all(k == "empty" for k in kinds):
            break
        if sum(k != "empty" for k in kinds) < 2:
            break
        count += 1
    return count


def _all_text(rows: Sequence[Sequence[str]]) -> tuple[int, float, str]:
    first, body = rows[0], rows[1:]
    repeated = sum(first[i] != "" and any(r[i] == first[i] for r in body) for i in range(len(first)))
    if repeated:
        return 0, 0.6, "values of its first row occur again"
    if not all(first) or len(set(first)) < len(first):
        return 0, 0.55, "its first row has no names"
    if not _are_names(first):
        return 1, 0.5, "its first row may name the columns"
    kinds = [Counter(kind_of(r[i]) for r in body) for i in range(len(first))]
    shorter = sum(
        len(first[i]) < 0.6 * sum(len(r[i]) for r in body) / len(body)
        or kinds[i].keys() & {"mail", "url", "other"} != set()
        for i in range(len(first))
    )
    identifiers = all(
        re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+|[a-z]+|[A-Z][A-Z_]+", c.strip()) for c in first if c
    )
    bodies = [r[i] for r in body[:50] for i in range(len(first)) if r[i]]
    alike = bool(bodies) and sum(bool(re.fullmatch(r"[a-z_]+|[A-Z_]+", c)) for c in bodies) > 0.5 * len(
        bodies
    )
    if identifiers and not alike:
        return 1, 0.75, "its first row has names unlike the values below"
    return 1, 0.65 if shorter else 0.55, "its first row may name the columns"
