"""Processes that die while they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CRASHER = Path(__file__).with_name("crash_commit.py")
ROOT = Path(__file__).parents[2]

Crash = Callable[..., tuple[bool, list[str]]]


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Runs `crash_commit.py`; says whether the process died, and which failpoints it reached."""
    process = subprocess.Popen(
        [sys.executable, str(CRASHER), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(*arguments: object) -> tuple[bool, list[str]]:
        assert process.stdin is not None
        assert process.stdout is not None
        store = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        process.stdin.write(json.dumps([store, [str(a) for a in arguments]]) + "\n")
        process.stdin.flush()
        code, steps = json.loads(process.stdout.readline())
        assert code in (0, -9), steps
        return code != 0, steps

    yield run
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
