"""Timing of several ways of doing the same thing: interleaved, medians, results checked equal."""

from __future__ import annotations

import functools
import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

__all__ = ["bare_read", "drop", "interleaved", "same_rows", "table"]


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    same: Callable[[Any, Any], bool],
    before: Callable[[], None] = lambda: None,
    fewer: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, float]:
    """Median seconds of each way. One warm-up round, whose results must agree with the first way's.

    `before` is called before each timed run, and not timed. Ways in `fewer` take part in so many rounds only.

    Raises:
        AssertionError: Two ways gave different results.
    """
    results = {name: way() for name, way in ways.items()}
    first = next(iter(results))
    for name, result in results.items():
        if not same(results[first], result):
            raise AssertionError(f"{name} and {first} differ:\n{result}\n{results[first]}")
    del results
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, way in ways.items():
            if number >= fewer.get(name, repeats):
                continue
            gc.collect()
            before()
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def same_rows(a: pa.Table, b: pa.Table, *, places: float = 0.0) -> bool:
    """Equal rows; numbers to nine digits, since peers choose different types and orders for sums and averages.

    `places`: numbers that differ by less are equal, too.
    """
    alike = functools.partial(math.isclose, rel_tol=1e-9, abs_tol=places)

    def rows(t: pa.Table) -> list[tuple[list[str], list[float]]]:
        values = [list(row.values()) for row in t.to_pylist()]
        numbers = (int, float, Decimal)
        return sorted(
            (
                [str(v) for v in row if not isinstance(v, numbers)],
                [float(v) for v in row if isinstance(v, numbers)],
            )
            for row in values
        )

    return len(a) == len(b) and all(
        texts == others and len(x) == len(y) and all(map(alike, x, y))
        for (texts, x), (others, y) in zip(rows(a), rows(b), strict=True)
    )


def drop(path: Path) -> None:
    """Drop a file's pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bare_read(path: Path) -> int:
    """Read a file in order; its bytes."""
    buffer, total = bytearray(4 << 20), 0
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            total += count
    return total


def table(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row.get(name, "") for name in names) + " |" for row in rows]
    return "\n".join(lines)
