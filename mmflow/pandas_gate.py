"""Keeping pandas out of the way until someone wants it.

The first array that pyarrow makes, it looks whether pandas is installed, by importing it: 0.3 s with a
warm disk, 2.3 s with a cold one. `close` has it look while pandas can't be found, and waits for a real `import pandas`
to make it look again; till then nothing that pyarrow is given can come from pandas.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["close"]


class _Gate(MetaPathFinder):
    """On `sys.meta_path` from `close` until pandas has been imported."""

    def __init__(self) -> None:
        self._closed_for: int | None = None

    def probe(self) -> None:
        """Have pyarrow look for pandas now, and not find it (in this thread; others import as ever)."""
        import pyarrow.lib  # noqa: PLC0415  (slow; this module is imported by everyone)

        self._closed_for = threading.get_ident()
        try:
            _ = pyarrow.lib._pandas_api.have_pandas
        finally:
            self._closed_for = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse pandas during the probe; later, notice that it is imported for real."""
        if name != "pandas":
            return None
        if self._closed_for == threading.get_ident():
            raise ModuleNotFoundError("pandas is not imported yet", name="pandas")
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Reopen(spec.loader)
        return spec


class _Reopen(Loader):
    """pandas's own loader; afterwards pyarrow looks again."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        import pyarrow.lib  # noqa: PLC0415

        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        # Asked for what only pandas has, pyarrow tries the import once more, finds it, and remembers.
        _ = pyarrow.lib._pandas_api.pd

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


_done = False


def close() -> None:
    """Keep pyarrow from importing pandas by itself. Does nothing once pandas is imported. Idempotent."""
    global _done  # noqa: PLW0603
    if _done or "pandas" in sys.modules:
        return
    _done = True
    gate = _Gate()
    sys.meta_path.insert(0, gate)
    gate.probe()
