"""What the driver asks of a run's record, and what the loop is to tell it. Without a record all of it is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow.engines.keys import stage_keys, task_key
from mmflow.engines.recording import Finished, Recorder
from mmflow.engines.stages import Slot, StageRun
from mmflow.exec.kept import KeptBlock
from mmflow.exec.stage import Functions
from mmflow.exec.task import BlockRef, Done, TaskId

__all__ = ["Notes"]


class Notes:
    """The driver's side of a record. Single-threaded.

    Args:
        record: Of the run; None: it is not kept.
        runs: The stages, by number.
        functions: Those of the plan.
    """

    def __init__(self, record: Recorder | None, runs: Mapping[int, StageRun], functions: Functions) -> None:
        self._record = record
        self._keys = {} if record is None else stage_keys(runs, functions)
        self._finished: list[Finished] = []
        self._read: list[str] = []
        self._events: list[tuple[str, dict[str, Any]]] = []

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task."""
        return 0 if self._record is None else self._record.first_attempt

    def known(self, run: StageRun, slot: Slot) -> Done | None:
        """What a task gave, if the record has it; the slot gets its key. It is asked once of each."""
        if self._record is None or slot.key or slot.handed_in or slot.id.part:
            return None  # looked for already; or cut as only this driver cut it
        stage = self._keys[run.stage.id]
        files = () if run.scanning is None else run.scanning.files
        slot.key = task_key(stage, slot.id.number, slot.group, files, run.boundaries)
        return self._record.known(stage, slot.key)

    def place(self, run: StageRun, slot: Slot) -> str:
        """Where a task is to keep its outputs (`Task.keep`)."""
        if self._record is None or not slot.key:
            return ""
        return self._record.place(self._keys[run.stage.id], slot.key)

    def finished(self, run: StageRun, slot: Slot, done: Done) -> None:
        """A task counts: it is known from now on, if its outputs are kept."""
        if done.kept is not None and slot.key:
            self._finished.append(Finished(self._keys[run.stage.id], slot.key, done))

    def read(self, run: StageRun) -> None:
        """Nobody will read the outputs of this stage any more."""
        if self._record is not None:
            self._read.append(self._keys[run.stage.id])

    def keeps(self, ref: BlockRef) -> bool:
        """Does a block stay until its stage is read, whoever else lets go of it?"""
        return self._record is not None and isinstance(ref.token, KeptBlock)

    # ---- events ------------------------------------------------------------------------------------------

    def event(self, event: str, task: TaskId | None = None, **facts: Any) -> None:
        """What happened (docs/runs.md), and to which task."""
        if self._record is not None:
            named = (
                {} if task is None else {"stage": task.stage, "number": task.number, "part": list(task.part)}
            )
            self._events.append((event, {**named, **facts}))

    def done(self, done: Done) -> None:
        """A task has ended well."""
        m = done.metrics
        self.event(
            "task_done", done.id, attempt=done.attempt, worker=m.worker,
            started=m.started, seconds=m.seconds, rows_in=m.rows_in, rows_out=m.rows_out, bytes_read=m.bytes_read,
            bytes_out=m.bytes_out, cached=m.cached, anonymous=m.anonymous, fetched=m.fetched,
        )  # fmt: skip

    def failed(self, slot: Slot, reason: str, *, again: bool) -> None:
        """An attempt of a task has failed."""
        self.event("task_failed", slot.id, attempt=slot.attempt, reason=reason, again=again)

    # ---- for the loop -------------------------------------------------------------------------------------

    def take_finished(self) -> tuple[list[Finished], list[str]]:
        """Tasks that count since the last call, and the keys of stages that nobody will read any more."""
        taken = self._finished, self._read
        self._finished, self._read = [], []
        return taken

    def take_events(self) -> list[tuple[str, dict[str, Any]]]:
        """What happened since the last call."""
        taken, self._events = self._events, []
        return taken
