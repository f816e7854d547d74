"""Fuzzes whole readers: seeds and damaged copies of them are read in a process that is watched.

    python -m fuzz.readers.run SECONDS [TARGET…]     each target for so long; by default all
    python -m fuzz.readers.run --input TARGET FILE    one input again
    python -m fuzz.readers.run --list                  names of the targets

An input is kept for further mutations if something new happened to it: another error, another size of rows. What fails
is written to `build/readers/`, once for each kind, and the exit code is 1. Of the environment: `SEED` begins elsewhere;
with `INPUTS`, each target reads so many damaged copies of its seeds, and no others: the same ones each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.readers.targets import TARGETS

ROOT = Path(__file__).parents[2]
#: Processor time of one input after which it counts as hanging, and time in which nothing moves, in seconds.
_PROCESSOR_SECONDS = 30.0
_SILENT_SECONDS = 120.0
#: Inputs after which a worker is replaced, so that one's leaks don't count for another.
_MOST_INPUTS = 3000
_MOST_POOL = 400


@dataclass(frozen=True)
class Result:
    """Number of inputs of a target, and a file for each kind of finding."""

    inputs: int
    kinds: dict[str, Path]


class Worker:
    """A process that checks inputs, and how it died."""

    def __init__(self, folder: str, ways: str = "all") -> None:
        self.folder = folder
        self.seconds = 0.0  # of processor time of those that were replaced
        self._ways = ways
        self._start()

    def _start(self) -> None:
        self.inputs = 0
        self._unread = b""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (as long as the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.readers.worker", self.folder, self._ways], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        answer = self._answer()
        if "ready" not in answer:
            raise RuntimeError(f"the worker can't start: {answer}")

    def check(self, target: str, data: bytes) -> tuple[str | None, list[str]]:
        """Return what is wrong with an input, and what happened to it. A worker that died is no longer `alive`."""
        path = os.path.join(self.folder, "data")
        with open(path, "wb") as file:
            file.write(data)
        self.inputs += 1
        assert self._process.stdin is not None
        self._process.stdin.write(f"{target} {path}\n")
        part = "mmflow"
        while True:
            answer = self._answer()
            if "part" in answer:
                part = answer["part"]
            elif "died" in answer:
                return (answer["died"] if part == "mmflow" else None), []
            else:
                return answer["wrong"], answer["said"]

    @property
    def alive(self) -> bool:
        """Return whether it can check another input."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def renew(self) -> None:
        """Replace the process by a new one."""
        self.seconds += self.processor_seconds()
        self.close()
        self._start()

    def processor_seconds(self) -> float:
        """Return the processor time of the process; 0: it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        began = last = self.processor_seconds()
        silent = 0  # seconds, counted: clocks go on while a machine is paused
        while True:
            # Two answers may come at once, and `select` does not see what a file of Python's has buffered.
            if b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                return dict(json.loads(line))
            if select.select([self._process.stdout], [], [], 1.0)[0]:
                if more := os.read(self._process.stdout.fileno(), 1 << 16):
                    self._unread += more
                    continue
                self._process.wait()
                return {"died": f"the process ended with {self._process.returncode}\n{self._said()}"}
            used = self.processor_seconds()
            last, silent = used, 0 if used > last else silent + 1
            if used - began > _PROCESSOR_SECONDS or silent > _SILENT_SECONDS:
                self._process.send_signal(6)  # faulthandler says where
                self._process.wait()
                return {"died": f"a hang, after {used - began:.0f} s of processor time\n{self._said()}"}

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:]


def _kind(wrong: str) -> str:
    """Return what two findings of the same cause have in common, as far as a text can say."""
    lines = wrong.splitlines()
    frames = [line.strip() for line in lines if line.strip().startswith("File")][-2:]
    return re.sub(r"'[^']*'|\"[^\"]*\"|b'.*|[\d,.]+", "", lines[0])[:60] + "|".join(
        re.sub(r".*/|\d+", "", f) for f in frames
    )


def fuzz(target: str, worker: Worker, seconds: float, most: int | None, seed: int, found: Path) -> Result:
    """Fuzz one target; `most`: so many damaged copies of seeds, the same ones each time."""
    rng = random.Random(f"{target} {seed}")
    what = TARGETS[target]
    seeds = what.seeds()
    pool, inputs = list(seeds), 0
    known: set[str] = set()
    kinds: dict[str, Path] = {}
    end = time.monotonic() + seconds
    while inputs < most if most is not None else inputs < len(seeds) or time.monotonic() < end:
        whole = most is None and inputs < len(seeds)
        data = seeds[inputs] if whole else what.mutate(rng, rng.choice(pool), pool)
        inputs += 1
        wrong, said = worker.check(target, data)
        if wrong is not None and (kind := _kind(wrong)) not in kinds:
            name = found / f"{target}-{hashlib.sha256(data).hexdigest()[:12]}"
            name.write_bytes(data)
            name.with_suffix(".txt").write_text(wrong)
            kinds[kind] = name
            print(f"{target}: {wrong[:1500]}\n  {name}", flush=True)
        elif wrong is None and most is None and not known.issuperset(said):
            known.update(said)
            if len(pool) >= _MOST_POOL:
                del pool[rng.randrange(len(seeds), len(pool))]
            pool.append(data)
        if not worker.alive or worker.inputs >= _MOST_INPUTS:
            worker.renew()
    return Result(inputs, kinds)


def main(arguments: list[str]) -> int:
    """Run the program; return its exit code."""
    if arguments[:1] == ["--input"]:
        _, target, path = arguments
        folder = tempfile.mkdtemp(prefix="readers-")
        worker = Worker(folder)
        try:
            wrong, said = worker.check(target, Path(path).read_bytes())
        finally:
            worker.close()
            shutil.rmtree(folder, ignore_errors=True)
        print(wrong or "\n".join(said))
        return wrong is not None
    if arguments == ["--list"]:
        print("\n".join(TARGETS))
        return 0
    seconds, *targets = arguments
    found = ROOT / "build/readers"
    found.mkdir(parents=True, exist_ok=True)
    seed, most = int(os.environ.get("SEED") or "0"), int(os.environ.get("INPUTS") or "0") or None
    failed = False
    folder = tempfile.mkdtemp(prefix="readers-")
    worker = Worker(folder, "some")
    try:
        for target in targets or TARGETS:
            began, used = time.monotonic(), worker.seconds + worker.processor_seconds()
            result = fuzz(target, worker, float(seconds), most, seed, found)
            used = worker.seconds + worker.processor_seconds() - used
            print(
                f"{target}: {result.inputs:,} inputs in {time.monotonic() - began:.0f} s ({used:.0f} s of processor "
                f"time), {len(result.kinds)} kinds of findings",
                flush=True,
            )
            failed = failed or bool(result.kinds)
    finally:
        worker.close()
        shutil.rmtree(folder, ignore_errors=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
