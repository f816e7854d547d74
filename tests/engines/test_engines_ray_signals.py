"""Agreement of executions of one Ray task, through signals in a fake of Ray's key-value store."""

from __future__ import annotations

from typing import Any

import pytest

from mmflow.engines.messages import TaskMessage
from mmflow.engines.ray import signals
from mmflow.engines.ray.signals import RunSignals, TaskSignals
from mmflow.errors import WorkerLostError
from mmflow.mapping import FileIdentity
from mmflow.plan.tasks import Done, Failed, ShardTask, TaskId
from mmflow.private_apis import ray_internals
from mmflow.remote.options import RemoteOptions
from mmflow.shards import FileEntry, Shard

TASK = TaskId(0, 7, (1,))


class Store:
    """Fake of the functions of `ray.experimental.internal_kv` in use."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def _internal_kv_get(self, key: str, *, namespace: bytes) -> bytes | None:
        return self.values.get(key)

    def _internal_kv_put(self, key: str, value: bytes, *, overwrite: bool, namespace: bytes) -> bool:
        known = key in self.values
        self.values.setdefault(key, value)
        return known

    def _internal_kv_del(self, key: str, *, del_by_prefix: bool, namespace: bytes) -> None:
        self.values = {k: v for k, v in self.values.items() if not k.startswith(key)}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(ray_internals, "internal_kv", made)
    monkeypatch.setattr(signals, "_LOOK_SECONDS", 0.0)
    return made


def message() -> TaskMessage:
    shards = ShardTask((FileEntry("f", FileIdentity(0, 1, 99, 0)),), (Shard(0, 0, 90, True),))
    return TaskMessage(
        TASK, 0, shards, {}, None, "r", "", False, "k", 1, "auto", "/tmp", "h", RemoteOptions(), {}
    )


def reply(resume_offset: int | None) -> Done:
    return Done(TASK, 0, resume_offset=resume_offset)


def end_of(asked: TaskSignals) -> int:
    shards: Any = asked.cut(message()).shards
    return int(shards.shards[0].end)


def test_a_task_that_was_asked_returns_early_and_is_run_again_up_to_there(store: Store) -> None:
    notes = RunSignals()
    name = notes.name(TASK, 0)
    first = TaskSignals(name, again=False)
    assert not first.is_set()
    notes.ask(TaskId(0, 7), 0)
    assert not first.is_set(), "another one was"
    notes.ask(TASK, 0)
    assert first.is_set()
    assert first.agreed(reply(40)) == reply(40)
    later = TaskSignals(name, again=True)
    assert end_of(later) == 40
    assert not later.is_set()
    assert later.agreed(reply(None)) == reply(40), "the driver may not have heard of it from the first one"
    notes.close()
    assert store.values == {}


def test_a_task_that_read_all_reads_all_again_though_it_was_asked_in_the_end(store: Store) -> None:
    notes = RunSignals()
    name = notes.name(TASK, 0)
    first = TaskSignals(name, again=False)
    notes.ask(TASK, 0)
    assert first.agreed(reply(None)) == reply(None)
    later = TaskSignals(name, again=True)
    assert not later.is_set()
    assert end_of(later) == 90
    assert later.agreed(reply(None)) == reply(None)


def test_an_execution_that_was_taken_for_dead_can_not_stop_early(store: Store) -> None:
    notes = RunSignals()
    name = notes.name(TASK, 0)
    zombie = TaskSignals(name, again=False)
    notes.ask(TASK, 0)
    assert zombie.is_set()
    later = TaskSignals(name, again=True)
    result = zombie.agreed(reply(40))
    assert isinstance(result, Failed)
    assert isinstance(result.error, WorkerLostError)
    assert end_of(later) == 90
    assert end_of(TaskSignals(name, again=True)) == 90
