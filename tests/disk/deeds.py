"""Deeds that tests here do in processes of their own, since a power cut may end them and their mappings."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, cast

from tests.runs.crash_run import crash
from tests.simulation.protocols import PROTOCOLS, FileMarks

__all__ = ["command", "main"]


def main(step: str, name: str, folder: str, marks: str) -> None:
    """Begin, run or check a protocol, and end as a power cut ends a process: nothing is cleaned up."""
    warnings.simplefilter("ignore")
    protocol = PROTOCOLS[name]
    try:
        if step == "begin":
            protocol.begin(Path(folder))
        elif step == "run":
            protocol.run(Path(folder), cast(Any, FileMarks(marks)))
        else:
            known = Path(marks).read_text().split() if os.path.exists(marks) else []
            protocol.check(Path(folder), set(known))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def command(*arguments: str) -> None:
    """Run `tests.runs.crash_run`, and end at once: a fork takes seconds to free what it shares."""
    code = crash(*arguments)
    sys.stdout.flush()
    os._exit(code)
