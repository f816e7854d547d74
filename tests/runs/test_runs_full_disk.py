"""A disk that is full: the run says which and stops, nothing half-written can be seen, and with more room it is resumed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.runs.conftest import Workplace, clusters, files_of
from tests.runs.disks import disk


def _place(workplace: Workplace, what: str) -> Path:
    """The folder that holds nothing but this."""
    run = workplace.runs / "r1"
    return {
        "spill": workplace.spill,
        "journal": run / "journal",
        "events": run / "events",
        "blocks": run / "blocks",
        "sink": workplace.folder / "disk",
        "manifest": workplace.folder / "disk",
    }[what]


def _failed_well(failed: subprocess.CompletedProcess[str], place: Path, advice: str) -> None:
    assert failed.returncode == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, failed.stderr
    assert str(place) in errors[0]
    assert "no room" in errors[0] or "no space" in errors[0].lower()
    assert advice in errors[0]
    assert "--resume r1" in failed.stderr


def _went_on(workplace: Workplace, output: Path, expected: dict[str, bytes]) -> None:
    """The resumed run writes the same bytes, and repeats no task of the journal."""
    journalled = sum('"kind":"task"' in line for line in workplace.journal())
    went_on = workplace.resume()
    assert went_on.returncode == 0, went_on.stderr
    assert files_of(output) == expected
    events = workplace.events()
    resumed = max(n for n, e in enumerate(events) if e["event"] == "run_started")
    assert sum(e["event"] == "task_restored" for e in events[resumed:]) == journalled


# Room for some of it: the journal has 19 lines of about 250 bytes, a page holds each staged file. Only blocks of tasks
# that are under way lie where they spill.
@pytest.mark.root
@pytest.mark.parametrize(
    ("what", "size", "advice"),
    [
        ("spill", "8k", "set spill_dir (MMFLOW_SPILL_DIR)"),
        ("journal", "4k", "set runs_dir (MMFLOW_RUNS_DIR)"),
        ("events", "4k", "set runs_dir (MMFLOW_RUNS_DIR)"),
        ("blocks", "64k", "set runs_dir (MMFLOW_RUNS_DIR)"),
        ("sink", "8k", "free some space or write elsewhere"),
        ("manifest", "12k", "free some space or write elsewhere"),
    ],
)
def test_a_full_disk_stops_the_run_which_goes_on_with_more_room(
    workplace: Workplace, what: str, size: str, advice: str
) -> None:
    whole, place = workplace.folder / "whole", _place(workplace, what)
    workplace.settings["memory"] = "16KiB"  # most blocks spill
    assert workplace.run(whole, run_id="whole").returncode == 0
    output = workplace.folder / "disk" / "out"
    output.parent.mkdir()
    with disk(place, size) as full:
        failed = workplace.run(output)
        _failed_well(failed, place, advice)
        assert not output.exists()
        full.grow("64m")
        assert what == "spill" or any('"kind":"task"' in line for line in workplace.journal())
        _went_on(workplace, output, files_of(whole))
        left = [p.name for p in output.parent.iterdir() if p != output]
        assert left == []


@pytest.mark.root
@pytest.mark.parametrize(("engine", "what", "size"), [("dask", "blocks", "12k"), ("ray", "sink", "8k")])
def test_a_full_disk_of_workers(workplace: Workplace, engine: str, what: str, size: str) -> None:
    whole, place = workplace.folder / "whole", _place(workplace, what)
    assert workplace.run(whole, run_id="whole", join=False).returncode == 0
    output = workplace.folder / "disk" / "out"
    output.parent.mkdir()
    with clusters(engine) as address, disk(place, size) as full:
        failed = workplace.run(output, join=False, engine=engine, address=address)
        _failed_well(failed, place, "set runs_dir" if what == "blocks" else "write elsewhere")
        assert not output.exists()
        full.grow("64m")
        _went_on(workplace, output, files_of(whole))
