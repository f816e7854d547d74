"""A process killed at any step of the commit to a Delta table leaves the old version or the new one, and commits once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.fork_server import ForkServer
from tests.tables.crash_delta import write

STEPS = ["prepared", "staged", "placed", "placed", "synced", "published", "noted", "cleaned"]
#: Mode of the run that dies, and the rows of a table that had (old, 1) and (old, 2) before; None: there was no table.
CASES = {
    "error": (False, [("new", 1), ("new", 2)]),
    "append": (True, [("new", 1), ("new", 2), ("old", 1), ("old", 2)]),
    "replace": (True, [("new", 1), ("new", 2)]),
    "replace-partitions": (True, [("new", 1), ("new", 2), ("old", 1), ("old", 2)]),
}


@pytest.fixture(scope="module")
def crasher() -> Iterator[ForkServer]:
    with ForkServer("tests.tables.crash_delta", imported=["deltalake", "mmflow.sinks.files"]) as server:
        yield server


def rows(path: Path) -> list[tuple[str, int]] | None:
    if not (path / "_delta_log").exists():
        return None
    return sorted((row["k"], row["n"]) for row in DeltaTable(path).to_pyarrow_table().to_pylist())


def named(path: Path) -> set[Path]:
    return {Path(uri) for uri in DeltaTable(path).file_uris()}


@pytest.mark.parametrize(
    "mode", ["append", *(pytest.param(mode, marks=pytest.mark.nightly) for mode in CASES if mode != "append")]
)
def test_a_run_killed_at_each_step_is_resumed_and_commits_once(
    tmp_path: Path, crasher: ForkServer, mode: str
) -> None:
    had, new = CASES[mode]
    for die_at, step in enumerate(STEPS, start=1):
        table = tmp_path / str(die_at) / "t"
        table.parent.mkdir()
        if had:
            write(str(table), "r-old", "error", "old")
        before = rows(table)
        died = crasher.run(str(table), "r-dead", mode, "new", str(die_at))
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert died.stdout.split() == STEPS[:die_at]
        committed = step in STEPS[5:]
        assert rows(table) == (new if committed else before)
        # Another driver dies at the same step of the resumed run.
        crasher.run(str(table), "r-dead", mode, "new", str(die_at))
        assert write(str(table), "r-dead", mode, "new") is (committed or step in STEPS[5:])
        assert rows(table) == new, step
        assert {path.name for path in table.parent.iterdir()} == {"t"}
        every = set(table.rglob("*.parquet"))
        assert every >= named(table)
        assert len(every) == (4 if had else 2), step  # older versions keep their files


@pytest.mark.parametrize("die_at", [3, 4, 5, 6])
def test_the_next_run_sweeps_what_a_dead_one_left(tmp_path: Path, crasher: ForkServer, die_at: int) -> None:
    table = tmp_path / "t"
    crasher.run(str(table), "r-dead", "error", "dead", str(die_at))
    committed = die_at == 6
    write(str(table), "r-next", "append", "next")
    expected = [("next", 1), ("next", 2)]
    assert rows(table) == ([("dead", 1), ("dead", 2), *expected] if committed else expected)
    assert set(table.rglob("*.parquet")) == named(table)
    assert {path.name for path in tmp_path.iterdir()} == {"t"}


def test_a_run_that_others_wrote_after_knows_that_it_committed(tmp_path: Path, crasher: ForkServer) -> None:
    table = tmp_path / "t"
    crasher.run(str(table), "r-dead", "error", "dead", "6")
    write(str(table), "r-next", "replace", "next")
    assert write(str(table), "r-dead", "append", "dead")
    assert rows(table) == [("next", 1), ("next", 2)]


JOB = """
import mmflow as mf

@mf.job
def numbers(session, *, source: str):
    return session.read_csv(source)
"""


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_rows_are_there_once_after_200_kills_of_real_runs(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.csv").write_text("a,b\n" + "".join(f"{n},{n % 7}\n" for n in range(20_000)))
    table, chance = tmp_path / "t", random.Random(20261203)
    kills = number = 0
    # The last moments are those of the commit: most kills fall there.
    seconds = 2.0
    while kills < 200:
        number += 1
        while True:
            began = time.monotonic()
            command = [sys.executable, "-m", "mmflow", "run", "job.py", "--source", "in.csv", "--name", f"n{number}",
                       "--output", f"delta://{table}", "--if-exists", "append" if number > 1 else "error"]  # fmt: skip
            process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
            try:
                _, said = process.communicate(timeout=chance.triangular(0.2, seconds * 1.1, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                continue
            assert process.returncode == 0, said
            seconds = min(seconds, time.monotonic() - began)
            break
        found = DeltaTable(table).to_pyarrow_table()
        assert found.num_rows == 20_000 * number
        assert set(table.rglob("*.parquet")) == named(table)
