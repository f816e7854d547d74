r"""Globs as text: what a pattern matches, for files here and at URLs.

    *  any characters    ?  one character    [ab] [a-z]  one of these    [!ab] [^ab]  none of these
    **  folders of any depth            \*  the character itself, without its meaning

Invariant: names that start with `.` or `_` are matched only by a part of a pattern that starts so itself.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

from mmflow.lazy.patterns import lazy_regex

__all__ = ["ANY_DEPTH", "fixed_folder", "fixed_stem", "is_glob", "is_hidden", "part_matches", "path_matches"]

#: The part of a pattern that stands for folders of any depth, or for none.
ANY_DEPTH = "**"

_MAGIC = lazy_regex(r"[*?[]|\\[][\\*?{},!]")
_HIDDEN = (".", "_")
_ESCAPED = lazy_regex(r"\\(.)", re.DOTALL)
#: Characters that a set in brackets names by their class, as POSIX does.
_CLASSES = {
    "[:alnum:]": "a-zA-Z0-9", "[:alpha:]": "a-zA-Z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:xdigit:]": "0-9a-fA-F", "[:space:]": " \t\n\r\f\v",
}  # fmt: skip


def is_glob(path: str) -> bool:
    r"""Return whether `path` has wildcard characters, or a backslash before one.

    >>> is_glob("data/*.csv"), is_glob("data/a.csv"), is_glob(r"data/a\[1].csv")
    (True, False, True)
    """
    return _MAGIC.search(path) is not None


def is_hidden(name: str) -> bool:
    """Return whether a name is not data's: _SUCCESS, _manifest, .crc, .staging, by the convention of Hadoop."""
    return name.startswith(_HIDDEN)


def fixed_folder(pattern: str) -> str:
    """Return the folders of a pattern before its first wildcard; empty if there are none.

    >>> fixed_folder("data/2024/*/a[1].csv"), fixed_folder("*.csv")
    ('data/2024', '')
    """
    return _MAGIC.split(pattern, maxsplit=1)[0].partition("{")[0].rpartition("/")[0]


def fixed_stem(part: str) -> str:
    """Return the beginning of one part of a pattern, up to its first wildcard.

    >>> fixed_stem("part-*.csv"), fixed_stem("*")
    ('part-', '')
    """
    return _MAGIC.split(part, maxsplit=1)[0]


@lru_cache(256)
def _compiled(part: str) -> re.Pattern[str]:
    for name, members in _CLASSES.items():
        part = part.replace(name, members)
    plain = _ESCAPED.sub(
        lambda match: f"[{match[1]}]" if match[1] in "*?[" else match[1], part.replace("[^", "[!")
    )
    return re.compile(fnmatch.translate(plain))


def part_matches(part: str, name: str) -> bool:
    r"""Return whether one part of a pattern matches one name.

    >>> part_matches("*.csv", "a.csv"), part_matches("*", "_SUCCESS"), part_matches("_S*", "_SUCCESS")
    (True, False, True)
    >>> part_matches(r"a\[[0-9]\].csv", "a[1].csv")
    True
    """
    if name[:1] in _HIDDEN and part[:1] != name[0]:
        return False
    return _compiled(part).match(name) is not None


def path_matches(pattern: list[str], path: Sequence[str]) -> bool:
    """Return whether the parts of a pattern match those of a path.

    >>> path_matches(["**", "*.csv"], ["a", "b", "c.csv"]), path_matches(["**", "*.csv"], ["_tmp", "c.csv"])
    (True, False)
    """
    if pattern[-1:] == [ANY_DEPTH]:
        pattern = [*pattern, "*"]
    reached = {0}  # how many parts of the pattern can be behind us
    for name in path:
        reached = _with_skipped(pattern, reached)
        reached = {i for i in reached if i < len(pattern) and _takes(pattern[i], name)} | {
            i + 1
            for i in reached
            if i < len(pattern) and pattern[i] != ANY_DEPTH and part_matches(pattern[i], name)
        }
    return len(pattern) in _with_skipped(pattern, reached)


def _takes(part: str, name: str) -> bool:
    return part == ANY_DEPTH and not is_hidden(name)


def _with_skipped(pattern: Sequence[str], reached: set[int]) -> set[int]:
    """Return the places that are reached also by letting `**` stand for no folder."""
    more = set(reached)
    for place in reached:
        while place < len(pattern) and pattern[place] == ANY_DEPTH:
            place += 1
            more.add(place)
    return more
