"""pyarrow.compute, imported with the first function that is called: 45 ms, which few small queries need."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import pyarrow.compute  # noqa: PLC0415  (slow)

    value = globals()[name] = getattr(pyarrow.compute, name)
    return value
