"""Options of CSV that say where records lie and how they are cut: from Python, TOML, SQL and the command line.

Invariant: every value that leaves this module fits its option.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mmflow.errors import ConfigError

__all__ = ["STRUCTURE", "structure_option"]

#: Options that `structure_option` parses.
STRUCTURE = {"header", "names", "skip_footer", "skip_rows"}
_COUNTS = {"skip_rows", "skip_footer"}


def structure_option(key: str, value: Any) -> Any:
    """Return the value of an option.

    Raises:
        ConfigError: It does not fit.
    """
    if key in _COUNTS:
        return _count(key, value)
    return _header(value) if key == "header" else _names(value)


def _count(key: str, value: Any) -> int:
    number = _whole(value)
    if number is None or number < 0:
        raise ConfigError(f"{key} = {value!r}: must be a number of lines, 0 or more")
    return number


def _header(value: Any) -> tuple[int, ...]:
    """Return the numbers of the records that name the columns, from 1; none of them: there is no header."""
    wrong = ConfigError(
        f"header = {value!r}: must be true or false, the number of a row (the first is 1), or a list of such numbers"
    )
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in ("true", "false"):
            return (1,) if lowered == "true" else ()
        value = _json(value) if lowered.startswith("[") else lowered
    if isinstance(value, bool):
        return (1,) if value else ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        rows = [None if isinstance(v, bool) else _whole(v) for v in value]
        found = tuple(r for r in rows if r is not None)
        if len(found) < len(rows) or any(r < 1 for r in found) or list(found) != sorted(set(found)):
            raise wrong
        return found
    number = _whole(value)
    if number is None or number < 0:
        raise wrong
    return (number,) if number else ()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else [n.strip() for n in value.split(",")]
    if not isinstance(value, Sequence) or not all(isinstance(n, str) for n in value):
        raise ConfigError(f"names = {value!r}: must be a list of texts, such as 'a,b,c'")
    names = tuple(value)
    again = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if again is not None:
        raise ConfigError(f"names: {again!r} stands twice; every column has a name of its own")
    if "" in names or not names:
        raise ConfigError("names: every column needs a name")
    return names


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _whole(value: Any) -> int | None:
    try:
        return int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        return None
