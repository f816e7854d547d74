"""Regular expressions of modules, compiled when they are first used: 240 took 40 ms of a query of two lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import compile as lazy_regex
else:

    class lazy_regex:  # noqa: N801  (a function for its callers)
        """Pattern that is compiled with the first of its methods that is asked for.

        >>> word = lazy_regex(r"[a-z]+", re.IGNORECASE)
        >>> word.fullmatch("Ab")
        <re.Match object; span=(0, 2), match='Ab'>
        """

        def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
            self._written = pattern, flags

        def __getattr__(self, name: str) -> Any:
            value = self.__dict__[name] = getattr(re.compile(*self._written), name)
            return value


__all__ = ["lazy_regex"]
