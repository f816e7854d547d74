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
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[more]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, more="")

        def show(p: Progress) -> None:
            at = next((s for s in p.stages if s.running), p.stages[-1])
            done, total = sum(s.done for s in p.stages), sum(s.total or s.done + s.running for s in p.stages)
            memory = process_memory().anonymous >> 20
            more = f"{done:,}/{total:,} tasks  {p.records or p.rows:,} rows  {memory:,} MiB"
            bar.update(
                task,
                description=f"stage {at.id + 1}/{len(p.stages)} {at.title.split(',')[0][:32]}",
                completed=p.bytes_done,
                total=p.bytes_total or None,
                more=more + (f"  {p.bad:,} bad" if p.bad else ""),
            )

        yield show
