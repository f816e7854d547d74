"""Ray's cancel interrupts a task in its own work only: nothing that it made for itself is left behind."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mmflow.blocks import run_folder, run_folders
from mmflow.engines.ray.interrupts import TaskInterrupts


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_interrupts_are_raised_where_they_are_allowed() -> None:
    before = signal.getsignal(signal.SIGINT)
    with TaskInterrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.allowed():
        _interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_came_before_is_raised_where_it_is_allowed() -> None:
    done = []
    with TaskInterrupts() as interrupts:
        _interrupt()
        done.append("set up")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            done.append("work")
        _interrupt()
        done.append("clean-up")
    assert done == ["set up", "clean-up"]


@pytest.mark.parametrize("where", ["OwnerLock", "remove_owned"])
def test_an_interrupted_task_leaves_no_folder(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt comes while the folder is made, or while it is removed."""
    original = getattr(run_folder, where)

    def interrupted(*arguments: Any) -> Any:
        _interrupt()
        return original(*arguments)

    monkeypatch.setattr(run_folder, where, interrupted)
    with TaskInterrupts() as interrupts, closing(_task(tmp_path, interrupts)) as task:
        try:
            next(task)
        except KeyboardInterrupt:
            assert where == "OwnerLock"
    assert not run_folders(tmp_path, "r")


def _task(parent: Path, interrupts: TaskInterrupts) -> Any:
    folder = run_folder.RunFolder(parent, "r")
    try:
        with interrupts.allowed():
            pass
        yield
    finally:
        folder.close()
