"""Extension of Sphinx: pages of the API, written from the names of `mmflow.__all__` while they are read.

    docs/api/PAGE.rst    `.. names of: TOPIC` becomes the names below that comment of `__all__`, with their docstrings
    `.. members of: X`   becomes a table of the methods of a class, above their docstrings

Invariant: a public name is on one page: those that no page asks for are on api/index.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup", "topics"]

_INIT = Path(__file__).parents[2] / "mmflow" / "__init__.py"
_API = Path(__file__).parents[1] / "api"
_NAMES = re.compile(r"^\.\. names of: (.*)$", re.MULTILINE)
_MEMBERS = re.compile(r"^\.\. members of: (.*)$", re.MULTILINE)
_CLASSES = re.compile(r"^\.\. autoclass:: (\w+)$", re.MULTILINE)
#: Modules, which are listed by what they hold.
_MODULES = ("selectors", "functions")


def topics() -> Mapping[str, Sequence[str]]:
    """Return the public names below each comment of `__all__`."""
    listed = _INIT.read_text().partition("\n__all__ = [")[2].partition("\n]\n")[0]
    found: dict[str, list[str]] = {}
    for part in listed.split("    # ")[1:]:
        topic, _, names = part.partition("\n")
        found[topic] = re.findall(r'"(\w+)"', names)
    return found


def _written(app: Sphinx, docname: str, source: list[str]) -> None:
    if not docname.startswith("api/"):
        return
    app.env.note_dependency(str(_INIT))
    text = _NAMES.sub(lambda m: "\n".join(_entries(topics()[m[1]])), source[0])
    text = _MEMBERS.sub(lambda m: "\n".join(_table(m[1])), text)
    if docname == "api/index":
        pages = "".join(page.read_text() for page in _API.glob("*.rst"))
        there = {*_CLASSES.findall(pages), *_MODULES}.union(*(topics()[t] for t in _NAMES.findall(pages)))
        rest = [name for names in topics().values() for name in names if name not in there]
        text += "\n".join(("", *_entries(rest)))
    source[0] = text


def _entries(names: Sequence[str]) -> Iterator[str]:
    import mmflow as mf  # noqa: PLC0415  (its environment is added by conf.py)

    yield ".. currentmodule:: mmflow\n"
    for name in names:
        value = getattr(mf, name)
        if name in _MODULES:  # they have pages of their own
            continue
        if inspect.isclass(value) and issubclass(value, Exception):
            yield f".. autoexception:: {name}\n   :no-inherited-members:\n   :show-inheritance:\n"
        elif inspect.isclass(value):
            yield from _table(name)
            yield f".. autoclass:: {name}\n"
        elif callable(value):
            yield f".. autofunction:: {name}\n"
        else:
            yield f".. autodata:: {name}\n"


def _table(name: str) -> Iterator[str]:
    """Return a table of the methods of a class of mmflow, in the order of their names."""
    module, _, attribute = f"mmflow.{name}".rpartition(".")
    found: Any = getattr(__import__(module, fromlist=["_"]), attribute)
    members = [
        m for m in dir(found)
        if not m.startswith("_") and inspect.getdoc(getattr(found, m)) and callable(getattr(found, m))
    ]  # fmt: skip
    if len(members) > 1:
        yield f".. currentmodule:: {module}\n"
        yield ".. autosummary::\n   :nosignatures:\n"
        yield from (f"   {attribute}.{m}" for m in members)
        yield ""


def _plain(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Escape what reStructuredText takes for markup, outside of code: `*`, `|` and a `_` behind a word."""
    # A list of parameters that goes on in the next line.
    for n in reversed(range(len(lines) - 1)):
        if re.match(r"[\w*].*,$", lines[n]) and re.match(r"\w", lines[n + 1]):
            lines[n : n + 2] = [f"{lines[n]} {lines[n + 1]}"]
    for n, line in enumerate(lines):
        if ">>>" in line or line.startswith("    "):
            continue
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = (re.sub(r"(?<!\\)\*|\|(?!\|)|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2])
        lines[n] = "".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _written)
    # Before napoleon, which makes markup of its own.
    app.connect("autodoc-process-docstring", _plain, priority=100)
    return {"parallel_read_safe": True}
