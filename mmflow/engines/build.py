"""From a plan to the states of its stages, before anything runs. Adds the census of scans that need one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from mmflow.engines.exchange import Outputs
from mmflow.engines.scans import CensusFeed, Feed, ScanChecker, ScanSource, ShardFeed
from mmflow.engines.stages import Scanning, StageRun
from mmflow.errors import EngineError
from mmflow.exec.stage import ExchangeInput, Forward, Plan, Range, ScanInput, Stage

__all__ = ["stage_runs"]


def stage_runs(plan: Plan, sources: Mapping[int, ScanSource]) -> dict[int, StageRun]:
    """The stages of a plan, in its order, ready to run.

    Args:
        plan: The plan.
        sources: Files and shard groups of each scan stage, by stage.
    """
    runs: dict[int, StageRun] = {}
    for stage in plan.stages:
        reads = [
            (reader, e)
            for reader in plan.stages
            for e in reader.inputs
            if isinstance(e, ExchangeInput) and stage.id in e.stages
        ]
        run = StageRun(stage, Outputs.of(stage, len(reads)), readers=len(reads))
        # With two readers, one may wait for the other, which then must get all of it.
        run.streams = len(reads) == 1 and all(
            e.mode == "forward" and not isinstance(reader.output, Range) for reader, e in reads
        )
        scan = stage.inputs[0] if stage.inputs else None
        if isinstance(scan, ScanInput):
            if stage.id not in sources:
                raise EngineError(f"bug: no files for scan stage {stage.id}")
            _attach_scan(run, scan, sources[stage.id], len(plan.stages) + stage.id)
        if run.census is not None:
            runs[run.census.stage.id] = run.census
        runs[stage.id] = run
    return runs


def _attach_scan(run: StageRun, scan: ScanInput, source: ScanSource, census_id: int) -> None:
    files = tuple(source.files)
    file_format = scan.source.format
    feed: Feed = ShardFeed(source.groups)
    if "_line" in scan.columns and file_format.record_oriented:
        found = CensusFeed()
        counting = Stage(
            id=census_id,
            inputs=(replace(scan, columns=(), prune=()),),
            steps=(),
            output=Forward(),
            schema=pa.schema([]),
            title=f"count lines of {scan.source.label}",
        )
        run.census = StageRun(counting, Outputs.of(counting, 0), readers=1)
        run.census.scanning = Scanning(files, feed, ScanChecker(files, file_format), source.layout, found)
        feed = found
    run.pruned = source.pruned
    run.scanning = Scanning(files, feed, ScanChecker(files, file_format), source.layout)
