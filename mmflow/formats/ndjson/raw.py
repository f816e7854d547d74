"""Parts of JSON as they are written, for values of the type `json` and for fields that a schema lacks.

White space around parts goes; numbers, escapes and the order of keys stay as they are. A repeated key has its last
value, at the place of the first.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # in no stub

from mmflow.lazy.patterns import lazy_regex

__all__ = ["minified", "raw_items", "raw_members"]

_BLANK = lazy_regex(r"[ \t\r\n]*")
_SPACE = lazy_regex(r'("(?:[^"\\]|\\.)*+")|[ \t\r\n]+', re.DOTALL)
_decode = json.JSONDecoder(parse_float=str, parse_int=str).raw_decode


def minified(text: str) -> str:
    """Return valid JSON without white space outside of text.

    >>> minified('{ "a b" : [1, 2.50] }')
    '{"a b":[1,2.50]}'
    """
    return _SPACE.sub(lambda m: m[1] or "", text)


def raw_members(text: str) -> dict[str, str]:
    """Return the values of an object, as they are written, by key.

    >>> raw_members('{"a": 1.0, "b": [ 2 ]}')
    {'a': '1.0', 'b': '[ 2 ]'}
    """
    found: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1)
        begin = _skip(text, _skip(text, at) + 1)
        _, end = _decode(text, begin)
        found[key] = text[begin:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def raw_items(text: str) -> list[str]:
    """Return the items of a list, as they are written.

    >>> raw_items('[1, {"a": 2}]')
    ['1', '{"a": 2}']
    """
    found: list[str] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _decode(text, at)
        found.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
