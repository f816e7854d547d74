"""What runs in the driver's pod: `mmflow run`, begun or gone on with, and its end told.

    python -m mmflow.k8s.entry --run=NAME --runs-dir=DIR [--resume] -- JOB FLAG...

A pod that a node took down is started again with the same command: the run is then resumed. The run itself is a child
process, so that what becomes of it can be told even where the kernel killed it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from mmflow.k8s.ending import end_line, event_lines, last_lines
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorder import EVENTS

__all__ = ["main"]

_ALIVE, _END = "/tmp/mmflow-alive", "/tmp/mmflow-end"
_BEAT_SECONDS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the driver; its exit code."""
    parser = argparse.ArgumentParser(prog="mmflow.k8s.entry", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--runs-dir", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--packed", help="base64 of a JSON list of words, for shells that spoil them")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args(argv)
    words = options.words if options.packed is None else json.loads(base64.urlsafe_b64decode(options.packed))
    directory = RunDirectory(options.runs_dir, options.run)
    known = _ended(directory)
    if known is None or (known and options.resume):
        known = _run(directory, words, again=options.resume)
    code = known
    with contextlib.suppress(OSError), open(_END, "w") as file:
        file.write(end_line(directory, code))
    for line in last_lines(directory, code):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return code


def _ended(directory: RunDirectory) -> int | None:
    """The exit code of a run that has ended for good; None: there is something to do."""
    try:
        state = json.loads(directory.read("summary.json") or "{}").get("state")
    except ValueError:
        return None
    return {"done": 0, "failed": 1}.get(state)


def _run(directory: RunDirectory, words: Sequence[str], *, again: bool) -> int:
    which = "resume" if again or directory.exists("run.json") else "run-id"
    own = [f"--{which}={directory.name}", f"--runs-dir={os.path.dirname(directory.url)}"]
    command = [sys.executable, "-m", "mmflow.cli.main", "run", *words, *own]
    # In the job's folder, for the modules beside it.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=os.path.dirname(words[0]) or None)

    def passed_on(number: int, frame: FrameType | None) -> None:
        del frame
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    signal.signal(signal.SIGTERM, passed_on)
    signal.signal(signal.SIGINT, passed_on)
    read: dict[str, int] = {}
    while True:
        with contextlib.suppress(OSError), open(_ALIVE, "w"):
            os.utime(_ALIVE)
        try:
            code = child.wait(_BEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if not directory.remote:  # a folder on an object store is seen by whoever submitted the run
                new = (e for e in directory.read_facts(EVENTS, read) if "event" in e)
                sys.stdout.writelines(f"{line}\n" for line in event_lines(new))
                sys.stdout.flush()
    if code == -signal.SIGKILL:
        sys.stderr.write("mmflow run was killed, most likely since its container had no memory left\n")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
