"""Runs that change an array are killed and resumed: each row was changed once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmflow as mf
import mmflow.arrays.change as change_module
from tests.arrays.bmp_files import bmp
from tests.runs.conftest import ROOT, Workplace, counted

BRIGHTEN, DOUBLED = str(ROOT / "jobs" / "brighten.py"), str(ROOT / "tests" / "runs" / "array_job.py")
PIXELS = np.random.default_rng(3).integers(0, 256, (90, 131, 3), np.uint8)
BRIGHTER = np.minimum(np.rint(PIXELS * 1.5), 255).astype(np.uint8)
ARRAY = np.arange(5000)


class Change:
    """A run that changes an image, or an array in place: its file, what is in it before and after."""

    def __init__(self, workplace: Workplace, kind: str) -> None:
        workplace.settings["shard-size"] = "8KiB"  # five regions, which meet within pages
        self.workplace = workplace
        self.path = workplace.folder / ("a.npy" if kind == "array" else "a.bmp")
        self.out = workplace.folder / "b.bmp" if kind == "image out" else None
        self.command = [DOUBLED if kind == "array" else BRIGHTEN, "--source", str(self.path)]
        self.command += [] if self.out is None else ["--out", str(self.out)]
        self.command += [] if kind == "array" else ["--factor", "1.5"]
        np.save(workplace.folder / "old.npy", ARRAY)
        np.save(workplace.folder / "new.npy", ARRAY * 2)
        old, new = (workplace.folder / name for name in ("old.npy", "new.npy"))
        self.old = old.read_bytes() if kind == "array" else bmp(PIXELS)
        self.new = new.read_bytes() if kind == "array" else bmp(BRIGHTER)

    def start(self, name: str, place: str) -> Any:
        self.path.write_bytes(self.old)
        if self.out is not None:
            self.out.unlink(missing_ok=True)
        return self.workplace.mmflow(
            "run", *self.command, "--name", name, *self.workplace.flags(), place=place
        )

    def changed(self) -> bytes:
        return (self.out or self.path).read_bytes()

    def restored(self, name: str) -> int:
        return sum(e["event"] == "task_restored" for e in self.workplace.events(name))


@pytest.mark.parametrize("kind", ["array", "image", "image out"])
def test_killed_and_gone_on_with(workplace: Workplace, kind: str) -> None:
    change = Change(workplace, kind)
    whole = change.start("whole", "never")
    assert whole.returncode == 0, whole.stderr
    assert change.changed() == change.new
    lines, steps = counted(whole.stdout)
    assert lines > 4
    # In the middle; and when it is durable, can be seen, is noted.
    places = ["journal:3", *(f"commit:{steps - n}" for n in (3, 2, 1))]
    for number, place in enumerate(places[::2] if kind == "image" else places):
        name = f"r{number}"
        assert change.start(name, place).returncode == -signal.SIGKILL
        went_on = workplace.resume(name)
        assert went_on.returncode == 0, went_on.stderr
        assert change.changed() == change.new
        if place.startswith("journal"):
            # `brighten` opens the image, which puts it right: then all is done again.
            assert change.restored(name) == (0 if kind == "image" else 3)
    assert workplace.leftovers() == []


def test_a_change_that_was_undone_meanwhile_is_made_anew(workplace: Workplace) -> None:
    change = Change(workplace, "array")
    assert change.start("r1", "journal:3").returncode == -signal.SIGKILL
    assert change.changed() not in (change.old, change.new)
    assert np.array_equal(mf.open_array(change.path)[...], ARRAY)
    assert change.changed() == change.old
    went_on = workplace.resume("r1")
    assert went_on.returncode == 0, went_on.stderr
    assert change.changed() == change.new
    assert change.restored("r1") == 0
    assert workplace.leftovers() == []


def _replace(path: Path) -> bytes:
    """Put another array of the same size in the place of one; what it holds."""
    other = path.with_name("other.npy")
    np.save(other, ARRAY + 10**6)
    other.replace(path)
    return path.read_bytes()


def test_a_file_that_took_the_place_of_one_being_changed_is_left_alone_by_resume(
    workplace: Workplace,
) -> None:
    change = Change(workplace, "array")
    assert change.start("r1", "journal:3").returncode == -signal.SIGKILL
    other = _replace(change.path)
    went_on = workplace.resume("r1")
    assert went_on.returncode == 1
    assert f"another file has taken the place of {change.path}" in went_on.stderr
    assert change.changed() == other


def test_a_change_is_not_committed_to_a_file_that_took_the_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ARRAY)
    # The last moment at which it matters.
    monkeypatch.setattr(change_module, "failpoint", lambda step: _replace(path) if step == "synced" else None)
    with pytest.raises(mf.SinkError, match="was cut short or replaced while it was being changed") as caught:
        mf.Session(shard_size="8KiB").map_array(path, lambda rows: rows * 2, in_place=True)
    assert "another file has taken the place" in str(caught.value.__context__)
    assert np.array_equal(np.load(path), ARRAY + 10**6)


@pytest.mark.parametrize("kind", ["array", "image out"])
def test_gone_on_with_in_other_regions(workplace: Workplace, kind: str) -> None:
    change = Change(workplace, kind)
    assert change.start("r1", "journal:3").returncode == -signal.SIGKILL
    went_on = workplace.resume("r1", **{"shard-size": "12KiB"})
    assert went_on.returncode == 0, went_on.stderr
    assert change.changed() == change.new
    assert workplace.leftovers() == []


def test_jobs_that_write_by_themselves(workplace: Workplace) -> None:
    path = workplace.folder / "a.bmp"
    path.write_bytes(bmp(PIXELS))
    explained = workplace.mmflow("explain", BRIGHTEN, "--source", str(path))
    assert explained.returncode == 0, explained.stderr
    assert f"map multiplied over the rows of {path}, in place" in explained.stdout
    refused = workplace.mmflow("run", BRIGHTEN, "--source", str(path), "--output", "x")
    assert refused.returncode == 2
    assert "leave out --output" in refused.stderr
    assert path.read_bytes() == bmp(PIXELS)
