"""The journal: which tasks are finished, and where their outputs are.

One line for each fact, a checksum of the rest of the line before it:

    7f0c21aa {"v": 1, "kind": "task", "stage": "9b…", "key": "c4…", "kept": {…}, "reports": […], "files": […]}
    01d3a9e4 {"v": 1, "kind": "read", "stage": "9b…"}          nobody reads its outputs any more: they may be gone
    55e0b871 {"v": 1, "kind": "lost", "path": "…/c4….blocks"}  what this file held must be computed again
    90b2c7d0 {"v": 1, "kind": "committed", "run": "…", …}      the output of this plan can be seen

A line whose checksum is wrong (the torn end of a driver that died, a flipped bit) says nothing: its task is run again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmflow.exec.kept import KeptBlock
from mmflow.exec.task import BlockRef, Done, Kept, TaskId
from mmflow.formats import ScanReport
from mmflow.sinks import Committed, StagedFile

__all__ = ["Known", "Replay", "decoded", "encoded", "task_line"]

VERSION = 1


def encoded(fact: dict[str, Any]) -> str:
    """A fact as a line.

    >>> encoded({"kind": "read", "stage": "s"})
    '47a6a18c {"v":1,"kind":"read","stage":"s"}'
    """
    # In ASCII: names of files need not be UTF-8.
    text = json.dumps({"v": VERSION, **fact}, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x} {text}"


def decoded(line: str) -> dict[str, Any] | None:
    """The fact of a line; None: the line is damaged, of another version, or not ours."""
    crc, space, text = line.partition(" ")
    if not space or f"{zlib.crc32(text.encode()):08x}" != crc:
        return None
    try:
        fact = json.loads(text)
    except ValueError:
        return None
    return fact if isinstance(fact, dict) and fact.get("v") == VERSION else None


def task_line(stage: str, key: str, done: Done) -> str:
    """The line of a finished task."""
    assert done.kept is not None, "recorded tasks keep their outputs"
    kept = done.kept
    reports = [[r.first, r.next, r.records, r.lines, r.bytes_read, r.bad, r.pruned] for r in done.reports]
    fact: dict[str, Any] = {
        "kind": "task",
        "stage": stage,
        "key": key,
        "kept": {
            "files": _stem(kept),
            "outputs": [_packed(ref) for ref in kept.outputs],
            "rejects": _packed(kept.rejects),
            "sample": _packed(kept.sample),
        },
    }
    if reports:
        fact["reports"] = reports
    if done.files:
        fact["files"] = [[f.staged, f.path, f.rows, f.nbytes] for f in done.files]
    if done.metrics.reasons:
        fact["reasons"] = list(done.metrics.reasons)
    return encoded(fact)


def _packed(ref: BlockRef | None) -> list[int] | None:
    if ref is None:
        return None
    token: KeptBlock = ref.token
    return [token.offset, token.length, token.crc, ref.rows, ref.nbytes]


def _stem(kept: Kept) -> str:
    """What the files of a task's outputs have in common; "": there are none."""
    refs = [r for r in (*kept.outputs, kept.rejects, kept.sample) if r is not None]
    return str(refs[0].token.path).rpartition(".")[0] if refs else ""


@dataclass(frozen=True, slots=True)
class Known:
    """A finished task: its result, and what the files of its outputs have in common ("": there are none)."""

    stage: str
    done: Done
    files: str


def _known(fact: dict[str, Any]) -> Known:
    kept = fact["kept"]
    stem: str = kept["files"]

    def block(packed: list[int] | None, end: str) -> BlockRef | None:
        if packed is None:
            return None
        offset, length, crc, rows, nbytes = packed
        return BlockRef(KeptBlock(f"{stem}.{end}", offset, length, crc), rows, nbytes)

    outputs = tuple(block(p, "blocks") for p in kept["outputs"])
    rejects, sample = block(kept["rejects"], "aside"), block(kept["sample"], "aside")
    names = ("first", "next", "records", "lines", "bytes_read", "bad", "pruned")
    reports = tuple(ScanReport(**dict(zip(names, r, strict=True))) for r in fact.get("reports", ()))
    done = Done(
        TaskId(-1, -1),
        -1,
        outputs,
        reports,
        rejects,
        files=tuple(StagedFile(*f) for f in fact.get("files", ())),
        kept=Kept(outputs, rejects, sample),
    )
    done.metrics.reasons = tuple(fact.get("reasons", ()))
    return Known(fact["stage"], done, stem)


@dataclass(slots=True)
class Replay:
    """What a journal says.

    Memory is O(finished tasks): a line is kept as it is until its task is asked for.

    Attributes:
        tasks: Lines of finished tasks, by key.
        read: Stages whose outputs nobody reads any more.
        committed: Outputs that can be seen, by the name of the plan's run.
        counts: How far these plans were then: `Progress` without its stages.
        damaged: Lines that say nothing.
    """

    tasks: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    committed: dict[str, Committed] = field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    damaged: int = 0

    @classmethod
    def of(cls, lines: Iterable[str]) -> Replay:
        """Read a journal from its first line to its last."""
        replay = cls()
        for line in lines:
            replay._add(line)
        return replay

    def _add(self, line: str) -> None:
        fact = decoded(line)
        if fact is None:
            self.damaged += 1
            return
        match fact.get("kind"):
            case "task":
                self.tasks[fact["key"]] = line
            case "read":
                self.read.add(fact["stage"])
            case "lost":
                self._forget(fact["path"])
            case "committed":
                made = Committed(fact["path"], fact["files"], fact["rows"], fact["bytes"])
                self.committed[fact["run"]] = made
                if fact.get("progress"):
                    self.counts[fact["run"]] = fact["progress"]

    def known(self, key: str) -> Known | None:
        """A finished task."""
        line = self.tasks.get(key)
        fact = None if line is None else decoded(line)
        return None if fact is None else _known(fact)

    def _forget(self, path: str) -> None:
        """The task whose outputs were in this file is not finished. Of a stage that was read, all files are gone."""
        key = os.path.basename(path).partition("-a")[0]
        known = self.known(key)
        if known is not None and known.files == path.rpartition(".")[0]:
            del self.tasks[key]
            self.read.discard(known.stage)
