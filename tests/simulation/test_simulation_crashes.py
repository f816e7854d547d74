"""States after a crash of the machine: each protocol gives the old or the new, and syncs that are left out are found."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("greenlet")

from mmflow.arrays import change, opening, undo
from mmflow.blocks import run_folder
from mmflow.mapping.system import owner_lock, system
from mmflow.remote.cache import folder
from mmflow.runs.directory import LogWriter
from mmflow.sinks.commit import local, manifest
from mmflow.storage import disk
from tests.simulation.crashes import crash
from tests.simulation.protocols import PROTOCOLS

#: States of each protocol that are recovered here, and deaths of real processes; `make crash-states` has all.
MOST, MOST_DEATHS = 50, 20


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_after_a_crash_there_is_the_old_or_the_new(name: str) -> None:
    failures: list[str] = []
    assert crash(name, MOST_DEATHS if PROTOCOLS[name].killed else MOST, failures) > 0
    assert not failures, failures[0]


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_after_a_crash_there_is_the_old_or_the_new_in_all_states(name: str) -> None:
    failures: list[str] = []
    assert crash(name, sys.maxsize, failures) > 0
    assert not failures, failures[0]


def _unsynced(place: Any, made: dict[str, Any]) -> None:
    disk.write_file(place / manifest.NAME, manifest.encode(made))


def _nothing(*_: Any, **__: Any) -> None:
    """Sync nothing."""


#: What is left out: the protocol that must notice, and what is replaced by what.
LEFT_OUT: dict[str, tuple[str, Any, str, Any]] = {
    "sync of the manifest": ("commit: a new folder", manifest, "write", _unsynced),
    "sync of staged files": ("commit: files are appended", disk, "sync_file", _nothing),
    "sync of the new folder": ("commit: a folder is replaced", local, "fsync_tree", _nothing),
    "sync of the folder of the destination": ("commit: a new file", local, "fsync_folder", _nothing),
    "sync of the journal": ("run: facts, journal, summary", LogWriter, "sync", LogWriter.flush),
    "sync of old pages": ("array: pages in place, with an undo log", type(system), "sync", _nothing),
    "sync of pages that come back": (
        "array: pages and holes, of which a change is undone",
        type(system),
        "sync",
        _nothing,
    ),
    "sync of the folder of an undo log": (
        "array: pages in place, with an undo log",
        undo,
        "fsync_folder",
        _nothing,
    ),
    "sync of the folder of a new array": ("array: a new file", opening, "fsync_folder", _nothing),
    "syncs of a folder of spilled data": ("folder of spilled data", run_folder, "sync_names", _nothing),
    "syncs of a folder of pages": (
        "cache of pages: begun, and that of another boot removed",
        folder,
        "sync_names",
        _nothing,
    ),
    "sync of the names that go before the lock": (
        "cache of pages: begun, and that of another boot removed",
        owner_lock,
        "sync_names",
        _nothing,
    ),
    "sync of what a change begins with": (
        "array: regions of a new file, by tasks",
        change,
        "fsync_folder",
        _nothing,
    ),
}


@pytest.mark.parametrize("what", list(LEFT_OUT))
def test_a_sync_that_is_left_out_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, target, name, other = LEFT_OUT[what]
    monkeypatch.setattr(target, name, other)
    failures: list[str] = []
    crash(protocol, 400, failures, stop=True)
    assert failures
