"""Crash states of all protocols, by `make crash-states`: protocols, states, failures.

python -m tests.simulation.crashes [MOST]     at most so many states of each protocol
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.simulation.crash_states import Recording
from tests.simulation.deaths import deaths
from tests.simulation.protocols import PROTOCOLS, Protocol

__all__ = ["crash", "main"]


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as root:
        folder = Path(root) / "work"
        folder.mkdir()
        yield folder


def crash(
    name: str, most: int = sys.maxsize, failures: list[str] | None = None, *, stop: bool = False
) -> int:
    """Build and recover the crash states of a protocol.

    Args:
        name: The protocol.
        most: States to recover at most, some at random.
        failures: Gets a line for each state that is neither old nor new.
        stop: Whether the first of them is enough.

    Returns:
        The number of states.
    """
    protocol = PROTOCOLS[name]
    failures = [] if failures is None else failures
    number = 0
    with _folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for where, marks in (
            _died(name, folder, most) if protocol.killed else _crashed(protocol, folder, most)
        ):
            number += 1
            try:
                protocol.check(folder, marks)
            except Exception as error:
                listing = sorted(os.path.relpath(p, folder) for p in folder.rglob("*"))
                failures.append(f"{name}: {where}: {type(error).__name__}: {error} {listing}")
            shutil.rmtree(folder, ignore_errors=True)
            if stop and failures:
                break
    return number


def _crashed(protocol: Protocol, folder: Path, most: int) -> Iterator[tuple[str, set[str]]]:
    protocol.begin(folder)
    recording = Recording(folder)
    with recording.recorded():
        protocol.run(folder, recording)
    found = list(recording.states(random.Random(0)))
    for count, state in found if len(found) <= most else random.Random(0).sample(found, most):
        recording.build(state)
        yield (
            f"after {count} of {len(recording.changes)} changes",
            {mark for mark, begin in recording.marks.items() if count >= begin},
        )


def _died(name: str, folder: Path, most: int) -> Iterator[tuple[str, set[str]]]:
    for calls, marks in deaths(name, folder, most):
        yield f"dead after {calls} calls", marks


def main(most: int = sys.maxsize) -> int:
    total, wrong = 0, 0
    for name in PROTOCOLS:
        failures: list[str] = []
        began = time.process_time()
        states = crash(name, most, failures)
        print(
            f"{name:65} {states:8,} states {len(failures):6,} failures {time.process_time() - began:6.1f} s",
            flush=True,
        )
        for failure in failures[:3]:
            print(f"    {failure}")
        total, wrong = total + states, wrong + len(failures)
    print(f"{len(PROTOCOLS)} protocols, {total:,} states, {wrong:,} failures")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
