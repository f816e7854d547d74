"""Profiles: the stages of a run, with what they read, gave and took."""

from __future__ import annotations

from mmflow.errors import plain_text
from mmflow.plan.explain import explain
from mmflow.plan.stages import Plan
from mmflow.scheduler.progress import Progress, StageProgress

__all__ = ["profile"]


def profile(plan: Plan, progress: Progress) -> str:
    """Return the stages of a plan as `explain` does, with the measures of its run, and a line about the whole run."""
    whole = f"run of {progress.elapsed:.3f} s: {progress.rows:,} rows from {progress.bytes_total:,} bytes of files"
    measured = {stage.id: _lines(stage) for stage in progress.stages}
    return plain_text(f"{explain(plan, measured)}\n{whole}")


def _lines(stage: StageProgress) -> list[str]:
    known = stage.cached and stage.bytes_read
    cached = f" ({min(stage.cached / stage.bytes_read, 1):.0%} in the page cache)" if known else ""
    return [
        f"  ran     {stage.done:,} tasks, {stage.seconds:.3f} s of task time, {stage.faults:,} page faults",
        f"  in      {stage.rows_in:,} rows, {stage.bytes_read:,} bytes{cached}",
        f"  out     {stage.rows:,} rows, {stage.bytes_out:,} bytes",
    ]
