"""Faults that are planted in mmflow, one at a time: the world must find each.

python -m tests.simulation.planted    finds them among 20,000 seeds, for `FOUND_BY`
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mmflow.plan.tasks import Done
from mmflow.runs import named_run
from mmflow.runs.recorder import PlanRecorder
from mmflow.scheduler.scheduler import Scheduler
from mmflow.sinks import CommitResult
from mmflow.sinks.commit import local, manifest
from mmflow.sinks.commit.local import LocalCommit
from mmflow.sinks.commit.object_commit import ObjectCommit
from mmflow.sinks.commit.protocol import Commit

__all__ = ["FOUND_BY", "PLANTED", "planted"]


def _note_first(self: Commit, files: Any, schema: Any, published: Any = lambda _: None) -> Any:
    """Note that the output is published, and publish it then."""
    if not self.done:
        published(
            CommitResult(self.spec.path, len(files), sum(f.rows for f in files), sum(f.nbytes for f in files))
        )
    return _commit(self, files, schema)


def _publish_first(self: ObjectCommit, files: Any, schema: Any) -> None:
    """Write the manifest, and copy the objects then."""
    copied: list[Any] = []
    self._copy = copied.extend  # type: ignore[method-assign, assignment]
    self._check_copies = lambda files, there: None  # type: ignore[method-assign]
    _publish(self, files, schema)
    del self._copy
    self._copy(copied)


def _find_without_a_look(self: PlanRecorder, stage: str, key: str) -> Done | None:
    """Trust the journal without a look whether the staged files are there."""
    self._staged = None
    return _find(self, stage, key)


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
    "tasks that fail are forgotten": (Scheduler, "_retry", lambda self, state, task, cause, now: None),
}


#: The first seed whose history shows the fault.
FOUND_BY = {
    "the journal says committed before the output is published": 5,
    "the manifest is written before objects are copied": 39,
    "a resumed run does not see that it has committed": 688,
    "the journal is believed though staged files are gone": 150,
    "objects of a commit are not announced": 41,
    "staging of dead runs stays": 42,
    "checkpoints of a run that is done stay": 250,
    "a run that appends is forgotten once another one has appended": 688,
    "files of a job that was corrected stay in the new folder": 10027,
    "tasks that fail are forgotten": 40,
}


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
