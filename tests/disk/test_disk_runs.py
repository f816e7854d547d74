"""Runs over a disk whose power is cut, or that fails: the output is the old or the new, errors say what and where, and a resumed run ends well."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("greenlet")

from tests.disk.disk import Disk
from tests.fork_server import IMPORTED, ForkServer
from tests.runs.conftest import Workplace, files_of


@pytest.fixture(scope="module")
def commands() -> Iterator[ForkServer]:
    with ForkServer("tests.disk.deeds", "command", IMPORTED) as server:
        yield server


@pytest.fixture
def workplace(disk: Disk, commands: ForkServer) -> Workplace:
    made = Workplace(disk.path / "work", commands, rows=600)
    made.settings["shard-size"] = "4KiB"
    made.runs.mkdir()
    disk.sync()
    return made


def _cut(disk: Disk, workplace: Workplace, after: int, seed: int | None, expected: dict[str, bytes]) -> bool:
    """Cut power during a run, resume it, and check its output; return whether power was cut before the end."""
    name, output = f"r{after}-{seed}", disk.path / "work" / f"out{after}-{seed}"
    rule = disk.cut_power(after, seed)
    died = workplace.run(output, run_id=name)
    cut = disk.hits(rule) > 0
    disk.power_on() if cut else disk.crash(seed)
    if died.returncode == 0:
        assert files_of(output) == expected, "a run that had ended lost its output"
    assert not output.exists() or files_of(output) == expected, (
        f"half of an output: {files_of(output).keys()}"
    )
    went_on = workplace.resume(name)
    if (
        went_on.returncode == 2
    ):  # power was cut before the run was noted, which may be just after its output was published
        assert f"there is no run {name}" in went_on.stderr
        assert died.returncode != 0
        went_on = went_on if output.exists() else workplace.run(output, run_id=name)
        went_on.returncode %= 2
    assert went_on.returncode == 0, f"power cut after {after} changes (seed {seed}): {went_on.stderr}"
    assert files_of(output) == expected
    hidden = [p.name for p in output.parent.iterdir() if p.name.startswith(".")]
    assert not hidden or died.returncode, f"left behind: {hidden}"
    return cut


def _whole(disk: Disk, workplace: Workplace) -> dict[str, bytes]:
    assert workplace.run(disk.path / "whole", run_id="whole").returncode == 0
    return files_of(disk.path / "whole")


def test_power_is_cut_and_the_run_resumed(disk: Disk, workplace: Workplace) -> None:
    disk.calls()
    expected = _whole(disk, workplace)
    changes = disk.calls()["change"]
    assert _cut(disk, workplace, changes // 2, None, expected)


def test_a_close_that_fails_is_named(disk: Disk, workplace: Workplace) -> None:
    """File servers and quotas tell at `close` what they did not write."""
    disk.fail("flush", "/work/runs/*", times=1)
    done = workplace.run(disk.path / "work" / "out", run_id="r")
    assert done.returncode == 1
    assert re.search(rf"error: can't \w+ {re.escape(str(workplace.runs))}", done.stderr), done.stderr
    assert "standard output" not in done.stderr


def test_a_folder_for_spilled_data_that_fails_is_named(disk: Disk, workplace: Workplace) -> None:
    disk.fail("mkdir", "*/datafusion-*", times=1)
    done = workplace.run(disk.path / "work" / "out", run_id="r")
    assert done.returncode == 1
    assert (
        f"spilled data can't be written or read: Input/output error (os error 5) at path \"{workplace.spill}"
        in done.stderr
    )
