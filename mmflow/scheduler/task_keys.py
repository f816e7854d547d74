"""Keys of tasks by their content, by which a resumed run finds its finished tasks.

    stage   what it computes, the keys of the stages that it reads, the files that it scans and how they are cut
    task    its stage, its number, of a scan its byte ranges, the cuts of its range exchange, and what the scheduler has
            decided for the stages that it reads: their cuts, and which partitions were read together

A task that stops early keeps the key of its whole shard, and those that read the remainder have keys of their own. The
journal says how the shard was cut, with the task, so that a resumed run cuts it likewise.

Equal keys mean equal outputs, whatever run, engine or process made them: a key holds the names, sizes and times of
modification of the files that lead to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from mmflow.plan.stages import ExchangeInput, FilesInput, Functions, ScanInput, Write
from mmflow.plan.tasks import TaskId
from mmflow.scheduler.exchange import locate
from mmflow.scheduler.scans import ShardGroup
from mmflow.scheduler.stages import StageState
from mmflow.shards import FileEntry

__all__ = ["Decisions", "stage_keys", "task_key"]


def stage_keys(states: Mapping[int, StageState], functions: Functions) -> dict[int, str]:
    """Return the keys of all stages, which are in topological order."""
    keys: dict[int, str] = {}
    from mmflow.plan.fingerprint import computing, digest  # noqa: PLC0415  (slow)

    named = digest(computing(), functions)
    for number, state in states.items():
        stage = state.stage
        inputs = []
        for given in stage.inputs:
            match given:
                case ExchangeInput():
                    inputs.append(digest(given.name, given.mode, [keys[s] for s in given.stages]))
                case ScanInput():
                    source = given.source
                    inputs.append(digest(given.name, given.columns, given.prune, source.format, source.hive))
                case FilesInput():
                    source = given.source
                    inputs.append(digest(given.name, given.columns, source.format, _files(given.files)))
                case _:
                    inputs.append(digest(given))
        output = stage.output
        if isinstance(output, Write):  # what it does to what was there is the commit's business
            output = Write(replace(output.sink, if_exists="error"))
        files = () if state.scan is None else (state.scan.layout, *_files(state.scan.files))
        keys[number] = digest(named, inputs, stage.steps, output, stage.schema, stage.limit, files)
    return keys


def _files(files: Sequence[FileEntry]) -> list[tuple[str, int, int, str]]:
    return [(f.path, f.identity.size, f.identity.mtime_ns, f.identity.tag) for f in files]


class Decisions:
    """Digests of what the scheduler has decided of the inputs of tasks, which may be otherwise in a resumed run.

    Args:
        states: States of all stages, by number.
    """

    def __init__(self, states: Mapping[int, StageState]) -> None:
        self._states = states
        self._whole: dict[int, str] = {}

    def of_task(self, state: StageState, number: int) -> str:
        """Return the digest for a task whose inputs are there."""
        from mmflow.plan.fingerprint import digest  # noqa: PLC0415  (slow)

        read: list[object] = []
        for exchange in state.exchanges:
            producers = [self._states[s] for s in exchange.stages]
            if exchange.mode == "forward":
                found = locate(producers, number)
                assert found is not None  # the task was made from it
                read.append((found[0].stage.id, self.of_task(*found)))
            else:
                read += [self._of_outputs(p) for p in producers]
        partitions = state.partitions(number)
        return digest(partitions.start, partitions.stop, read)

    def _of_outputs(self, state: StageState) -> str:
        """Return the digest for all outputs of a complete stage."""
        from mmflow.plan.fingerprint import digest  # noqa: PLC0415  (slow)

        if state.stage.id not in self._whole:
            together = [(r.start, r.stop) for r in state.slots or ()]
            read = [self._of_outputs(self._states[s]) for e in state.exchanges for s in e.stages]
            self._whole[state.stage.id] = digest(state.boundaries, together, read)
        return self._whole[state.stage.id]


def task_key(
    stage: str,
    task: TaskId,
    group: ShardGroup | None,
    files: Sequence[FileEntry],
    boundaries: pa.RecordBatch | None,
    decided: str,
) -> str:
    """Return the key of a task of a stage with this key.

    Args:
        stage: Its stage's key.
        task: Its id, whose number and part staged files carry.
        group: Shards of a scan task.
        files: Files that the shards name.
        boundaries: Cuts of a range exchange.
        decided: Digest of the decisions on its inputs.
    """
    from mmflow.plan.fingerprint import digest  # noqa: PLC0415  (slow)

    if group is None:
        return digest(stage, task.number, boundaries, decided)
    shards = [(s.begin, s.end, s.fresh) for s in group]
    which = (task.number, *task.part) if task.part else task.number
    return digest(stage, which, _files([files[s.file] for s in group]), shards, decided)
