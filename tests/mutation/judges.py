"""Tests that judge a change of a protocol in a second or two: crash states, and histories of the simulated world.

`make mutants` runs them; `make test` runs the same with more states and more histories (tests/simulation).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

pytest.importorskip("greenlet")

from tests.simulation.crashes import crash
from tests.simulation.history import Script, play
from tests.simulation.protocols import PROTOCOLS
from tests.simulation.regressions import REGRESSIONS

#: States of each protocol, and seeds, ten to a test: what kills a change is found by the first that fail.
STATES, SEEDS = 25, 40


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of locks of dead runs, which are broken
        yield


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_after_a_crash_there_is_the_old_or_the_new(name: str) -> None:
    failures: list[str] = []
    assert crash(name, STATES, failures, stop=True) > 0
    assert not failures, failures[0]


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_histories_are_right(first: int) -> None:
    for seed in range(first, first + 10):
        assert play(Script.of(seed)) == ""


@pytest.mark.parametrize("name", list(REGRESSIONS))
def test_a_history_that_once_went_wrong_is_right(name: str) -> None:
    assert play(REGRESSIONS[name]) == ""
