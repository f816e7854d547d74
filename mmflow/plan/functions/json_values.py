"""Functions of text of JSON, with the names and meanings of DuckDB.

    json_extract('{"a": [1, 2.50]}', '$.a[1]')     2.50        text of JSON
    json_extract_string('{"a": "x"}', '$.a')       x           text without quotes and escapes; null for null

A path is `$` and steps (`.key`, `["a key"]`, `[0]`, `[-1]` from the end), or a key.

Here they are defined, one value at a time, by Python's json. Many texts and one path are given to a kernel
(`json_extraction`), which leaves texts that are rare, or no JSON, to this definition.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa

from mmflow.formats.ndjson.raw import minified, raw_items, raw_members
from mmflow.formats.ndjson.values import parse_value
from mmflow.lazy import compute as pc
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.errors import build_refusal
from mmflow.plan.functions.base import PlanFunction
from mmflow.plan.functions.json_extraction import extract

__all__ = ["JSON_FUNCTIONS", "JsonFunction", "parse_value_path", "value_of"]

Step = str | int
_STEP = lazy_regex(
    r"""\.(?P<key>[^\W\d][\w-]*|"(?:[^"\\]|\\.)*")|\[(?P<item>-?\d+)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*')\]"""
)
_TEXT = pa.string_view()
_SHOWN = 60


@lru_cache(maxsize=1024)
def parse_value_path(path: str) -> tuple[Step, ...]:
    """Parse a path to one value.

    Raises:
        ValueError: It begins with `$` and is none.

    >>> parse_value_path('$.a[0]["b c"]'), parse_value_path("a.b")
    (('a', 0, 'b c'), ('a.b',))
    """
    if not path.startswith("$"):
        return (path,)
    steps: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"{path!r} is no path of JSON: it has no step at {path[at:]!r}")
        key = match["key"] or match["quoted"]
        if key is None:
            steps.append(int(match["item"]))
        elif key[0] == '"':
            steps.append(json.loads(key))
        else:
            steps.append(key[1:-1] if key[0] == "'" else key)
        at = match.end()
    return tuple(steps)


def _find(text: str, path: str) -> str | None:
    """Return the value at a path as it is written; None: there is none.

    Raises:
        ValueError: The text is no JSON, or the path is none.
        RecursionError: It is nested too deep.
    """
    steps = parse_value_path(path)
    parse_value(text)
    raw: str | None = text.strip(" \t\r\n")
    for step in steps:
        assert raw is not None
        if isinstance(step, str):
            raw = raw_members(raw).get(step) if raw[0] == "{" else None
        else:
            items = raw_items(raw) if raw[0] == "[" else []
            raw = items[step] if -len(items) <= step < len(items) else None
        if raw is None:
            return None
    return raw


def _string(raw: str) -> str | None:
    if raw[0] == '"':
        made: str = json.loads(raw)
        made.encode()  # a lone surrogate is no text
        return made
    return None if raw == "null" else minified(raw)


def _type(raw: str) -> str:
    match raw[0]:
        case "{":
            return "OBJECT"
        case "[":
            return "ARRAY"
        case '"':
            return "VARCHAR"
        case "t" | "f":
            return "BOOLEAN"
        case "n":
            return "NULL"
    if any(c in raw for c in ".eE"):
        return "DOUBLE"
    if not -(1 << 63) <= int(raw) < 1 << 64:
        return "DOUBLE"
    return "BIGINT" if raw[0] == "-" else "UBIGINT"


def _length(raw: str) -> int:
    return len(raw_items(raw)) if raw[0] == "[" else 0


def _keys(raw: str) -> list[str]:
    return list(raw_members(raw)) if raw[0] == "{" else []


#: Functions by name: what is done with the value at the path, and the type of the result.
JSON_FUNCTIONS: dict[str, tuple[Callable[[str], Any], pa.DataType]] = {
    "json_extract": (minified, _TEXT),
    "json_extract_string": (_string, _TEXT),
    "json_type": (_type, _TEXT),
    "json_array_length": (_length, pa.int64()),
    "json_keys": (_keys, pa.list_(pa.string_view())),
    "json_valid": (bool, pa.bool_()),
}


class JsonFunction(PlanFunction):
    """Scalar function of text of JSON and a path."""

    def __init__(self, name: str) -> None:
        kind = JSON_FUNCTIONS[name][1]

        def call(texts: pa.Array, paths: pa.Array) -> pa.Array:
            path = _only_path(paths)
            found = None if path is None else extract(name, texts, parse_value_path(path))
            if found is None:
                pairs = zip(texts.to_pylist(), paths.to_pylist(), strict=True)
                return pa.array([value_of(name, text, each) for text, each in pairs], kind)
            made, left = found
            if not len(left):
                return made
            values = made.to_pylist()
            for number in left.tolist():
                values[number] = value_of(name, texts[number].as_py(), path)
            return pa.array(values, kind)

        self.call = call
        super().__init__(f"mmflow_{name}", call, [_TEXT, _TEXT], kind, (name,))


def _only_path(paths: pa.Array) -> str | None:
    """Return the path that is that of all values; None: there are several, or it is none."""
    if not len(paths) or paths.null_count:
        return None
    texts = paths.cast(pa.string())
    if not pc.all(pc.equal(texts, texts[0])).as_py():
        return None
    path: str = texts[0].as_py()
    try:
        parse_value_path(path)
    except ValueError:  # which is said of a value
        return None
    return path


def value_of(name: str, text: str | None, path: str | None) -> Any:
    """Return the result of a function for one text.

    Raises:
        PlanError: The text is no JSON, or the path none.
    """
    if text is None or path is None:
        return None
    try:
        raw = _find(text, path)
        return None if raw is None else JSON_FUNCTIONS[name][0](raw)
    except (ValueError, RecursionError) as error:
        if name == "json_valid":
            return False
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        why = "its brackets are nested too deep" if isinstance(error, RecursionError) else str(error)
        raise build_refusal(
            f"{name} of {shown!r}: {why}; json_valid(x) says which values are JSON"
        ) from error
