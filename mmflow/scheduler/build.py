"""States of a plan's stages before it runs; scans that need one get a line-count pre-pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from mmflow.errors import EngineError
from mmflow.plan.stages import ExchangeInput, Forward, Plan, Range, ScanInput, Stage
from mmflow.scheduler.exchange import Outputs
from mmflow.scheduler.scans import Feed, LineCountFeed, ScanChecker, ScanSource, ShardFeed
from mmflow.scheduler.stages import ScanState, StageState

__all__ = ["stage_states"]


def stage_states(plan: Plan, sources: Mapping[int, ScanSource]) -> dict[int, StageState]:
    """Return the states of a plan's stages, in its order, ready to run.

    Args:
        plan: The plan.
        sources: Files and shard groups of each scan stage, by stage.
    """
    states: dict[int, StageState] = {}
    for stage in plan.stages:
        reads = [
            (reader, e)
            for reader in plan.stages
            for e in reader.inputs
            if isinstance(e, ExchangeInput) and stage.id in e.stages
        ]
        state = StageState(stage, Outputs(stage, len(reads)), readers=len(reads))
        # With two readers, one may wait for the other, which then must get all of it.
        state.streams = len(reads) == 1 and all(
            e.mode == "forward" and not isinstance(reader.output, Range) for reader, e in reads
        )
        scan = stage.inputs[0] if stage.inputs else None
        if isinstance(scan, ScanInput):
            if stage.id not in sources:
                raise EngineError(f"bug: no files for scan stage {stage.id}")
            _attach_scan(state, scan, sources[stage.id], len(plan.stages) + stage.id)
        if state.pre_pass is not None:
            states[state.pre_pass.stage.id] = state.pre_pass
        states[stage.id] = state
    return states


def _attach_scan(state: StageState, scan: ScanInput, source: ScanSource, pre_pass_id: int) -> None:
    files = tuple(source.files)
    file_format = scan.source.format
    feed: Feed = ShardFeed(source.groups)
    if source.stream is not None:  # its reader counts lines, since no pass can come before
        needs_lines = "_line" in scan.columns
        source.stream.begin(count_lines=needs_lines)
        checker = ScanChecker(files, file_format, source.stream, needs_lines=needs_lines)
        state.scan = ScanState(files, source.stream, checker, stream=source.stream)
        return
    if "_line" in scan.columns and file_format.record_oriented:
        found = LineCountFeed()
        counting = Stage(
            id=pre_pass_id,
            inputs=(replace(scan, columns=(), prune=()),),
            steps=(),
            output=Forward(),
            schema=pa.schema([]),
            title=f"count lines of {scan.source.label}",
        )
        state.pre_pass = StageState(counting, Outputs(counting, 0), readers=1)
        state.pre_pass.scan = ScanState(files, feed, ScanChecker(files, file_format), source.layout, found)
        feed = found
    state.pruned = source.pruned
    state.scan = ScanState(files, feed, ScanChecker(files, file_format), source.layout)
