"""Folder of a job, whose modules the job imports like a script, but apart from all other code.

    job.py:     import helper               sys.modules["mmflow_job_5f….helper"]
                from pkg import deep        sys.modules["mmflow_job_5f….pkg.deep"]
                import numpy                sys.modules["numpy"]

Code of the folder has an `__import__` of its own, among its builtins. So two jobs of one process have each their own
`helper`, also in functions that import it only when they are called. A file is read once: what is loaded, what counts
for the keys of tasks and what workers are sent is one version of it, whoever edits it meanwhile.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mmflow.usercode.ownership import is_installed

__all__ = ["PLAIN", "CodeFolder", "Importlib", "Imports", "JobFolder", "folder_of"]

#: Files of a folder that are looked at where imports can't be distinguished from code.
_MOST_FILES = 2_000


class Imports:
    """Imports of some code. `prefix` is the package of its own modules."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.builtins: dict[str, Any] = {**vars(builtins), "__import__": self.import_}

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  (`__import__` has these names)
        locals: Mapping[str, Any] | None = None,  # noqa: A002  (the same)
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Import as `__import__` does. Raises ImportError as that does."""
        try:
            found = self._own(name, globals, tuple(fromlist or ()), level)
            if found is not None:
                return found
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith(self.prefix):
                raise
            missing = self.relative(error.name)
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing) from None
        return Importlib(self) if module is importlib else module

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Import as `importlib.import_module` does. Raises ImportError as that does."""
        raise NotImplementedError

    def relative(self, name: str) -> str:
        """Return a module's name as code of the folder knows it."""
        return name.removeprefix(self.prefix).lstrip(".") if name.startswith(self.prefix) else name

    def _own(
        self,
        name: str,
        namespace: Mapping[str, Any] | None,
        names: tuple[str, ...],
        level: int,
    ) -> ModuleType | None:
        """Import one of its own modules; return None if the module is another."""
        raise NotImplementedError


class Importlib(ModuleType):
    """`importlib` as code of a folder sees it: its `import_module` finds the folder's modules."""

    def __init__(self, imports: Imports) -> None:
        super().__init__("importlib")
        self.__dict__.update(vars(importlib))
        self.import_module = imports.import_module
        self.__import__ = imports.import_
        self.imports = imports


class JobFolder(Imports):
    """Modules of one job's folder, as loaded for one job.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(f"mmflow_job_{uuid.uuid4().hex[:12]}")
        self.path = os.path.abspath(path)
        self._claimed: dict[str, bool] = {}
        self._sources: dict[str, bytes] = {}
        self._lock = threading.Lock()
        importlib.invalidate_caches()  # a file may be younger than the last listing of its folder
        package = ModuleType(self.prefix)
        package.__path__ = [self.path]
        sys.modules[self.prefix] = package
        _folders[self.prefix] = self
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)

    def load(self, file: Path) -> ModuleType:
        """Load a file of the folder. Raises what its code raises."""
        name = f"{self.prefix}.{file.stem.replace('.', '_')}"
        path = os.path.abspath(file)
        spec = ModuleSpec(name, _Loader(name, path, self), origin=path)
        spec.has_location = True
        module: ModuleType = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        _Loader(name, path, self).exec_module(module)
        return module

    def source(self, path: str) -> bytes:
        """Return the bytes of a file, as they were at the first call. Raises OSError."""
        with self._lock:
            known = self._sources.get(path)
            if known is None:
                known = self._sources[path] = Path(path).read_bytes()
            return known

    def claims(self, top: str) -> bool:
        """Return whether code of the folder that imports a name finds it in the folder."""
        known = self._claimed.get(top)
        if known is None:
            known = self._claimed[top] = self._finds(top)
        return known

    def _finds(self, top: str) -> bool:
        if top == "mmflow" or top in sys.builtin_module_names:
            return False
        spec = PathFinder.find_spec(f"{self.prefix}.{top}", [self.path])
        if spec is None:
            return False
        if top in sys.modules:
            usual: str | None = getattr(sys.modules[top], "__file__", None)
            loaded = True
        else:
            place = PathFinder.find_spec(top)
            usual, loaded = (None if place is None else place.origin), False
            if place is not None and spec.origin is None:
                return False
        if spec.origin is None:  # a folder without __init__.py, which may hold anything
            return not loaded
        # A package under development has its own tests and jobs beside it: there is one of it.
        same = usual is not None and os.path.realpath(usual) == os.path.realpath(spec.origin)
        return not (same and usual is not None and (loaded or is_installed(top, usual)))

    def full_name(self, name: str) -> str:
        """Return the name in `sys.modules` of a module, by its name in code of the folder."""
        return f"{self.prefix}.{name}" if self.claims(name.partition(".")[0]) else name

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Import as `importlib.import_module` does. Raises ImportError as that does."""
        return importlib.import_module(name if name.startswith(".") else self.full_name(name), package)

    def _own(
        self,
        name: str,
        namespace: Mapping[str, Any] | None,
        names: tuple[str, ...],
        level: int,
    ) -> ModuleType | None:
        top = name.partition(".")[0]
        if level or not self.claims(top):
            return None
        full = f"{self.prefix}.{name}"
        if names:
            module: ModuleType = builtins.__import__(full, namespace, None, names, 0)
            return module
        importlib.import_module(full)
        return sys.modules[f"{self.prefix}.{top}"]

    def files(self) -> Iterator[str]:
        """Yield the paths of the folder's Python files in order, except those in hidden folders and environments."""
        count = 0
        for here, folders, names in os.walk(self.path):
            inner = (
                f for f in folders if not f.startswith(".") and f not in ("__pycache__", "site-packages")
            )
            folders[:] = sorted(f for f in inner if not os.path.exists(os.path.join(here, f, "pyvenv.cfg")))
            for name in sorted(n for n in names if n.endswith(".py")):
                count += 1
                if count > _MOST_FILES:
                    return
                yield os.path.join(here, name)


class PythonImports(Imports):
    """Imports of code in no job's folder: those of Python."""

    def full_name(self, name: str) -> str:
        return name

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        return importlib.import_module(name, package)

    def _own(
        self,
        name: str,
        namespace: Mapping[str, Any] | None,
        names: tuple[str, ...],
        level: int,
    ) -> ModuleType | None:
        return None

    def files(self) -> Iterator[str]:
        return iter(())


CodeFolder = JobFolder | PythonImports
PLAIN = PythonImports(f"mmflow_main_{uuid.uuid4().hex[:12]}")

_folders: dict[str, JobFolder] = {}


def folder_of(name: str) -> CodeFolder:
    """Return the imports of the code of a module.

    Args:
        name: Name of the module in `sys.modules`.
    """
    return _folders.get(name.partition(".")[0], PLAIN)


class _Loader(SourceFileLoader):
    """Loader of a file of a job's folder from its source, since Python takes a `.pyc` within a second of an edit."""

    def __init__(self, name: str, path: str, folder: JobFolder) -> None:
        super().__init__(name, path)
        self._folder = folder

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self._folder.source(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._folder.builtins
        super().exec_module(module)


class _Finder:
    """Finder of the modules of jobs' folders for Python's import system."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        del target
        folder = _folders.get(name.partition(".")[0])
        if folder is None or path is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, folder)
        return spec


_FINDER = _Finder()
