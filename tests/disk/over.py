"""Runs tests over a disk that has no faults but small ones: all that they write to temporary folders lies on it.

    python -m tests.disk.over [--short BYTES] [--slow SECONDS] tests/sinks tests/arrays ...

`--short`: reads and writes are no longer than so many bytes, and files are read past the page cache. `--slow`: listings
take so many seconds for each name. `over_skips.py` lists the tests that can't hold there.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.disk.disk import ROOT, forgetful_disk

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run pytest, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk.over", description=__doc__)
    parser.add_argument("--short", type=int)
    parser.add_argument("--slow", type=float)
    given, others = parser.parse_known_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # which ends the tests, too
    with tempfile.TemporaryDirectory() as folder, forgetful_disk(Path(folder) / "disk") as disk:
        disk.alone()
        if given.short:
            disk.direct()
            disk.shorten("read", given.short)
            disk.shorten("write", given.short)
        if given.slow:
            disk.slow("readdir", given.slow)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.disk.over_skips",
            f"--basetemp={disk.path / 'tests'}",
            *others,
        ]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
