"""Record indexes with tiny intervals, so that small files have many; and what is known forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mmflow.rows import index, index_builder, index_file, indexed, tail


def forget_all() -> None:
    """Forget all indexes, as in a new process."""
    index_file._indexes.clear()


@contextmanager
def tiny(spacing: int, *, copy: int = 4 << 20, suffix: int = 64 << 10, kept: bool = True) -> Iterator[None]:
    """Intervals of `spacing` bytes; `kept`: sidecars for files of any size and age, else none at all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (index, index_builder):
            patch.setattr(module, "SPACING", spacing)
        patch.setattr(indexed, "_COPY_BYTES", copy)
        patch.setattr(tail, "_FIRST_BYTES", suffix)
        patch.setattr(index_file, "_STABLE_AFTER_NS", 0)
        patch.setattr(index_file, "_MIN_FILE_BYTES", 0 if kept else 1 << 62)
        patch.setattr(index_file, "_MIN_GROWTH_BYTES", 1)
        forget_all()
        try:
            yield
        finally:
            forget_all()
