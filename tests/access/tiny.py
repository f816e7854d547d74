"""Record indexes with tiny intervals, so that small files have many; and what is known forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mmflow.access import building, index, scanned, sidecar, tail


def forget_all() -> None:
    """As a new process would be."""
    sidecar._held.clear()


@contextmanager
def tiny(spacing: int, *, copy: int = 4 << 20, suffix: int = 64 << 10, kept: bool = True) -> Iterator[None]:
    """Intervals of `spacing` bytes; `kept`: sidecars for files of any size and age, else none at all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (index, building):
            patch.setattr(module, "SPACING", spacing)
        patch.setattr(scanned, "_COPY_BYTES", copy)
        patch.setattr(tail, "_FIRST_BYTES", suffix)
        patch.setattr(sidecar, "_SETTLED_NS", 0)
        patch.setattr(sidecar, "_LEAST_FILE", 0 if kept else 1 << 62)
        patch.setattr(sidecar, "_LEAST_GROWTH", 1)
        forget_all()
        try:
            yield
        finally:
            forget_all()
