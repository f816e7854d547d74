"""Drivers are killed at every step of a run, which is then resumed: the output is that of an undisturbed run, byte for byte."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mmflow.runs.directory import RunDirectory
from mmflow.runs.quarantine import read_quarantine
from tests.runs.conftest import JOB, Workplace, clusters, counted, files_of

#: Each takes a second or more: `make test` dies at every third step, and `make nightly` at the others.
thirds = pytest.mark.parametrize(
    "part", [1, pytest.param(2, marks=pytest.mark.nightly), pytest.param(3, marks=pytest.mark.nightly)]
)

#: On a cluster each takes five: every fifth step, so that one goes on there and one elsewhere.
fifths = pytest.mark.parametrize(
    "part", [1, *(pytest.param(part, marks=pytest.mark.nightly) for part in range(2, 6))]
)


@pytest.fixture
def undisturbed(workplace: Workplace) -> tuple[dict[str, bytes], int, int]:
    done = workplace.run(workplace.folder / "whole", run_id="whole")
    assert done.returncode == 0, done.stderr
    return files_of(workplace.folder / "whole"), *counted(done.stdout)


@thirds
def test_killed_after_every_line_of_the_journal(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int], part: int
) -> None:
    expected, lines, _ = undisturbed
    assert lines > 10
    for line in range(part, lines + 1, 3):
        name, output = f"j{line}", workplace.folder / f"out{line}"
        assert workplace.run(output, place=f"journal:{line}", run_id=name).returncode == -signal.SIGKILL
        tasks = sum('"kind":"task"' in text for text in workplace.journal(name))
        went_on = workplace.resume(name)
        assert went_on.returncode == 0, went_on.stderr
        assert files_of(output) == expected
        # What was journalled was not computed again.
        done = [
            e
            for e in workplace.events(name)
            if e["event"] == "task_done" and e["t"] > _resumed(workplace, name)
        ]
        restored = [e for e in workplace.events(name) if e["event"] == "task_restored"]
        if restored or done:
            assert len(restored) == tasks
    assert workplace.leftovers() == []


def _resumed(workplace: Workplace, name: str) -> float:
    return max(float(e["t"]) for e in workplace.events(name) if e["event"] == "run_started")


def test_a_torn_line_is_left_out(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int]
) -> None:
    expected, lines, _ = undisturbed
    for line in (1, lines // 2, lines):
        name, output = f"t{line}", workplace.folder / f"out{line}"
        assert workplace.run(output, place=f"torn:{line}", run_id=name).returncode == -signal.SIGKILL
        went_on = workplace.resume(name)
        assert went_on.returncode == 0, went_on.stderr
        assert files_of(output) == expected


@thirds
def test_killed_at_every_step_of_the_commit(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int], part: int
) -> None:
    expected, _, steps = undisturbed
    assert steps >= 6
    for step in range(part, steps + 1, 3):
        name, output = f"c{step}", workplace.folder / f"out{step}"
        assert workplace.run(output, place=f"commit:{step}", run_id=name).returncode == -signal.SIGKILL
        went_on = workplace.resume(name)
        assert went_on.returncode == 0, went_on.stderr
        assert files_of(output) == expected
        again = workplace.resume(name)  # of a run that is done: nothing happens
        assert again.returncode == 0, again.stderr
        assert files_of(output) == expected
    assert workplace.leftovers() == []


def test_killed_again_and_again(workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int]) -> None:
    expected, lines, _ = undisturbed
    output = workplace.folder / "out"
    assert workplace.run(output, place="journal:2").returncode == -signal.SIGKILL
    kills = 1
    while (done := workplace.resume(place="journal:3")).returncode == -signal.SIGKILL:
        kills += 1
        assert kills <= lines
    assert done.returncode == 0, done.stderr
    assert kills >= lines // 3
    assert files_of(output) == expected


@fifths
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_killed_on_a_cluster_and_gone_on_with_there_and_elsewhere(
    workplace: Workplace, engine: str, part: int
) -> None:
    whole = workplace.folder / "whole"
    workplace.settings["shard-size"] = "16KiB"
    done = workplace.run(whole, run_id="whole", join=False)
    lines, _ = counted(done.stdout)
    assert lines >= 6
    with clusters(engine) as address:
        for line in range(part, lines + 1, 5):
            name, output = f"j{line}", workplace.folder / f"out{line}"
            cluster = {"engine": engine, "address": address}
            died = workplace.run(output, place=f"journal:{line}", run_id=name, join=False, **cluster)
            assert died.returncode == -signal.SIGKILL, died.stderr
            elsewhere = {"engine": "local", "address": ""}
            went_on = workplace.resume(name, **(elsewhere if line % 2 else {}))
            assert went_on.returncode == 0, went_on.stderr
            assert files_of(output) == files_of(whole)
            assert any(e["event"] == "task_restored" for e in workplace.events(name)) or line == lines


def test_changed_sources_are_named(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int]
) -> None:
    output = workplace.folder / "out"
    workplace.run(output, place="journal:3")
    with workplace.people.open("a") as file:
        file.write("60,name 60\n")
    refused = workplace.resume()
    assert refused.returncode == 1
    assert str(workplace.people) in refused.stderr
    assert str(workplace.orders) not in refused.stderr
    assert not output.exists()


def test_a_replaced_source_is_named(workplace: Workplace) -> None:
    """The inode tells: size and time of modification are those of the old file."""
    output = workplace.folder / "out"
    workplace.run(output, place="journal:3")
    status = workplace.people.stat()
    other = workplace.folder / "other.csv"
    other.write_bytes(workplace.people.read_bytes().replace(b"name 7", b"eman 7"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(workplace.people)
    assert workplace.people.stat().st_mtime_ns == status.st_mtime_ns
    assert workplace.people.stat().st_size == status.st_size
    refused = workplace.resume()
    assert refused.returncode == 1
    assert f"{workplace.people} was replaced by another file" in refused.stderr
    assert str(workplace.orders) not in refused.stderr
    assert not output.exists()


def test_what_the_inputs_were_is_damaged(workplace: Workplace) -> None:
    workplace.run(workplace.folder / "out", place="journal:3")
    sources = workplace.runs / "r1" / "sources.jsonl"
    _flip(sources, 0)
    refused = workplace.resume()
    assert refused.returncode == 1
    assert f"{sources} (the list of inputs) is damaged" in refused.stderr


def test_events_that_are_damaged_do_no_harm(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int]
) -> None:
    expected, _, _ = undisturbed
    output = workplace.folder / "out"
    workplace.run(output, place="journal:6")
    events = workplace.runs / "r1" / "events" / "000000.jsonl"
    _flip(events, 0)
    events.write_bytes(b"[1]\n" + events.read_bytes())
    went_on = workplace.resume()
    assert went_on.returncode == 0, went_on.stderr
    assert files_of(output) == expected
    assert (workplace.runs / "r1" / "report.html").exists()


def test_bad_records_are_quarantined_before_the_commit(workplace: Workplace) -> None:
    """A run whose rows are visible has a quarantine, whatever step of the commit the driver dies at."""
    with workplace.orders.open("a") as file:
        file.write("no,number\n")
    for step in (5, 6, 7):  # published, noted, cleaned
        name, output = f"c{step}", workplace.folder / f"out{step}"
        died = workplace.mmflow(
            "run", str(JOB), "--orders", str(workplace.orders), "--policy", "quarantine", "--output", str(output),
            "--format", "csv", "--name", name, *workplace.flags(), place=f"commit:{step}",
        )  # fmt: skip
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert workplace.resume(name).returncode == 0
        rows = read_quarantine(RunDirectory(workplace.runs, name))
        assert [r.rstrip(b"\n") for r in rows.column("raw").to_pylist()] == [b"no,number"]


def test_damaged_files_are_computed_again(
    workplace: Workplace, undisturbed: tuple[dict[str, bytes], int, int]
) -> None:
    expected, _, _ = undisturbed
    output = workplace.folder / "out"
    workplace.run(output, place="journal:6")
    kept = sorted((workplace.runs / "r1" / "blocks").rglob("*.blocks"))
    assert len(kept) > 3
    for path in [p for p in kept if p.stat().st_size][::2]:  # a block that is being written may be empty
        _flip(path, path.stat().st_size // 2)
    journal = workplace.runs / "r1" / "journal" / "000000.jsonl"
    _flip(journal, journal.stat().st_size // 3)
    went_on = workplace.resume()
    assert went_on.returncode == 0, went_on.stderr
    assert files_of(output) == expected
    said = {e["event"] for e in workplace.events()}
    assert "restarted" in said
    assert any("damaged" in e["message"] for e in workplace.events() if e["event"] == "warning")


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
