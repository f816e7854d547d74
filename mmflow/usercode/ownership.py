"""Ownership of modules: the user's own travel to workers with functions, those of installed packages never do.

/venv/lib/python3.11/site-packages/…    installed: by reference
~/.local/lib/…/site-packages/…          likewise, of a user or another environment
/opt/libs/pkg (PYTHONPATH), with pkg-1.0.dist-info beside it that lists it    likewise
/home/me/pkg (pip install -e)           likewise, whoever built it
job.py, helpers.py                      the user's: by value
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import site
import sysconfig
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["is_editable", "is_installed", "is_users"]

_PACKAGES = ("site-packages", "dist-packages")


def is_users(name: str, file: str | None) -> bool:
    """Return whether a module is the user's own Python code: neither of Python, nor installed, nor mmflow's.

    Args:
        name: Name of the module, with its packages.
        file: File that it was loaded from; None: no file, as a notebook's `__main__`.
    """
    if name.partition(".")[0] == "mmflow":
        return False
    if name == "__main__":
        return True
    return file is not None and file.endswith(".py") and not is_installed(name, file)


def is_editable(name: str, file: str | None) -> bool:
    """Return whether a module is of a package that is installed as a link to its sources, which may be edited."""
    if file is None or name.partition(".")[0] == "mmflow":
        return False
    path, top = os.path.abspath(file), name.partition(".")[0]
    return any(path.startswith(folder) and top in names for folder, names in _editable())


@functools.lru_cache(1 << 14)
def is_installed(name: str, file: str) -> bool:
    """Return whether a module is of Python or of an installed package, which workers have themselves.

    Args:
        name: Name of the module, with its packages.
        file: File that it was loaded from.
    """
    path = os.path.abspath(file)
    if path.startswith(_python_folders()) or any(f"{os.sep}{n}{os.sep}" in path for n in _PACKAGES):
        return True
    top = name.partition(".")[0]
    if _is_listed(_root(name, path), top):
        return True
    return any(path.startswith(folder) and top in names for folder, names in _editable())


@functools.cache
def _python_folders() -> tuple[str, ...]:
    # Not the environment's root: a project may well have it as a folder of its own.
    folders = {sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.dirname(os.__file__), site.getusersitepackages(), *site.getsitepackages()}
    return tuple(os.path.abspath(folder) + os.sep for folder in folders)


def _root(name: str, path: str) -> str:
    """Return the folder from which a module is imported."""
    folder = os.path.dirname(path)
    up = name.count(".") + (os.path.basename(path) == "__init__.py")
    for _ in range(up):
        folder = os.path.dirname(folder)
    return folder


@functools.lru_cache(1 << 10)
def _is_listed(root: str, top: str) -> bool:
    """Return whether a distribution with metadata in a folder lists a package there."""
    try:
        names = os.listdir(root)
    except OSError:
        return False
    infos = (n for n in names if n.endswith((".dist-info", ".egg-info")))
    return any(top in _names(PathDistribution(Path(root, n))) for n in infos)


def _names(distribution: Distribution) -> set[str]:
    """Return the packages and modules that a distribution lists."""
    listed = (distribution.read_text("top_level.txt") or "").split()
    if listed:
        return set(listed)
    tops = (str(file).partition("/") for file in distribution.files or ())
    return {top if rest else top.removesuffix(".py") for top, rest, _ in tops}


@functools.cache
def _editable() -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the folders of projects that are installed editable, and the packages that each may have."""
    found = []
    for distribution in importlib.metadata.distributions():
        try:
            url_facts = json.loads(distribution.read_text("direct_url.json") or "{}")
            if url_facts.get("dir_info", {}).get("editable"):
                folder = os.path.abspath(unquote(urlsplit(url_facts["url"]).path)) + os.sep
                # Not all builders list what an editable project has; its packages are mostly called as it is.
                own = re.sub(r"[-_.]+", "_", distribution.name).lower()
                found.append((folder, frozenset({own, *_names(distribution)})))
        except (ValueError, KeyError, AttributeError, OSError):
            continue  # metadata that nobody can read say nothing
    return tuple(found)
