"""Import statements of code objects at any depth, and the modules that they name.

Invariant: nothing is imported to find out.
"""

from __future__ import annotations

import dis
import functools
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import NamedTuple

__all__ = [
    "DYNAMIC",
    "Statement",
    "absolute_names",
    "compiled",
    "located",
    "names_in",
    "statements_in",
    "texts_in",
]

#: Names by which code imports, or runs, what no statement names.
DYNAMIC = frozenset(
    {
        "__import__",
        "eval",
        "exec",
        "find_spec",
        "import_module",
        "run_module",
        "run_path",
        "spec_from_file_location",
    }
)


class Statement(NamedTuple):
    """`from <level dots><name> import <names>`, or `import <name>` without names."""

    level: int
    name: str
    names: tuple[str, ...]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def names_in(code: CodeType) -> set[str]:
    """Return the names of globals and attributes that code uses."""
    return {name for c in _codes(code) for name in c.co_names}


def texts_in(code: CodeType) -> set[str]:
    """Return the constants of code that could be names of modules or attributes."""
    found = {text for c in _codes(code) for text in c.co_consts if isinstance(text, str) and len(text) < 200}
    return {text for text in found if all(part.isidentifier() for part in text.split("."))}


def statements_in(code: CodeType) -> Iterator[Statement]:
    """Yield the import statements of code, and of the functions and classes in it."""
    for c in _codes(code):
        before: list[object] = [0, None]
        for instruction in dis.get_instructions(c):
            if instruction.opname == "IMPORT_NAME":
                level, names = before[-2:]
                yield Statement(
                    level if isinstance(level, int) else 0,
                    str(instruction.argval),
                    names if isinstance(names, tuple) else (),
                )
            if instruction.opname not in ("CACHE", "EXTENDED_ARG"):
                before.append(instruction.argval)


def absolute_names(statement: Statement, package: str) -> Iterator[str]:
    """Yield the modules that a statement may import: packages first, then the module, then its submodules."""
    name = statement.name
    if statement.level:
        try:
            name = importlib.util.resolve_name("." * statement.level + name, package)
        except ImportError:  # beyond the topmost package: it fails when it is run, too
            return
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])
    for more in statement.names:
        if more != "*":
            yield f"{name}.{more}"


def located(name: str) -> ModuleType | ModuleSpec | None:
    """Return a loaded module, or the place from which it would be loaded; None: no folder has it."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        package = located(parent)
        if isinstance(package, ModuleSpec):
            path = package.submodule_search_locations
        else:
            path = getattr(package, "__path__", None)
        if path is None:
            return None
    try:
        return PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None


@functools.lru_cache(1 << 12)
def compiled(source: bytes, path: str) -> CodeType | None:
    """Return the code of a file; None: it is not Python."""
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    assert isinstance(code, CodeType)
    return code
