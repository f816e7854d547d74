"""DataFusion without a search for its own version (seen in 55).

It asks importlib.metadata for it while it is imported, a twentieth of the time of a small query: with email, zipfile
and a walk over all of `sys.path`, which nothing else needs. The name of its folder of metadata says the same.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

__all__ = ["quicken_import"]

_METADATA = "importlib.metadata"


def quicken_import() -> None:
    """Have the first import of DataFusion find its version quickly. Call it in a process without other threads.

    These might ask for `importlib.metadata`, which another module stands for in the meantime.
    """
    if "datafusion" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finder on `sys.meta_path` until DataFusion is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Wrap the loader of DataFusion."""
        if name != "datafusion":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None and _METADATA not in sys.modules:
            spec.loader = cast(Any, _Loader(spec.loader))
        return spec


class _Loader:
    """Loader of DataFusion under which `importlib.metadata` is `_StandIn`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        stand_in = sys.modules[_METADATA] = _StandIn(_METADATA)
        try:
            self._loader.exec_module(module)
        finally:
            stand_in.leave()


class _StandIn(ModuleType):
    """Module `importlib.metadata` that reads versions off names of folders, and has all else from the module itself."""

    def version(self, package: str) -> str:
        """Return the version of a distribution."""
        found = _versions(package)
        return found[0] if len(found) == 1 else str(self.__getattr__("version")(package))

    def leave(self) -> None:
        """Make room for the module itself."""
        if sys.modules.get(_METADATA) is self:
            del sys.modules[_METADATA]

    def __getattr__(self, name: str) -> Any:
        self.leave()
        return getattr(importlib.import_module(_METADATA), name)


def _versions(package: str) -> list[str]:
    """Return the versions of a package, as the folders of metadata beside it say."""
    module = sys.modules.get(package)
    if module is None or module.__file__ is None:
        return []
    start, end = f"{package}-", ".dist-info"
    names = os.listdir(os.path.dirname(os.path.dirname(module.__file__)))
    return [n[len(start) : -len(end)] for n in names if n.startswith(start) and n.endswith(end)]
