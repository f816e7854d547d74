"""Paths to the records of JSON documents: `$.data[*]`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mmflow.errors import ConfigError
from mmflow.lazy.patterns import lazy_regex

__all__ = ["LIST", "Step", "auto_steps", "parse_path", "path_text"]

#: Step of a path: the key of an object, or every item of a list.
Step = str | None
LIST: Step = None

_STEP = lazy_regex(r"""\.(?P<key>[^\W\d][\w-]*)|\[(?P<item>\*)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*')\]""")


def parse_path(text: str) -> tuple[Step, ...]:
    """Parse a path.

    Raises:
        ConfigError: It is none.

    >>> parse_path('$.data[*]'), parse_path('$["a b"][*].row')
    (('data', None), ('a b', None, 'row'))
    """
    if not isinstance(text, str) or not text.startswith("$"):
        raise _refusal(text, "it begins with $")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise _refusal(text, f"it has no step at {text[at:]!r}")
        if match["item"]:
            steps.append(LIST)
        elif match["quoted"]:
            quoted = match["quoted"]
            steps.append(json.loads(quoted) if quoted[0] == '"' else quoted[1:-1])
        else:
            steps.append(match["key"])
        at = match.end()
    return tuple(steps)


def auto_steps(start: bytes) -> tuple[Step, ...]:
    """Return the path where none is given: the items of a list, or the documents themselves.

    Args:
        start: First bytes of the file.

    >>> auto_steps(b" [1, 2]"), auto_steps(b"{}")
    ((None,), ())
    """
    return (LIST,) if start.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:1] == b"[" else ()


def _refusal(text: object, why: str) -> ConfigError:
    return ConfigError(
        f'json_path = {text!r}: {why}; a path is $ and steps: .key, ["a key"], or [*] for all items of a list, '
        "such as $.data[*]"
    )


def path_text(steps: Sequence[Step]) -> str:
    """Write a path as `parse_path` reads it.

    >>> path_text(("a b", None))
    '$["a b"][*]'
    """
    made = "$"
    for step in steps:
        if step is LIST:
            made += "[*]"
        else:
            assert step is not None
            made += f".{step}" if _STEP.fullmatch(f".{step}") else f"[{json.dumps(step)}]"
    return made
