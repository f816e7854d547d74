"""Journal of a run: its finished tasks, and where their outputs are.

One line for each fact, preceded by a checksum:

    7f0c21aa {"v": 3, "kind": "task", "stage": "9b…", "key": "c4…", "checkpoint": {…}, "reports": […], "files": […]}
    77b1e0c3 {"v": 3, "kind": "task", …, "remainder": [[40, 90]]}  it stopped early, and other tasks read these bytes
    01d3a9e4 {"v": 3, "kind": "consumed", "stage": "9b…"}      its outputs are no longer needed, and may be deleted
    55e0b871 {"v": 3, "kind": "lost", "path": "…/c4….blocks"}  the blocks of this file must be recomputed
    90b2c7d0 {"v": 3, "kind": "committed", "run": "…", …}      the output of this plan is published

A line whose checksum is wrong (the torn end of a driver that died, a flipped bit) is ignored: its task is rerun.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from mmflow.blocks.references import Checkpoint, CheckpointBlock
from mmflow.errors import ConfigError
from mmflow.formats import ScanReport
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tasks import Done, TaskId
from mmflow.sinks import CommitResult, StagedFile
from mmflow.storage.facts import fits, optional, parse_object
from mmflow.storage.format_versions import JOURNAL

__all__ = ["FinishedTask", "Replay", "decode_line", "encode_line", "task_line"]


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 5 and all(isinstance(n, int) for n in value)


def _is_report(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 8 and all(n is None or isinstance(n, int) for n in value)


def _is_file(value: Any) -> bool:
    return isinstance(value, list) and [type(v) for v in value] == [str, str, int, int]


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and [type(v) for v in value] == [int, int]


_BLOCKS = {
    "files": str,
    "outputs": [optional(_is_block)],
    "rejects": optional(_is_block),
    "sample": optional(_is_block),
}
_SHAPES: dict[str, dict[str, Any]] = {
    "task": {
        "stage": str, "key": str, "checkpoint": _BLOCKS,
        "reports": optional([_is_report]), "files": optional([_is_file]), "reasons": optional([str]),
        "remainder": optional([_is_range]),
    },
    "consumed": {"stage": str},
    "lost": {"path": str},
    "committed": {"run": str, "path": str, "files": int, "rows": int, "bytes": int, "progress": optional({})},
}  # fmt: skip


def encode_line(fact: dict[str, Any]) -> str:
    """Return a fact as a line.

    >>> encode_line({"kind": "consumed", "stage": "s"})
    '5a935e11 {"v":3,"kind":"consumed","stage":"s"}'
    """
    # ASCII, since file names need not be UTF-8.
    text = json.dumps({"v": JOURNAL.version, **fact}, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x} {text}"


def decode_line(line: str, path: str = "") -> dict[str, Any] | None:
    """Return the fact of a line; None if the line is damaged.

    Args:
        line: Line.
        path: Folder of its journal, for errors.

    Raises:
        ConfigError: It is of another version.
    """
    crc, space, text = line.partition(" ")
    if not space or f"{zlib.crc32(text.encode()):08x}" != crc:
        return None
    try:
        fact = parse_object(text, {})
    except ValueError:
        return None
    JOURNAL.check(fact.get("v"), ConfigError, path)
    return fact if fits(fact, _SHAPES.get(str(fact.get("kind")), {"kind": str})) else None


def task_line(stage: str, key: str, done: Done) -> str:
    """Return the line of a finished task."""
    assert done.checkpoint is not None, "recorded tasks have checkpoints"
    checkpoint = done.checkpoint
    reports = [
        [r.first, r.next, r.records, r.lines, r.bytes_read, r.bad, r.pruned, r.repaired] for r in done.reports
    ]
    fact: dict[str, Any] = {
        "kind": "task",
        "stage": stage,
        "key": key,
        "checkpoint": {
            "files": _common_path(checkpoint),
            "outputs": [_pack_block(ref) for ref in checkpoint.outputs],
            "rejects": _pack_block(checkpoint.rejects),
            "sample": _pack_block(checkpoint.sample),
        },
    }
    if reports:
        fact["reports"] = reports
    if done.files:
        fact["files"] = [[f.staged, f.path, f.rows, f.nbytes] for f in done.files]
    if done.remainder:
        fact["remainder"] = done.remainder
    if done.metrics.reasons:
        fact["reasons"] = list(done.metrics.reasons)
    return encode_line(fact)


def _pack_block(block: CheckpointBlock | None) -> list[int] | None:
    return None if block is None else [block.offset, block.length, block.crc, block.rows, block.nbytes]


def _common_path(checkpoint: Checkpoint) -> str:
    """Return the path of a task's checkpoint files without their suffix; "" if there are none."""
    blocks = [b for b in (*checkpoint.outputs, checkpoint.rejects, checkpoint.sample) if b is not None]
    return blocks[0].path.rpartition(".")[0] if blocks else ""


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """Result of a finished task; `files` is the path of its checkpoint files without suffix ("" for none)."""

    stage: str
    done: Done
    files: str


def _finished_task(fact: dict[str, Any]) -> FinishedTask:
    checkpoint = fact["checkpoint"]
    stem: str = checkpoint["files"]

    def block(packed: list[int] | None, end: str) -> CheckpointBlock | None:
        return None if packed is None else CheckpointBlock(f"{stem}.{end}", *packed)

    outputs = tuple(block(p, "blocks") for p in checkpoint["outputs"])
    rejects, sample = block(checkpoint["rejects"], "retained"), block(checkpoint["sample"], "retained")
    names = ("first", "next", "records", "lines", "bytes_read", "bad", "pruned", "repaired")
    reports = tuple(ScanReport(**dict(zip(names, r, strict=True))) for r in fact.get("reports", ()))
    done = Done(
        TaskId(-1, -1),
        -1,
        outputs,
        reports,
        rejects,
        files=tuple(StagedFile(*f) for f in fact.get("files", ())),
        checkpoint=Checkpoint(outputs, rejects, sample),
        remainder=tuple((begin, end) for begin, end in fact.get("remainder", ())),
    )
    done.metrics.reasons = tuple(fact.get("reasons", ()))
    return FinishedTask(fact["stage"], done, stem)


@dataclass(slots=True)
class Replay:
    """State of a run according to its journal.

    Memory is O(finished tasks): a line is parsed only when its task is requested.

    Attributes:
        tasks: Lines of finished tasks, by key.
        consumed: Stages whose outputs are no longer needed.
        committed: Published outputs, by the name of the plan's run.
        counts: Progress of these plans at their commit: `Progress` without its stages.
        damaged: Number of unusable lines.
    """

    tasks: dict[str, str] = field(default_factory=dict)
    consumed: set[str] = field(default_factory=set)
    committed: dict[str, CommitResult] = field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: int = 0

    @classmethod
    def of(cls, lines: Iterable[str], path: str = "") -> Replay:
        """Build the state from the lines of a journal. Takes and raises what `decode_line` does."""
        replay = cls()
        for line in lines:
            replay._add(line, path)
        return replay

    def _add(self, line: str, path: str) -> None:
        fact = decode_line(line, path)
        if fact is None:
            self.damaged += 1
            return
        match fact.get("kind"):
            case "task":
                self.tasks[fact["key"]] = line
            case "consumed":
                self.consumed.add(fact["stage"])
            case "lost":
                self._forget(fact["path"])
            case "committed":
                made = CommitResult(fact["path"], fact["files"], fact["rows"], fact["bytes"])
                self.committed[fact["run"]] = made
                if fact.get("progress"):
                    self.counts[fact["run"]] = fact["progress"]

    def finished_task(self, key: str) -> FinishedTask | None:
        """Return a finished task; None if it is not recorded."""
        line = self.tasks.get(key)
        fact = None if line is None else decode_line(line)
        return None if fact is None else _finished_task(fact)

    def _forget(self, path: str) -> None:
        """Forget the task whose outputs were in this file. All files of a consumed stage are deleted."""
        key = os.path.basename(path).partition("-a")[0]
        task = self.finished_task(key)
        if task is not None and task.files == path.rpartition(".")[0]:
            del self.tasks[key]
            self.consumed.discard(task.stage)
