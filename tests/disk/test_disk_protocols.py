"""Each protocol of the crash states, over a disk whose power is cut: there is the old or the new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("greenlet")

from tests.disk.disk import Disk
from tests.fork_server import ForkServer
from tests.simulation.protocols import PROTOCOLS

#: Checkpoints are known to their process only, and cache entries do not outlive the machine.
NAMES = [name for name, protocol in PROTOCOLS.items() if not protocol.killed and name != "checkpoint"]


@pytest.fixture(scope="module")
def deeds() -> Iterator[ForkServer]:
    with ForkServer("tests.disk.deeds", "main", ["mmflow.api.session"]) as server:
        yield server


def _cut(disk: Disk, deeds: ForkServer, marks: Path, name: str, after: int, seed: int | None) -> bool:
    """Run a protocol whose power is cut after so many changes, and check it; return whether power was cut at all."""
    disk.format()
    marks.unlink(missing_ok=True)
    work = disk.path / "work"
    work.mkdir()
    place = (name, str(work), str(marks))
    assert deeds.run("begin", *place).returncode == 0
    disk.sync()
    rule = disk.cut_power(after, seed)
    deeds.run("run", *place)
    cut = disk.hits(rule) > 0
    if cut:
        disk.power_on()
    else:
        disk.crash(seed)
    done = deeds.run("check", *place)
    there = sorted(str(p.relative_to(work)) for p in work.rglob("*"))
    assert done.returncode == 0, f"power cut after {after} changes (seed {seed}): {done.stderr} {there}"
    return cut


@pytest.mark.parametrize("name", ["commit: a folder is replaced", "array: pages in place, with an undo log"])
def test_old_or_new(disk: Disk, deeds: ForkServer, tmp_path: Path, name: str) -> None:
    assert _cut(disk, deeds, tmp_path / "marks", name, 7, None)
    assert not _cut(disk, deeds, tmp_path / "marks", name, 10_000, None)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_old_or_new_at_every_change(disk: Disk, deeds: ForkServer, tmp_path: Path, name: str) -> None:
    after = 0
    while all(_cut(disk, deeds, tmp_path / "marks", name, after, seed) for seed in (None, after)):
        after += 1
    print(f"{name}: power was cut at {after} changes")
    assert after > 5
