"""Text that is part of every match of a regular expression.

The expressions are those of Rust's regex crate, which DataFusion runs. Only what is plainly understood counts: an
expression with anything else in it (alternatives outside of groups, flags, escapes that aren't known) requires nothing.
"""

from __future__ import annotations

__all__ = ["required_text", "required_texts"]

_BREAKS = frozenset("dDwWsSbB")  # escapes that stand for one of many characters, or for a place
_PUNCTUATION = frozenset(".+*?()|[]{}^$-/&~#")
_MOST = 4096


def required_text(pattern: str) -> str:
    """Return the longest run of characters that is in every match of a pattern; empty if none is known.

    >>> required_text("item/4[0-9]9 .* 50[03] ")
    'item/4'
    >>> required_text("colou?r|grey")
    ''
    """
    return max(_known_runs(pattern, shared=True), key=len, default="")


def required_texts(pattern: str) -> list[str]:
    """Return runs of characters that every match of a pattern holds one behind the other; empty if none is known.

    >>> required_texts("item/4[0-9]9 .* 50[03] ")
    ['item/4', '9 ', ' 50', ' ']
    """
    return [run for run in _known_runs(pattern, shared=False) if run]


def _known_runs(pattern: str, *, shared: bool) -> list[str]:
    if len(pattern) > _MOST:
        return []
    try:
        return _runs(pattern, shared=shared)
    except _UnknownError:
        return []


class _UnknownError(Exception):
    """Pattern with a part that this module does not understand."""


def _runs(pattern: str, *, shared: bool) -> list[str]:
    """Return the runs of characters that every match has outside of groups and classes.

    With `shared`, a character that may be repeated ends one run and begins the next, though it may be one character.
    """
    runs, run, at = [], "", 0
    while at < len(pattern):
        literal, at = _atom(pattern, at)
        optional, repeated, at = _quantifier(pattern, at)
        if literal is None or optional:
            runs.append(run)
            run = ""
        else:
            run += literal
            if repeated:
                # Once more or any number of times: what follows does not follow directly.
                runs.append(run)
                run = literal if shared else ""
    return [*runs, run]


def _atom(pattern: str, at: int) -> tuple[str | None, int]:
    """Return the character that must stand there, None for one of many, and the position behind it."""
    c = pattern[at]
    if c in "|)]{}*+?":
        raise _UnknownError
    if c == "\\":
        escaped = pattern[at + 1 : at + 2]
        if escaped in _BREAKS and escaped:
            # \b{start} and the like are not looked at
            if pattern[at + 2 : at + 3] == "{":
                raise _UnknownError
            return None, at + 2
        if escaped in _PUNCTUATION and escaped:
            return escaped, at + 2
        raise _UnknownError
    if c == "[":
        return None, _behind_class(pattern, at)
    if c == "(":
        return None, _behind_group(pattern, at)
    return (None if c in ".^$" else c), at + 1


def _behind_class(pattern: str, at: int) -> int:
    at += 1
    if pattern[at : at + 1] == "^":
        at += 1
    if pattern[at : at + 1] == "]":  # as the first one it stands for itself
        at += 1
    while at < len(pattern):
        c = pattern[at]
        if c == "[":  # a class within a class
            raise _UnknownError
        if c == "]":
            return at + 1
        at += 2 if c == "\\" else 1
    raise _UnknownError


def _behind_group(pattern: str, at: int) -> int:
    at += 1
    if pattern[at : at + 1] == "?":
        if pattern[at + 1 : at + 2] != ":":  # flags, names
            raise _UnknownError
        at += 2
    while at < len(pattern):
        c = pattern[at]
        if c == ")":
            return at + 1
        if c == "[":
            at = _behind_class(pattern, at)
        elif c == "(":
            at = _behind_group(pattern, at)
        else:
            at += 2 if c == "\\" else 1
    raise _UnknownError


def _quantifier(pattern: str, at: int) -> tuple[bool, bool, int]:
    """Return whether the atom before may be absent, whether it may repeat, and the position behind."""
    c = pattern[at : at + 1]
    if c not in ("*", "+", "?", "{") or not c:
        return False, False, at
    if c == "{":
        at = pattern.find("}", at)
        if at < 0:
            raise _UnknownError
    at += 1
    if pattern[at : at + 1] == "?":  # as few as possible
        at += 1
    if pattern[at : at + 1] in ("*", "+", "?", "{") and at < len(pattern):
        raise _UnknownError
    # Of {m,n} the numbers are not looked at.
    return c != "+", True, at
