"""Histories of many seeds, by `make simulate`; a seed that fails is shrunk and printed as a script.

python -m tests.simulation.simulate SEEDS [FIRST]
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Iterable, Iterator

from tests.simulation.history import Script, play, shrink

__all__ = ["failing", "report"]

#: Histories whose garbage is collected together, each time looking at it once.
_COLLECTED_TOGETHER = 20


def failing(seeds: Iterable[int], most: int = 1) -> dict[int, str]:
    """Return what is wrong with up to `most` of the histories of seeds."""
    found: dict[int, str] = {}
    with warnings.catch_warnings(), _young():
        warnings.simplefilter("ignore")  # of locks that are broken
        for number, seed in enumerate(seeds):
            if number % _COLLECTED_TOGETHER == 0:
                gc.collect(0)
            if wrong := play(Script.of(seed)):
                found[seed] = wrong
                if len(found) == most:
                    break
    return found


@contextlib.contextmanager
def _young() -> Iterator[None]:
    """Let only `failing` collect, and only what histories make, not all modules again after each history."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def report(seed: int) -> str:
    """Return a failing history as a script for a regression test, and its last calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = shrink(Script.of(seed))
        trace: list[str] = []
        wrong = play(script, trace)
    calls = "\n".join(f"  {line}" for line in trace[-40:])
    return f"seed {seed}: {wrong}\n\n{script!r}\n\nits last calls:\n{calls}"


def main(seeds: int, first: int = 0) -> int:
    began, busy = time.monotonic(), time.process_time()
    found = failing(range(first, first + seeds), most=5)
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    for seed in found:
        print(report(seed), end="\n\n")
    print(
        f"{seeds:,} histories, {len(found)} wrong; {seconds:,.0f} s, {seeds / busy:,.0f} a second of processor time; "
        f"a million take {1e6 * busy / seeds / 3600:.1f} hours of one core"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
