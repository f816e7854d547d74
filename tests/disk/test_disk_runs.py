"""Runs over a disk whose power is cut, or that fails: the output is the old or the new, errors say what and where, and a resumed run ends well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("greenlet")

from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.atomic import fsync_tree, link_tree
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
    hidden = [p.name for p in output.parent.iterdir() if p.name.startswith(f".{output.name}.")]
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


@pytest.mark.nightly
def test_power_is_cut_at_every_fifth_change(disk: Disk, workplace: Workplace) -> None:
    expected = _whole(disk, workplace)
    after = 0
    while _cut(disk, workplace, after, None if after % 2 else after, expected):
        after += 5
    print(f"power was cut at {after // 5} changes of a run")
    assert after > 100


#: Requests that fail, and below which folder.
_FAULTS = [
    ("write", "*"), ("fsync", "*"), ("fsyncdir", "*"), ("create", "*"), ("mkdir", "*"), ("rename", "*"), ("unlink", "*"),
    ("flush", "/work/runs/*"), ("flush", "/work/spill/*"), ("flush", "/work/.*"), ("readdir", "*"), ("read", "*"),
]  # fmt: skip


def _failed(
    disk: Disk, workplace: Workplace, op: str, name: str, skip: int, error: int, expected: dict[str, bytes]
) -> bool:
    """Have one request of a run fail, and resume it; return whether there was such a request."""
    run, output = f"{op}-{skip}-{abs(hash(name)) % 1000}", disk.path / "work" / f"out-{op}-{skip}"
    rule = disk.fail(op, name, skip=skip, times=1, error=error)
    done = workplace.run(output, run_id=run)
    hit = disk.hits(rule) > 0
    disk.power_on()
    what = f"{op} {name} number {skip}: {done.stderr}"
    assert "Traceback" not in done.stderr, what
    assert "standard output" not in done.stderr, what
    assert "bug" not in done.stderr, what
    if done.returncode:
        assert hit, what
        assert re.search(rf"error: .*{re.escape(str(disk.path))}", done.stderr), what
        went_on = workplace.resume(run)
        if went_on.returncode == 2:
            assert f"there is no run {run}" in went_on.stderr
            went_on = workplace.run(output, run_id=run)
        assert went_on.returncode == 0, f"{what} then {went_on.stderr}"
    assert files_of(output) == expected, what
    return hit


@pytest.mark.nightly
@pytest.mark.parametrize(("op", "name"), _FAULTS)
def test_each_request_may_fail(disk: Disk, workplace: Workplace, op: str, name: str) -> None:
    expected = _whole(disk, workplace)
    skip, error = 0, 5
    while _failed(disk, workplace, op, name, skip, error, expected):
        skip += 4
        error = 5 if error == 28 else 28
    print(f"{op} {name}: {skip // 4} requests failed")


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


@pytest.mark.parametrize(
    "look",
    [
        fsync_tree,
        lambda folder: link_tree(folder, folder.with_name("new")),
        manifest.data_files,
        manifest.foreign_file,
    ],
    ids=["sync", "link", "files", "foreign"],
)
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(
    disk: Disk, look: Callable[[Path], object]
) -> None:
    folder = disk.path / "out"
    (folder / "k=1").mkdir(parents=True)
    (folder / "k=1" / "a.csv").write_text("a\n1\n")
    rule = disk.fail("readdir", "*/k=1")
    with pytest.raises(OSError, match="k=1"):
        look(folder)
    disk.release(rule)
    look(folder)
