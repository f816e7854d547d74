"""Another system than this one, or this one with other facts, for the modules of `mmflow.mapping`."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, cast

import pytest

import mmflow.mapping
from mmflow.mapping.system import System, system

__all__ = ["on", "with_facts"]


class _Facts:
    def __init__(self, of: System, facts: dict[str, Any]) -> None:
        self._of = of
        self.__dict__ |= facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


def with_facts(of: System, **facts: Any) -> System:
    """A system with some facts changed."""
    return cast(System, _Facts(of, facts))


@contextlib.contextmanager
def on(other: System) -> Iterator[None]:
    """Run the block as on another system."""
    modules = [
        importlib.import_module(f"mmflow.mapping.{found.name}")
        for found in pkgutil.iter_modules(mmflow.mapping.__path__)
        if found.name != "system"
    ]
    using = [m for m in modules if getattr(m, "system", None) is system]
    assert len(using) >= 5
    with pytest.MonkeyPatch.context() as patch:
        for module in using:
            patch.setattr(module, "system", other)
        yield
