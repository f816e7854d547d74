"""Gate that keeps pyarrow (seen in 26) from importing pandas before the user does.

With its first array, pyarrow imports pandas to know whether it is installed: 0.3 s with a warm disk, 2.3 s with a cold
one. `defer_import` makes pyarrow try while pandas can't be found. A later `import pandas` makes it try again; until
then no argument of pyarrow can come from pandas. What pyarrow makes of pandas' types where it is there, instants in
nanoseconds, asks for it before: `import_if_installed`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

__all__ = ["defer_import", "import_if_installed"]


class _Gate:
    """Finder on `sys.meta_path` from `defer_import` until pandas is imported."""

    def __init__(self) -> None:
        self._closed_for: int | None = None

    def probe(self) -> None:
        """Make pyarrow look for pandas now, and not find it. Other threads import as usual."""
        import pyarrow.lib  # noqa: PLC0415  (slow; this module is imported by everyone)

        self._closed_for = threading.get_ident()
        try:
            _ = pyarrow.lib._pandas_api.have_pandas
        finally:
            self._closed_for = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse pandas during the probe; afterwards, wrap its loader when it is imported."""
        if name != "pandas":
            return None
        if self._closed_for == threading.get_ident():
            raise ModuleNotFoundError("pandas is not imported yet", name="pandas")
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _Reopen(spec.loader))
        return spec


class _Reopen:
    """Loader of pandas that makes pyarrow look again afterwards."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        import pyarrow.lib  # noqa: PLC0415  (slow; this module is imported by everyone)

        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        # An attribute that only pandas has makes pyarrow try the import once more, and remember it.
        _ = pyarrow.lib._pandas_api.pd

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


_done = False
_lock = threading.Lock()


def defer_import() -> None:
    """Keep pyarrow from importing pandas by itself. Do nothing once pandas is imported. Idempotent."""
    global _done  # noqa: PLW0603  (once for the process)
    with _lock:  # a second thread must not make arrays before pyarrow has looked
        if _done or "pandas" in sys.modules:
            return
        _done = True
        gate = _Gate()
        sys.meta_path.insert(0, gate)
        gate.probe()


def import_if_installed() -> None:
    """Import pandas as pyarrow would have; do nothing where there is none."""
    with contextlib.suppress(ImportError):
        import pandas as pd  # noqa: F401, PLC0415  (optional, slow)
