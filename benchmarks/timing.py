"""Timing of several ways of doing the same thing: interleaved, medians, results checked equal."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["interleaved", "table"]


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    same: Callable[[Any, Any], bool],
    before: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Median seconds of each way. One warm-up round, whose results must agree with the first way's.

    `before` is called before each timed run, and not timed.

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
    for _ in range(repeats):
        for name, way in ways.items():
            gc.collect()
            before()
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row.get(name, "") for name in names) + " |" for row in rows]
    return "\n".join(lines)
