"""Options of CSV that say where records lie and how they are cut: from Python, TOML, SQL and the command line.

Invariant: every value that leaves this module fits its option.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mmflow.errors import ConfigError
from mmflow.formats.compression import compression_suffix
from mmflow.formats.csv.structure import BLANKS, Dialect
from mmflow.storage.url import file_name

__all__ = ["STRUCTURE", "check_dialect", "delimiter_bytes", "delimiter_of_name", "structure_option"]

#: Options that `structure_option` parses.
STRUCTURE = {
    "comment",
    "header",
    "lenient",
    "line_end",
    "names",
    "ragged",
    "skip_footer",
    "skip_rows",
    "trim",
}
_COUNTS = {"skip_rows", "skip_footer"}
_FLAGS = {"lenient", "trim"}
_CHOICES = {"line_end": ("auto", "any"), "ragged": ("error", "null", "truncate", "extra")}
#: Delimiters that the names of files say.
_DELIMITERS = {"tsv": "\t", "tab": "\t", "psv": "|"}


def structure_option(key: str, value: Any) -> Any:
    """Return the value of an option.

    Raises:
        ConfigError: It does not fit.
    """
    if key in _COUNTS:
        return _count(key, value)
    if key in _FLAGS:
        return _flag(key, value)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(_CHOICES[key])}")
        return value
    if key == "comment":
        return _comment(value)
    return _header(value) if key == "header" else _names(value)


def delimiter_of_name(path: str) -> str:
    """Return the delimiter that the name of a file says, a comma if none.

    >>> delimiter_of_name("a.tsv.gz"), delimiter_of_name("a.csv")
    ('\\t', ',')
    """
    name = file_name(path).lower()
    suffix = compression_suffix(name)
    return _DELIMITERS.get(name.removesuffix(suffix or "").rpartition(".")[2], ",")


def delimiter_bytes(text: str) -> bytes:
    r"""Return a delimiter of one or several characters, or `structure.BLANKS`.

    Raises:
        ConfigError: It is empty, or holds a line break, a NUL or what can't be told from data.
    """
    raw = text.encode()
    if raw == BLANKS or raw in (b" ", b"\t"):
        return raw
    if not raw or any(b in raw for b in b"\n\r\0"):
        raise ConfigError(
            f"delimiter = {text!r}: must be one character or several, without line breaks, or \\s+ for runs of blanks"
        )
    return raw


def check_dialect(dialect: Dialect) -> None:
    """Check that the bytes with a meaning can be told from each other.

    Raises:
        ConfigError: They can't.
    """
    given = {"quote": dialect.quote, "escape": dialect.escape, "comment": dialect.comment or None}
    for key, raw in given.items():
        if raw is not None and dialect.delimiter != BLANKS and dialect.delimiter.startswith(raw[:1]):
            raise ConfigError(
                f"{key} = {raw.decode()!r} begins as the delimiter {dialect.delimiter.decode()!r} does"
            )
    if dialect.escape is not None and dialect.escape == dialect.quote:
        raise ConfigError(
            "escape and quote are the same; leave escape out, since doubled quotes stand for one"
        )


def _flag(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ConfigError(f"{key} = {value!r}: must be true or false")


def _comment(value: Any) -> bytes:
    if not isinstance(value, str) or any(c in value for c in "\n\r\0"):
        raise ConfigError(f"comment = {value!r}: must be the text that comments begin with, such as '#'")
    return value.encode()


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
