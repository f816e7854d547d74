"""Profiles: the stages of a run, with what they read, gave and took."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.errors import plain_text
from mmflow.plan.explain import explain
from mmflow.plan.stages import ExchangeInput, Hash, Plan, Range
from mmflow.scheduler.progress import Progress, StageProgress

__all__ = ["profile"]


def profile(plan: Plan, progress: Progress) -> str:
    """Return the stages of a plan as `explain` does, with the measures of its run, and a line about the whole run."""
    whole = f"run of {progress.elapsed:.3f} s: {progress.rows:,} rows from {progress.bytes_total:,} bytes of files"
    ran = {stage.id: stage for stage in progress.stages}
    measured = {stage.id: [*_lines(stage), *_boundary(plan, ran, stage)] for stage in progress.stages}
    return plain_text(f"{explain(plan, measured)}\n{whole}")


def _boundary(plan: Plan, ran: Mapping[int, StageProgress], done: StageProgress) -> list[str]:
    """Return a line that compares the partitions of a stage's output with those planned, and counts their readers."""
    output = next((stage.output for stage in plan.stages if stage.id == done.id), None)
    if not isinstance(output, Hash | Range):
        return []
    size = (
        f", {done.bytes_out // done.filled:,} bytes on average, {done.largest:,} at most"
        if done.filled
        else ""
    )
    readers = [
        f"stage {stage.id} in {ran[stage.id].done:,} tasks"
        for stage in plan.stages
        if stage.id in ran and any(isinstance(i, ExchangeInput) and done.id in i.stages for i in stage.inputs)
    ]
    read = f"; read by {' and '.join(readers)}" if readers else ""
    return [f"  parts   {output.partitions:,} planned, {done.filled:,} with rows{size}{read}"]


def _lines(stage: StageProgress) -> list[str]:
    known = stage.cached and stage.bytes_read
    cached = f" ({min(stage.cached / stage.bytes_read, 1):.0%} in the page cache)" if known else ""
    return [
        f"  ran     {stage.done:,} tasks, {stage.seconds:.3f} s of task time, {stage.faults:,} page faults",
        f"  in      {stage.rows_in:,} rows, {stage.bytes_read:,} bytes{cached}",
        f"  out     {stage.rows:,} rows, {stage.bytes_out:,} bytes",
    ]
