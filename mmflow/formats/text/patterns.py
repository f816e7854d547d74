"""Regular expressions with named groups, and those of the logs that have a name.

The expressions are RE2's, which pyarrow runs; groups are named as in Python, `(?P<name>…)` or `(?<name>…)`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from types import MappingProxyType

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.text.conversion import LOG_TIME
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["NAMED", "NamedPattern", "group_names", "read_pattern", "with_groups"]

_OPENING = lazy_regex(r"\(\?P?<([^>=!][^>]*)>")
_PLACES = lazy_regex(r"\(\?P<([^>]+)>")


@dataclass(frozen=True, slots=True)
class NamedPattern:
    """Pattern of a well-known log.

    Attributes:
        text: Regular expression.
        types: Types of its groups; those that are not there are text.
        nulls: Texts that mean null.
        title: Name of the log for people.
    """

    text: str
    types: MappingProxyType[str, pa.DataType]
    nulls: tuple[str, ...]
    title: str


_QUOTED = r'(?:[^"\\]|\\.)*'
_COMMON = (
    r"^(?P<host>[^ ]+) (?P<ident>[^ ]+) (?P<user>[^\[]+) \[(?P<time>[^\]]+)\] "
    rf'"(?P<request>{_QUOTED})" (?P<status>[0-9]+|-) (?P<bytes>[0-9]+|-)'
)
_COMBINED = _COMMON + rf' "(?P<referer>{_QUOTED})" "(?P<user_agent>{_QUOTED})"'
_WEB = MappingProxyType({"time": LOG_TIME, "status": pa.int64(), "bytes": pa.int64()})
_SYSLOG = (
    r"^(?:<(?P<priority>[0-9]{1,3})>)?"
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[^ ]+) "
    r"(?P<host>[^ ]+) (?:(?P<app>[^ :\[\]]+)(?:\[(?P<pid>[0-9]+)\])?: ?)?(?P<message>.*)$"
)
_SYSLOG_5424 = (
    r"^<(?P<priority>[0-9]{1,3})>(?P<version>[0-9]{1,2}) (?P<time>[^ ]+) (?P<host>[^ ]+) (?P<app>[^ ]+) (?P<pid>[^ ]+) "
    r'(?P<msgid>[^ ]+) (?P<data>-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])+)(?: (?P<message>.*))?$'
)
#: Patterns by name. The time of RFC 3164 has no year, so it stays text.
NAMED = {
    "common": NamedPattern(_COMMON + "$", _WEB, ("", "-"), "the Common Log Format"),
    "combined": NamedPattern(_COMBINED + "(?: .*)?$", _WEB, ("", "-"), "the Combined Log Format"),
    "syslog": NamedPattern(
        _SYSLOG,
        MappingProxyType({"priority": pa.int64(), "pid": pa.int64()}),
        ("",),
        "syslog (RFC 3164)",
    ),
    "syslog5424": NamedPattern(
        _SYSLOG_5424,
        MappingProxyType({"priority": pa.int64(), "version": pa.int64(), "time": LOG_TIME}),
        ("", "-"),
        "syslog (RFC 5424)",
    ),
}


def read_pattern(pattern: str) -> str:
    """Return a pattern as RE2 takes it; groups without a name don't capture.

    Raises:
        ConfigError: It is no regular expression, or has no named group.
    """
    parts, at, inside = [], 0, False
    while at < len(pattern):
        c = pattern[at]
        if c == "\\":
            parts.append(pattern[at : at + 2])
            at += 2
            continue
        if inside and pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            parts.append(pattern[at : end + 2])
            at = end + 2
            continue
        if inside:
            # The first bracket of a class stands for itself.
            first = parts[-1] in ("[", "[^")
            inside = c != "]" or first
        elif c == "[":
            inside = True
            if pattern[at + 1 : at + 2] == "^":
                c = "[^"
        elif c == "(":
            named = _OPENING.match(pattern, at)
            if named is not None:
                parts.append(f"(?P<{named[1]}>")
                at = named.end()
                continue
            c = "(" if pattern[at + 1 : at + 2] == "?" else "(?:"
            parts.append(c)
            at += 1
            continue
        parts.append(c)
        at += len(c)
    made = "".join(parts)
    names = group_names(made)
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(f"pattern: two groups are called {twice!r}; give them different names")
    try:
        pc.match_substring_regex(pa.array([""], pa.string()), made)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"pattern is no regular expression of RE2 ({str(error).removeprefix('Invalid regular expression: ')}): "
            f"{pattern!r}; it has neither lookaround nor backreferences"
        ) from error
    if not names:
        raise ConfigError(
            f"pattern = {pattern!r} has no named group; name what becomes a column: (?P<name>...), or name a log: "
            f"{', '.join([*NAMED, 'logfmt', 'w3c', 'json'])}"
        )
    return made


def group_names(pattern: str) -> tuple[str, ...]:
    """Return the names of the groups of a pattern as `read_pattern` returns it, in order."""
    return tuple(_PLACES.findall(_without_escapes(pattern)))


def with_groups(pattern: str, names: Collection[str]) -> str:
    """Return the pattern with the groups of these names only; others don't capture."""
    hidden = _without_escapes(pattern)
    parts, at = [], 0
    for group in _PLACES.finditer(hidden):
        parts.append(pattern[at : group.start()])
        parts.append(group[0] if group[1] in names else "(?:")
        at = group.end()
    return "".join([*parts, pattern[at:]])


def _without_escapes(pattern: str) -> str:
    """Return a text of the same length without the brackets that stand for themselves."""
    return re.sub(
        r"\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]", lambda m: "_" * len(m[0]), pattern, flags=re.DOTALL
    )
