"""Braces of bash: `{2023,2024}` and `{01..12}` stand for several paths, before anything is looked for.

    logs/{a,b{1..2}}/*.csv -> logs/a/*.csv, logs/b1/*.csv, logs/b2/*.csv

Invariant: text that is no such expression stays as it is: `{}`, `{a}`, an open brace, and all behind a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmflow.errors import ConfigError
from mmflow.lazy.patterns import lazy_regex

__all__ = ["MOST_PATHS", "expand_braces"]

#: Paths that braces may stand for; more are a slip, such as `{1..1000000000}`.
MOST_PATHS = 1_000_000
_RANGE = lazy_regex(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?")


def expand_braces(pattern: str) -> list[str]:
    r"""Return the patterns that a pattern with braces stands for, in bash's order; itself where it has none.

    Raises:
        ConfigError: They are more than `MOST_PATHS`.

    >>> expand_braces("{a,b{08..10}}.csv"), expand_braces(r"\{a,b}{c}")
    (['a.csv', 'b08.csv', 'b09.csv', 'b10.csv'], ['\\{a,b}{c}'])
    """
    if "{" not in pattern:
        return [pattern]
    made: list[str] = []
    for path in _expanded(pattern):
        made.append(path)
        if len(made) > MOST_PATHS:
            raise ConfigError(
                f"{pattern!r} stands for more than {MOST_PATHS:,} paths; write fewer into its braces"
            )
    return made


def _expanded(text: str) -> Iterator[str]:
    """Yield what a text stands for: that of its first expression, each before that of the text behind it."""
    position = 0
    while (begin := _find(text, "{", position)) >= 0:
        found = _alternatives(text, begin)
        if found is not None:
            parts, end = found
            for part in parts:
                for rest in _expanded(text[end:]):
                    yield text[:begin] + part + rest
            return
        position = begin + 1
    yield text


def _find(text: str, wanted: str, position: int) -> int:
    """Return the offset of the first of some characters that no backslash precedes; -1: there is none."""
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] in wanted:
            return position
        position += 1
    return -1


def _alternatives(text: str, begin: int) -> tuple[Iterator[str], int] | None:
    """Return the texts that the expression at `begin` stands for, and the offset behind it; None: it is none."""
    depth, position = 0, begin
    cuts = [begin]
    while (position := _find(text, "{},", position)) >= 0:
        char = text[position]
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                break
        elif depth == 1:
            cuts.append(position)
        position += 1
    if position < 0:
        return None
    if len(cuts) > 1:
        bounds = zip(cuts, [*cuts[1:], position], strict=True)
        return (made for a, b in bounds for made in _expanded(text[a + 1 : b])), position + 1
    match = _RANGE.fullmatch(text, begin + 1, position)
    found = None if match is None else _range(match)
    return None if found is None else (found, position + 1)


def _range(match: re.Match[str]) -> Iterator[str] | None:
    first, last, step = match[1], match[2], abs(int(match[3] or 1)) or 1
    if first.isalpha() != last.isalpha():
        return None
    begin, end = (ord(first), ord(last)) if first.isalpha() else (int(first), int(last))
    numbers = range(begin, end + 1, step) if begin <= end else range(begin, end - 1, -step)
    if first.isalpha():
        return map(chr, numbers)
    padded = any(re.match(r"-?0\d", text) for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return (f"{number:0{width}}" for number in numbers)
