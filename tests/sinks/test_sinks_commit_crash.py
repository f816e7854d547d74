"""A process killed at any step of a commit leaves the old state or the new; resumed once, swept by the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmflow.sinks import StagedFile, open_commit, sink_spec
from mmflow.sinks.commit.staging import read_placed
from tests.sinks.conftest import Crash
from tests.sinks.sink_rows import rows, state, write, write_all

CASES = {
    # name: destination, mode of the run that dies, old state, new state
    "new folder": ("out", "error", None, ["new", "new"]),
    "replace folder": ("out", "replace", ["old", "old"], ["new", "new"]),
    "append": ("out", "append", ["old", "old"], ["new", "new", "old", "old"]),
    "new file": ("out.csv", "error", None, ["new"]),
    "replace file": ("out.csv", "replace", ["old"], ["new"]),
}
_PLACED = ["placed", "placed", "manifest", "synced", "published", "noted", "cleaned"]
STEPS = {
    "new folder": ["prepared", "staged", *_PLACED],
    "replace folder": ["prepared", "staged", *_PLACED],
    "append": ["prepared", "staged", "linked", *_PLACED],
    "new file": ["prepared", "staged", "marked", "published", "noted", "cleaned"],
    "replace file": ["prepared", "staged", "marked", "published", "noted", "cleaned"],
}


def _points() -> Iterator[tuple[str, int, bool]]:
    for name, steps in STEPS.items():
        yield from ((name, number + 1, False) for number in range(len(steps)))
    # Without swap, replacing has two steps more.
    yield from (("replace folder", number, True) for number in (6, 7, 8, 9, 10))


@pytest.mark.parametrize(("name", "die_at", "no_swap"), list(_points()))
def test_a_crash_leaves_old_or_new(
    tmp_path: Path, crash: Crash, name: str, die_at: int, no_swap: bool
) -> None:
    target, mode, old, new = CASES[name]
    destination = tmp_path / target
    if old is not None:
        write_all(destination, [[rows("old")]] * len(old), format="csv", run="r-old")
    more = ["noswap"] if no_swap else []
    died, reached = crash(destination, "r-dead", mode, "new", die_at, *more)
    assert died
    expected = STEPS[name]
    if no_swap:
        expected = [*expected[:6], "old_destination", "renamed", *expected[6:]]
    assert reached == expected[:die_at]
    last = reached[-1]
    found = state(destination)
    if last == "old_destination":
        assert found is None  # for the moment; mended below
    else:
        assert found == (new if last in ("renamed", "published", "noted", "cleaned") else old)

    # The next run mends, refuses or goes on, and nothing of the dead one stays.
    spec = sink_spec(destination, "csv", if_exists="replace")
    with open_commit(spec, "r-next") as commit:
        commit.prepare()
        assert state(destination) == (new if last in ("renamed", "published", "noted", "cleaned") else old)
        commit.commit(write(spec, [rows("next")], rows("next").schema, run="r-next"), rows("next").schema)
    assert state(destination) == ["next"]
    assert {p.name for p in tmp_path.iterdir()} == {target}


@pytest.mark.parametrize("name", list(CASES))
def test_a_run_that_died_can_be_resumed_at_every_step(tmp_path: Path, crash: Crash, name: str) -> None:
    target, mode, old, new = CASES[name]
    for die_at, step in enumerate(STEPS[name], start=1):
        folder = tmp_path / str(die_at)
        folder.mkdir()
        destination = folder / target
        if old is not None:
            write_all(destination, [[rows("old")]] * len(old), format="csv", run="r-old")
        died, _ = crash(destination, "r-dead", mode, "new", die_at)
        assert died
        spec = sink_spec(destination, "csv", if_exists=mode)  # type: ignore[arg-type]  # of str
        if step == "cleaned" and target == "out.csv":  # nothing is left that could tell that it was this run
            continue
        with open_commit(spec, "r-dead") as commit:
            commit.prepare()
            assert commit.done is (step in ("published", "noted", "cleaned"))
            if not commit.done:
                # Its tasks run again; those whose files were placed already give the same ones.
                again = [write(spec, [rows("new")], rows("new").schema, run="r-dead", number=n)
                         for n in range(2 if spec.is_folder else 1)]  # fmt: skip
                commit.commit([f for files in again for f in files], rows("new").schema)
            else:
                commit.commit([], rows("new").schema)
        assert state(destination) == new, step
        assert {p.name for p in folder.iterdir()} == {target}


def test_a_resumed_commit_needs_staged_files_only_once(tmp_path: Path, crash: Crash) -> None:
    died, reached = crash(tmp_path / "out", "r1", "error", "new", 4)
    assert died
    assert reached[-2:] == ["placed", "placed"]
    spec = sink_spec(tmp_path / "out", "csv")
    with open_commit(spec, "r1") as commit:
        commit.prepare()
        nbytes = write(spec, [rows("new")], rows("new").schema, number=5)[0].nbytes
        files = [StagedFile(staged, path, 1, nbytes) for path, staged in read_placed(spec, "r1").items()]
        assert len(files) == 2
        assert not any(Path(f.staged).exists() for f in files)
        commit.commit(files, rows("new").schema)
    assert state(tmp_path / "out") == ["new", "new"]
