"""Installed packages by name and version, with their requirements."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Mapping

__all__ = ["versions_of"]


def versions_of(tops: Iterable[str]) -> list[str]:
    """Return "name version" of the packages of some modules and of their requirements, sorted.

    Args:
        tops: Names of modules without dots. Modules of Python, of mmflow and of no package are ignored.
    """
    found: set[str] = set()
    for top in tops:
        if top != "mmflow" and top not in sys.stdlib_module_names:
            for name in _names(top):
                found |= _with_requirements(name)
    return sorted(f"{name} {version}" for name in found if (version := _version(name)))


@functools.cache
def _names(top: str) -> tuple[str, ...]:
    if _version(top):
        return (top,)
    return tuple(sorted(set(_packages().get(top, ()))))


@functools.cache
def _packages() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name) or ""
    except (importlib.metadata.PackageNotFoundError, KeyError, ValueError):
        return ""


@functools.cache
def _with_requirements(name: str) -> frozenset[str]:
    found, left = set[str](), [name]
    while left:
        one = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if one in found or not _version(one):
            continue
        found.add(one)
        for text in importlib.metadata.requires(one) or ():
            match = re.match(r"[\w.-]+", text)
            if match:
                left.append(match[0])
    return frozenset(found)
