"""Groups of regular expressions (of Rust's regex crate, which DataFusion runs), and which may take no part."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from mmflow.errors import PlanError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.errors import build_refusal
from mmflow.plan.functions.base import PlanFunction

__all__ = ["PatternCheck", "captured_one_by_one"]


@dataclass(frozen=True, slots=True)
class _Group:
    """Opening of a capturing group: the text from `start` to `end`, such as `(` or `(?P<name>`."""

    start: int
    end: int


def captured_one_by_one(pattern: str, flags: str = "") -> list[str]:
    """Return a pattern's variants, in each of which another group is the only one that captures.

    Args:
        pattern: A regular expression of Rust's regex crate.
        flags: Flags given beside the pattern.

    Returns:
        One pattern a group; nothing where every group takes part in every match.

    Raises:
        PlanError: It has comments, in which parentheses are no groups.

    >>> captured_one_by_one("(b)(x)?(y)")
    ['(b)(?:x)?(?:y)', '(?:b)(x)?(?:y)', '(?:b)(?:x)?(y)']
    >>> captured_one_by_one("(b)(y)")
    []
    """
    groups, may_miss, verbose = _groups(pattern)
    if not groups or not may_miss:
        return []
    if (verbose or "x" in flags) and "#" in pattern:
        raise PlanError(
            "regexp_match: a pattern with comments and groups that may take no part; leave the comments out"
        )
    return [_with_one(pattern, groups, kept) for kept in groups]


def _with_one(pattern: str, groups: list[_Group], kept: _Group) -> str:
    made, at = "", 0
    for group in groups:
        made += pattern[at : group.start] + (pattern[group.start : group.end] if group is kept else "(?:")
        at = group.end
    return made + pattern[at:]


def _groups(pattern: str) -> tuple[list[_Group], bool, bool]:
    """Return the capturing groups, whether one may take no part in a match, and whether a flag allows comments."""
    groups: list[_Group] = []
    may_miss = verbose = False
    for at, c in _plain(pattern):
        following = pattern[at + 1 : at + 2]
        if c == "|" or (c == ")" and following in ("?", "*", "{") and following):
            may_miss = True
        elif c == "(" and following != "?":
            groups.append(_Group(at, at + 1))
        elif c == "(" and pattern.startswith(("(?P<", "(?<"), at):
            groups.append(_Group(at, pattern.find(">", at) + 1 or len(pattern)))
        elif c == "(":
            flags = pattern[at + 2 :].partition(")")[0].partition(":")[0].partition("-")[0]
            verbose |= "x" in flags
    return groups, may_miss, verbose


def _plain(pattern: str) -> Iterator[tuple[int, str]]:
    """Yield the characters of a pattern that are neither escaped nor in a class, and where they stand."""
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 2
        elif pattern[at] == "[":
            at = _behind_class(pattern, at)
        else:
            yield at, pattern[at]
            at += 1


def _behind_class(pattern: str, at: int) -> int:
    """Return the position behind a class, which may hold classes."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
            if pattern.startswith("^", at + 1):
                at += 1
            if pattern.startswith("]", at + 1):  # as the first one it stands for itself
                at += 1
        elif pattern[at] == "]":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return at


class PatternCheck(PlanFunction):
    """Scalar function that returns patterns unchanged, and raises if a group may take no part in a match."""

    def __init__(self) -> None:
        super().__init__("mmflow_pattern", _checked, [pa.string_view()], pa.string_view())


def _checked(patterns: pa.Array) -> pa.Array:
    for pattern in set(patterns.to_pylist()):
        if pattern is not None and captured_one_by_one(pattern):
            raise build_refusal(
                f"regexp_match: groups of {pattern!r} may take no part; give the pattern as a literal"
            )
    return patterns
