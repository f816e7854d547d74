"""Main program of the driver's pod: starts or resumes `mmflow run`, and reports its outcome.

    python -m mmflow.submit.kubernetes.pod_main --run=NAME --runs-dir=DIR [--resume] -- JOB FLAG...

A pod that was evicted is started again with the same command, which resumes the run. The run itself is a child
process, so that its outcome can be reported even if the kernel killed it.
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

from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorded_run import SUMMARY, SUMMARY_SHAPE
from mmflow.runs.recorder import EVENTS
from mmflow.submit.kubernetes.log_protocol import event_lines, outcome_json, outcome_lines

__all__ = ["main"]

_HEARTBEAT_FILE, _OUTCOME_FILE = "/tmp/mmflow-alive", "/tmp/mmflow-end"
_HEARTBEAT_SECONDS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the driver and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="mmflow.submit.kubernetes.pod_main", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", required=True)
    parser.add_argument("--runs-dir", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--packed", help="base64 of a JSON list of words, for shells that spoil them")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args(argv)
    words = options.words if options.packed is None else json.loads(base64.urlsafe_b64decode(options.packed))
    directory = RunDirectory(options.runs_dir, options.run)
    known = _final_exit_code(directory)
    if known is None or (known and options.resume):
        known = _run(directory, words, resume=options.resume)
    code = known
    with contextlib.suppress(OSError), open(_OUTCOME_FILE, "w") as file:
        file.write(outcome_json(directory, code))
    for line in outcome_lines(directory, code):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return code


def _final_exit_code(directory: RunDirectory) -> int | None:
    """Return the exit code of a run that has ended finally; None if there is more to do."""
    return {"done": 0, "failed": 1}.get(directory.read_object(SUMMARY, SUMMARY_SHAPE).get("state", ""))


def _run(directory: RunDirectory, words: Sequence[str], *, resume: bool) -> int:
    which = "resume" if resume else "name"
    own = [f"--{which}={directory.name}", f"--runs-dir={os.path.dirname(directory.url)}"]
    command = [sys.executable, "-m", "mmflow.cli.main", "run", *words, *own]
    # Relative paths are relative to the job's folder, as in Ray's Jobs API.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=os.path.dirname(words[0]) or None)

    def forward_signal(number: int, frame: FrameType | None) -> None:
        del frame
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    signal.signal(signal.SIGTERM, forward_signal)
    signal.signal(signal.SIGINT, forward_signal)
    read: dict[str, int] = {}
    while True:
        with contextlib.suppress(OSError), open(_HEARTBEAT_FILE, "w"):
            os.utime(_HEARTBEAT_FILE)
        try:
            code = child.wait(_HEARTBEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if not directory.remote:  # the submitting machine reads a folder on an object store itself
                new = (e for e in directory.read_facts(EVENTS, read) if "event" in e)
                sys.stdout.writelines(f"{line}\n" for line in event_lines(new))
                sys.stdout.flush()
    if code == -signal.SIGKILL:
        sys.stderr.write("mmflow run was killed, most likely because its container ran out of memory\n")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
