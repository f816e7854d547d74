"""Options of text of fixed width that say where columns are."""

from __future__ import annotations

import json
from typing import Any

from mmflow.errors import ConfigError

__all__ = ["END", "positions_option"]

#: End of a column that takes the rest of the line.
END = 1 << 30


def positions_option(key: str, value: Any) -> Any:
    """Return `widths` as numbers, or `colspecs` as pairs of positions.

    Raises:
        ConfigError: They are none.
    """
    given = value
    if isinstance(value, str):
        try:
            value = json.loads(value if value.lstrip().startswith("[") else f"[{value}]")
        except ValueError:
            value = None
    try:
        if key == "widths":
            made: Any = tuple(map(_whole, value))
            fits = bool(made) and all(width > 0 for width in made)
        else:
            made = tuple((_whole(begin), END if end is None else _whole(end)) for begin, end in value)
            fits = bool(made) and all(0 <= begin < end for begin, end in made)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        form = (
            "a list of numbers of characters"
            if key == "widths"
            else "a list of pairs [begin, end], end excluded"
        )
        raise ConfigError(f"{key} = {given!r}: must be {form}")
    return made


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value
