"""`mmflow` in a process of its own that kills itself, without any clean-up, at a place in its run.

    python crash_run.py PLACE ARGUMENTS...

PLACE: `journal:N` (after the N-th line of the journal, which is on disk), `torn:N` (in the middle of it),
`commit:N` (at the N-th failpoint of the commit, or of a change of an array), `never`. Prints how many there were of both, at the end.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import mmflow.arrays.change as change_module
import mmflow.sinks.commit.local as commit_module
import mmflow.sinks.commit.protocol as common_module
from mmflow.cli.main import main
from mmflow.runs.directory import LogWriter

counts = {"journal": 0, "commit": 0}


def _reached(what: str, place: str) -> bool:
    counts[what] += 1
    kind, _, number = place.partition(":")
    return kind == what and int(number) == counts[what]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(place: str, *arguments: str) -> int:
    written = LogWriter.line

    def line(self: Any, text: str) -> None:
        if self._log != "journal":
            written(self, text)
            return
        kind, _, number = place.partition(":")
        if kind == "torn" and int(number) == counts["journal"] + 1:
            os.write(self._fd, text.encode()[: len(text) // 2])
            _die()
        written(self, text)
        if _reached("journal", place):
            _die()

    def failpoint(step: str) -> None:
        if _reached("commit", place):
            _die()

    LogWriter.line = line  # type: ignore[method-assign]  # that is the fault
    for module in (common_module, commit_module, change_module):
        vars(module)["failpoint"] = failpoint
    code = main(arguments)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late for it
    print(f"counts {counts['journal']} {counts['commit']}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(crash(*sys.argv[1:]))
