"""Tests that judge a change of a protocol in a second or two: crash states, and histories of the simulated world.

`make mutants` runs them; `make test` runs the same with more states and more histories (tests/simulation).
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("greenlet")

from tests.simulation import history
from tests.simulation.crashes import crash
from tests.simulation.history import Script, play
from tests.simulation.protocols import PROTOCOLS
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.world import World

#: States of each protocol, and seeds of outputs at each place, ten to a test: the first that fail find a change.
STATES, SEEDS = 25, 40


#: Name of a function beside which mutmut put its changes.
_RENAMED = re.compile(r"x(?:_|ǁ[^ǁ]+ǁ)(\w+?)__mutmut_\w+$")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wait = World.wait
    monkeypatch.setattr(
        World, "wait", lambda world, seconds, where: wait(world, seconds, _RENAMED.sub(r"\1", where))
    )
    monkeypatch.setattr(history, "_PID", os.getpid())  # forks of one process run at once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of locks of dead runs, which are broken
        yield


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_after_a_crash_there_is_the_old_or_the_new(name: str) -> None:
    failures: list[str] = []
    assert crash(name, STATES, failures, stop=True) > 0
    assert not failures, failures[0]


def _scripts(place: str) -> list[Script]:
    scripts = (Script.of(seed) for seed in itertools.count())
    return list(itertools.islice((script for script in scripts if script.output == place), SEEDS))


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
@pytest.mark.parametrize("place", ["local", "object"])
def test_histories_are_right(place: str, first: int) -> None:
    for script in _scripts(place)[first : first + 10]:
        assert play(script) == ""


@pytest.mark.parametrize("name", list(REGRESSIONS))
def test_a_history_that_once_went_wrong_is_right(name: str) -> None:
    assert play(REGRESSIONS[name]) == ""
