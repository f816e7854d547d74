"""The modules that user code can reach, for the digest of what it computes.

    job.py  --import helper-->  helper.py  --from pkg import deep-->  pkg/__init__.py, pkg/deep.py
       \\                                                                  \\--import numpy--> numpy 2.3, by version
        \\--helper.K (a name in the code)-->  the value that K has now

The user's modules, and those of packages that are installed as links to their sources, count by their source; other
packages by name and version, with what they require.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

from mmflow.usercode.folder import CodeFolder, JobFolder, folder_of
from mmflow.usercode.ownership import is_editable, is_users
from mmflow.usercode.packages import versions_of
from mmflow.usercode.statements import (
    DYNAMIC,
    absolute_names,
    compiled,
    located,
    names_in,
    statements_in,
    texts_in,
)

__all__ = ["Reached", "source_digest"]


class Reached:
    """Modules that the functions and classes of one digest reach. Single-threaded.

    Attributes:
        active: Some code is the user's own.
    """

    def __init__(self) -> None:
        self.active = False
        self._users: dict[str, bool] = {}
        #: The user's modules, with the digests of their sources; none for those that have no file.
        self._sources: dict[str, bytes] = {}
        self._packages: set[str] = set()
        self._names: set[str] = set()
        self._given: set[tuple[str, str]] = set()
        self._all_of: set[str] = set()

    def is_users(self, name: str) -> bool:
        """Return whether a loaded module counts by its source."""
        known = self._users.get(name)
        if known is None:
            module = sys.modules.get(name)
            known = self._users[name] = module is not None and _by_source(
                name, getattr(module, "__file__", None)
            )
        return known

    def add_code(self, code: CodeType, module: str) -> None:
        """Add code of one of the user's modules."""
        self.active = True
        self._names |= names_in(code) | texts_in(code)
        self.add_module(module)
        package = getattr(sys.modules.get(module), "__package__", None) or ""
        self._add_imports(code, module, package)

    def add_module(self, name: str) -> None:
        """Add a module that code refers to, the user's own or another."""
        top = name.partition(".")[0]
        if name in self._sources or top in self._packages:
            return
        place = located(name)
        if place is None:  # an attribute of a module, or it is not there
            return
        file = place.origin if isinstance(place, ModuleSpec) else getattr(place, "__file__", None)
        if not _by_source(name, file):
            if file is not None:  # else a folder, in which others may have modules, too
                self._packages.add(top)
            return
        self.active = True
        folder = folder_of(name)
        source = _read(file, folder)
        self._sources[name] = b"" if source is None else hashlib.blake2b(source).digest()
        code = None if source is None or file is None else compiled(source, os.path.basename(file))
        if code is None:
            return
        if isinstance(place, ModuleSpec):
            package = name if place.submodule_search_locations is not None else place.parent or ""
        else:
            package = getattr(place, "__package__", None) or ""
        self._add_imports(code, name, package)

    def _add_imports(self, code: CodeType, module: str, package: str) -> None:
        folder = folder_of(module)
        for statement in statements_in(code):
            named = (
                statement if statement.level else statement._replace(name=folder.full_name(statement.name))
            )
            for name in absolute_names(named, package):
                if name != folder.prefix:
                    self.add_module(name)
        if names_in(code) & DYNAMIC and folder.prefix not in self._all_of:
            self._all_of.add(folder.prefix)
            self._add_all(folder)

    def _add_all(self, folder: CodeFolder) -> None:
        """Add all modules that code may import by a computed name."""
        for name, module in sys.modules.copy().items():
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and folder_of(name) is folder and is_users(name, file):
                self.add_module(name)
        for path in folder.files():
            if isinstance(folder, JobFolder):
                name = f"{folder.prefix}/{os.path.relpath(path, folder.path)}"
                self._sources[name] = hashlib.blake2b(folder.source(path)).digest()

    # ---- what it comes to ---------------------------------------------------------------------------------

    def new_values(self) -> list[tuple[str, str, object]]:
        """Return globals of reached modules that reached code may name: module, name, value. Return each only once."""
        found = []
        for name in sorted(self._sources):
            values = getattr(sys.modules.get(name), "__dict__", {})
            for one in sorted(self._names & values.keys()):
                if (name, one) not in self._given:
                    self._given.add((name, one))
                    found.append((folder_of(name).relative(name), one, values[one]))
        return found

    def sources(self) -> Iterator[tuple[bytes, ...]]:
        """Yield the modules with the digests of their sources, and the packages with their versions."""
        if self.active:
            yield b"Python", ".".join(platform.python_version_tuple()[:2]).encode()
        for name, source in self._sources.items():
            yield folder_of(name.partition("/")[0]).relative(name).encode(), source
        for text in versions_of(self._packages):
            yield b"package", text.encode()

    def users_digest(self) -> str:
        """Return a digest of the sources of the user's modules alone."""
        named = {folder_of(n.partition("/")[0]).relative(n): source for n, source in self._sources.items()}
        made = hashlib.blake2b(digest_size=16)
        for name in sorted(named):
            made.update(f"{name}\0".encode() + named[name])
        return made.hexdigest()


def source_digest(path: str | None) -> bytes:
    """Return the digest of a file as it is now; that of no bytes if it can't be read."""
    source = None if path is None else _file(path)
    return b"" if source is None else hashlib.blake2b(source).digest()


def _by_source(name: str, file: str | None) -> bool:
    return is_users(name, file) or is_editable(name, file) or _is_library(name, file)


def _is_library(name: str, file: str | None) -> bool:
    """Return whether a module is one of the user's compiled modules."""
    return file is not None and file.endswith((".so", ".pyd")) and is_users(name, f"{file}.py")


def _read(file: str | None, folder: CodeFolder) -> bytes | None:
    if file is None:
        return None
    if isinstance(folder, JobFolder):
        try:
            return folder.source(file)
        except OSError:
            return None
    return _file(file)


def _file(path: str) -> bytes | None:
    try:
        status = os.stat(path)
        return _file_as_of(path, status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        return None


@functools.lru_cache(1 << 10)
def _file_as_of(path: str, mtime_ns: int, size: int, inode: int) -> bytes:
    return Path(path).read_bytes()
