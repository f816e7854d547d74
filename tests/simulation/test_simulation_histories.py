"""The simulated world: histories of seeds, the same each time, and faults that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("greenlet")

from tests.simulation.history import Script, play
from tests.simulation.planted import FOUND_BY, PLANTED, planted
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.simulate import failing, report

ROOT = Path(__file__).parents[2]
SEEDS = 2_000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of locks of dead runs, which are broken
        yield


def test_histories_of_all_seeds_are_right() -> None:
    found = failing(range(SEEDS))
    assert not found, report(next(iter(found)))


@pytest.mark.nightly
def test_histories_of_many_more_seeds_are_right() -> None:
    found = failing(range(SEEDS, 100_000))
    assert not found, report(next(iter(found)))


def _traced(seeds: range) -> int:
    """Return a checksum of all calls of some histories."""
    crc = 0
    for seed in seeds:
        trace: list[str] = []
        play(Script.of(seed), trace)
        crc = zlib.crc32("\n".join(trace).encode(), crc)
    return crc


def test_a_seed_is_the_same_history_each_time() -> None:
    assert _traced(range(20)) == _traced(range(20))


def test_a_seed_is_the_same_history_in_each_process() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from tests.simulation import history, test_simulation_histories as here\n"
        "history._PID = history.os.getppid()\n"
        "print(here._traced(range(20)))"
    )

    def run(hashes: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert run("1") == run("2")


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_planted_fault_is_found(name: str) -> None:
    found = FOUND_BY[name]
    with planted(name):
        assert play(Script.of(found) if isinstance(found, int) else found)


@pytest.mark.parametrize("name", list(REGRESSIONS))
def test_a_history_that_once_went_wrong_is_right(name: str) -> None:
    assert play(REGRESSIONS[name]) == ""
