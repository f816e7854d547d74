"""The process that reads: checks one input a line of its standard input, and answers with one line of JSON.

    python -m fuzz.readers.worker FOLDER [some]

With `some`, each input is read in some of the ways.

A line before the answer, `{"part": …}`, says in which part of the check a crash would be.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import mmflow as mf
from fuzz.readers.reading import FoundError, Place
from fuzz.readers.targets import TARGETS
from mmflow.errors import MmflowError

#: Anonymous memory that one input may cost at its peak; files have at most 128 KiB, and sessions 256 MiB.
MEMORY = 600 << 20
_ADDRESS_SPACE = 12 << 30


def _peak() -> int:
    """Return the peak of resident memory since the last reset."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def _reset_peak() -> int:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def check(place: Place, target: str, data: bytes) -> str | None:
    """Check one input; return what is wrong."""
    shutil.rmtree(place.folder, ignore_errors=True)
    os.makedirs(place.folder)
    place.begin(data)
    before = _reset_peak()
    try:
        TARGETS[target].check(place, data)
    except FoundError as found:
        return str(found)
    except MmflowError as error:
        place.says(error)
    except BaseException as error:
        where = traceback.format_exc(limit=-6)
        return f"{type(error).__name__}: {error}\n{where}"
    grown = _peak() - before
    return f"memory grew by {grown >> 20} MiB" if grown > MEMORY else None


def open_place(folder: str, enter: Callable[[str], None] = lambda part: None, *, some: bool = False) -> Place:
    """Return a place for inputs below a folder."""
    options: dict[str, Any] = {"workers": 1, "memory": "256MiB", "spill_dir": f"{folder}/spill"}
    os.makedirs(f"{folder}/spill", exist_ok=True)
    whole = mf.Session(shard_size="1GiB", io="mmap", **options)
    cut = mf.Session(shard_size="4KiB", io="pread", **options)
    return Place(f"{folder}/input", whole, cut, some, enter=enter)


def main(folder: str, ways: str = "all") -> None:
    """Answer until standard input ends."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def answer(**facts: Any) -> None:
        answers.write(json.dumps(facts) + "\n")

    place = open_place(folder, lambda part: answer(part=part), some=ways == "some")
    answer(ready=True)
    for number, line in enumerate(sys.stdin):
        target, _, path = line.rstrip("\n").partition(" ")
        with open(path, "rb") as file:
            data = file.read()
        wrong = check(place, target, data)
        answer(wrong=wrong, said=place.said)
        if number % 50 == 0:
            gc.collect()


if __name__ == "__main__":
    main(*sys.argv[1:])
