"""Keys of tasks by their content: what a resumed run finds its finished tasks by.

    stage   what it computes, the keys of the stages that it reads, the files that it scans and how they are cut
    task    its stage, its number, and of a scan its byte ranges, else the cuts of its range exchange

Equal keys mean equal outputs, whatever run, engine or process made them: a key holds the names, sizes and times of
modification of the files that lead to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from mmflow.engines.scans import Group
from mmflow.engines.stages import StageRun
from mmflow.exec.fingerprint import computing, digest
from mmflow.exec.stage import ExchangeInput, Functions, ScanInput, Write
from mmflow.shards import FileEntry

__all__ = ["stage_keys", "task_key"]


def stage_keys(runs: Mapping[int, StageRun], functions: Functions) -> dict[int, str]:
    """The keys of all stages, which are in topological order."""
    keys: dict[int, str] = {}
    named = digest(computing(), functions)
    for number, run in runs.items():
        stage = run.stage
        inputs = []
        for given in stage.inputs:
            match given:
                case ExchangeInput():
                    inputs.append(digest(given.name, given.mode, [keys[s] for s in given.stages]))
                case ScanInput():
                    source = given.source
                    inputs.append(digest(given.name, given.columns, given.prune, source.format, source.hive))
                case _:
                    inputs.append(digest(given))
        output = stage.output
        if isinstance(output, Write):  # what it does to what was there is the commit's business
            output = Write(replace(output.sink, if_exists="error"))
        files = () if run.scanning is None else (run.scanning.layout, *_files(run.scanning.files))
        keys[number] = digest(named, inputs, stage.steps, output, stage.schema, stage.limit, files)
    return keys


def _files(files: Sequence[FileEntry]) -> list[tuple[str, int, int, str]]:
    return [(f.path, f.identity.size, f.identity.mtime_ns, f.identity.tag) for f in files]


def task_key(
    stage: str,
    number: int,
    group: Group | None,
    files: Sequence[FileEntry],
    boundaries: pa.RecordBatch | None,
) -> str:
    """The key of a task of a stage with this key.

    Args:
        stage: Its stage's key.
        number: Its own, which staged files carry.
        group: Of a scan: its shards.
        files: That the shards name.
        boundaries: Of a range exchange.
    """
    if group is None:
        return digest(stage, number, boundaries)
    shards = [(s.begin, s.end, s.fresh) for s in group.shards]
    return digest(stage, number, _files([files[s.file] for s in group.shards]), shards)
