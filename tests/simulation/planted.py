"""Faults that are planted in mmflow, one at a time: the world must find each.

python -m tests.simulation.planted    finds them among 20,000 seeds, for `FOUND_BY`
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmflow.plan.tasks import Done
from mmflow.runs import lock as run_lock
from mmflow.runs import named_run
from mmflow.runs.directory import LogWriter, RunDirectory
from mmflow.runs.recorder import CANCEL, PlanRecorder, RunRecorder
from mmflow.scheduler.scheduler import Scheduler
from mmflow.sinks import CommitResult
from mmflow.sinks.commit import local, manifest
from mmflow.sinks.commit.local import LocalCommit
from mmflow.sinks.commit.object_commit import ObjectCommit
from mmflow.sinks.commit.protocol import Commit
from mmflow.storage import disk
from tests.simulation.history import Actor, Script
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.world import Fault

__all__ = ["FOUND_BY", "PLANTED", "planted"]


def _note_first(self: Commit, made: Any, schema: Any, published: Any = lambda _: None) -> Any:
    """Note that the output is published, and publish it then."""
    if not self.done:
        published(
            CommitResult(self.spec.path, len(made), sum(f.rows for f in made), sum(f.nbytes for f in made))
        )
    return _commit(self, made, schema)


def _publish_first(self: ObjectCommit, files: Any, schema: Any) -> None:
    """Write the manifest, and copy the objects then."""
    copied: list[Any] = []
    self._copy = copied.extend  # type: ignore[method-assign, assignment]
    self._check_copies = lambda files, there: None  # type: ignore[method-assign]
    _publish(self, files, schema)
    del self._copy
    self._copy(copied)


class _NoLock:
    """Lock that anybody has."""

    stopped = True

    def release(self) -> None:
        """Release nothing."""


def _trust_the_listing(self: ObjectCommit, files: Any, schema: Any) -> None:
    """Delete those old objects that a listing shows."""
    if self.spec.if_exists == "replace":
        self._manifest = lambda: None  # type: ignore[method-assign]
    try:
        _publish(self, files, schema)
    finally:
        vars(self).pop("_manifest", None)


def _keep_cancel(self: RunDirectory, name: str) -> None:
    if name != CANCEL:
        _remove(self, name)


def _unsynced_manifest(folder: Path, made: dict[str, Any]) -> None:
    disk.write_file(folder / manifest.NAME, manifest.encode(made))


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _find_without_a_look(self: PlanRecorder, stage: str, key: str) -> Done | None:
    """Trust the journal without a look whether the staged files are there."""
    self._staged = None
    return _find(self, stage, key)


def _forget_remainder(self: PlanRecorder, stage: str, key: str, done: Done) -> None:
    """Record a task that stopped early as one that has read its whole shard."""
    _record(self, stage, key, replace(done, remainder=()))


_remove, _record = RunDirectory.remove, PlanRecorder.record_finished
_commit, _find, _publish = Commit.commit, PlanRecorder.find_finished, ObjectCommit._publish_folder

#: What is replaced, and by what, by the fault that it plants.
PLANTED: dict[str, tuple[Any, str, Any]] = {
    "the journal says committed before the output is published": (Commit, "commit", _note_first),
    "the manifest is written before objects are copied": (ObjectCommit, "_publish_folder", _publish_first),
    "a resumed run does not see that it has committed": (Commit, "_is_committed", lambda self: False),
    "the journal is believed though staged files are gone": (
        PlanRecorder,
        "find_finished",
        _find_without_a_look,
    ),
    "objects of a commit are not announced": (ObjectCommit, "_write_intent", lambda self, **_: None),
    "staging of dead runs stays": (LocalCommit, "_recover_stale_runs", lambda self: None),
    "checkpoints of a run that is done stay": (named_run, "BLOCKS", "no-such-folder"),
    "a run that appends is forgotten once another one has appended": (
        manifest,
        "holds_run",
        lambda found, run: found["run"] == run,
    ),
    "files of a job that was corrected stay in the new folder": (local, "_drop_strays", lambda *_: None),
    "the destination is not locked": (local, "lock_destination", lambda *_, **__: _NoLock()),
    "a run is not locked": (named_run, "take_lock", lambda *_, **__: _NoLock()),
    "a holder on another host counts as dead": (run_lock, "_is_alive", lambda holder: False),
    "the lock is not checked before objects are published": (ObjectCommit, "_check_lock", _nothing),
    "a stale listing is trusted": (ObjectCommit, "_publish_folder", _trust_the_listing),
    "intents of dead runs are not finished": (ObjectCommit, "_recover_stale_runs", _nothing),
    "a cancellation outlives the run that it ended": (RunDirectory, "remove", _keep_cancel),
    "what an earlier driver published is not synced": (LocalCommit, "_sync_published", _nothing),
    "blocks of late answers are not deleted": (Scheduler, "_discard", _nothing),
    "staged files are not synced": (disk, "sync_file", _nothing),
    "the journal of an earlier driver is not synced": (RunDirectory, "sync_lines", _nothing),
    "the manifest is not synced": (manifest, "write", _unsynced_manifest),
    "the new folder is not synced": (local, "fsync_tree", _nothing),
    "the folder of the destination is not synced": (local, "fsync_folder", _nothing),
    "the journal is not synced before staging is deleted": (LogWriter, "sync", LogWriter.flush),
    "a run is not durable before its output is": (RunRecorder, "sync", _nothing),
    "the journal does not say that a task stopped early": (
        PlanRecorder,
        "record_finished",
        _forget_remainder,
    ),
    "tasks that fail are forgotten": (Scheduler, "_retry", lambda self, state, task, cause, now: None),
}


#: Histories that show the faults: a seed, or a script from `REGRESSIONS`.
FOUND_BY: dict[str, int | Script] = {
    "the journal says committed before the output is published": 7,
    "the manifest is written before objects are copied": 173,
    "a resumed run does not see that it has committed": REGRESSIONS["rows appended twice"],
    "the journal is believed though staged files are gone": 10,
    "objects of a commit are not announced": 27,
    "staging of dead runs stays": 46,
    "checkpoints of a run that is done stay": REGRESSIONS["checkpoints of a run that is done"],
    "a run that appends is forgotten once another one has appended": REGRESSIONS["rows appended twice"],
    "files of a job that was corrected stay in the new folder": REGRESSIONS[
        "files of a job that was corrected, in the new folder"
    ],
    "the destination is not locked": Script(
        2, "copy", "append", "local", "local", True, False, False, (3, 2),
        (Actor(0.0, "drive"), Actor(0.238, "other")), (), 0.6,
    ),
    "a run is not locked": 2,
    "a holder on another host counts as dead": 4,
    "a stale listing is trusted": REGRESSIONS["an old object that a listing did not show"],
    "intents of dead runs are not finished": 27,
    "a cancellation outlives the run that it ended": 18,
    "tasks that fail are forgotten": 7,
    "the lock is not checked before objects are published": Script(
        18492, "group", "append", "object", "object", True, False, False, (3,),
        (Actor(0.0, "drive"), Actor(0.0, "other"), Actor(5.958, "other")), (Fault(39, "hang", 787.645),), 0.3, cut=True,
    ),
    "what an earlier driver published is not synced": REGRESSIONS[
        "an output whose run died before it synced the folder"
    ],
    "blocks of late answers are not deleted": 4,
    "staged files are not synced": 29,
    "the manifest is not synced": 6,
    "the new folder is not synced": 29,
    "the folder of the destination is not synced": 29,
    "the journal is not synced before staging is deleted": 19,
    "the journal does not say that a task stopped early": 27,
    "the journal of an earlier driver is not synced": REGRESSIONS[
        "the journal of an earlier driver, not synced by the next"
    ],
    "a run is not durable before its output is": REGRESSIONS[
        "a run that a power cut took, and its output stayed"
    ],
}  # fmt: skip


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant a fault during the block."""
    target, attribute, other = PLANTED[name]
    known = vars(target)[attribute]
    setattr(target, attribute, other)
    try:
        yield
    finally:
        setattr(target, attribute, known)


if __name__ == "__main__":
    from tests.simulation.simulate import failing

    for name in PLANTED:
        with planted(name):
            print(name, failing(range(20_000)), flush=True)
