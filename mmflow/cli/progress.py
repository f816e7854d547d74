"""A progress bar on stderr, on terminals only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmflow.engines.progress import Progress
from mmflow.mapping.limits import process_memory

__all__ = ["progress_bar"]


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """Something to call with each `Progress`; None where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import console, progress  # noqa: PLC0415  (slow to import)

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=12),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[more]}"),
        progress.TimeRemainingColumn(compact=True),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, more="")

        def show(p: Progress) -> None:
            at = next((s for s in p.stages if s.running), p.stages[-1])
            done = sum(s.done for s in p.stages)
            memory = process_memory().anonymous >> 20
            more = f"{done:,} shards {_short(p.records or p.rows)} rows {memory:,} MiB"
            bar.update(
                task,
                description=f"stage {at.id + 1}/{len(p.stages)}",
                completed=p.bytes_done,
                total=p.bytes_total or None,
                more=more + (f"  {p.bad:,} bad" if p.bad else ""),
            )

        yield show


def _short(count: int) -> str:
    """A count in three digits or so.

    >>> _short(950), _short(15_596_159)
    ('950', '15.6M')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
