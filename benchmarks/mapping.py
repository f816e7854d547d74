"""Mapping compared with reading, and the effect of each advice: one file, read in order, at random, and in strides.

    python benchmarks/mapping.py [--folder .cache/bench] [--size 1GiB] [--repeats 5] [--reads 200000]

Three patterns over a file of 64-bit numbers, by one thread, and all ways must give the same sum:

    in order   windows of 64 MiB, summed
    random     one number at each of `reads` random places (cold: a tenth of them)
    strided    one number of every 64 KiB

Ways: `read` reads into a buffer of its own (in order: 4 MiB at a time; else a pread of 8 bytes each, which is a call
from Python for each number); `map` maps, and touches; with an advice, or with all pages loaded first. `--size` should
be a good deal below the machine's memory. Cold: the file's pages are dropped before (fsync, POSIX_FADV_DONTNEED).

Huge pages: the same, warm, in shared memory (/dev/shm), with small pages and with huge ones, and what making them huge
costs.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timing import drop, interleaved, table

from mmflow.config import parse_size
from mmflow.mapping.system import PageAdvice, system

Numbers = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
_WINDOW = 64 << 20
_PIECE = 4 << 20
_ADVICE: dict[str, tuple[PageAdvice, ...]] = {
    "map": (),
    "map, sequential": ("sequential",),
    "map, random": ("random",),
    "map, loaded": ("load",),
    "map, huge": ("huge",),
    "map, small": ("small",),
}


def make(path: Path, size: int) -> None:
    """A file of random numbers."""
    if path.exists() and path.stat().st_size == size:
        return
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(size // _WINDOW):
            file.write(random.bytes(_WINDOW))


def numbers(address: int, length: int) -> Numbers:
    """A mapped range as an array."""
    raw = (ctypes.c_char * length).from_address(address)
    return np.frombuffer(raw, np.int64)


class Mapped:
    """A file, mapped whole, while the block lasts."""

    def __init__(
        self, path: Path, advice: tuple[PageAdvice, ...] = (), begin: int = 0, length: int = 0
    ) -> None:
        fd = os.open(path, os.O_RDONLY)
        self.length = length or os.fstat(fd).st_size
        self.address = system.map_file(fd, begin, self.length)
        os.close(fd)
        for one in advice:
            system.advise(self.address, self.length, one)

    def __enter__(self) -> Numbers:
        return numbers(self.address, self.length)

    def __exit__(self, *error: object) -> None:
        system.unmap(self.address, self.length)


def in_order(path: Path, advice: tuple[PageAdvice, ...]) -> int:
    """Sum by windows."""
    size, total = path.stat().st_size, 0
    for begin in range(0, size, _WINDOW):
        with Mapped(path, advice, begin, min(_WINDOW, size - begin)) as values:
            total += int(values.sum())
    return total & (2**63 - 1)


def read_in_order(path: Path) -> int:
    """The same by reads."""
    buffer, total = bytearray(_PIECE), 0
    values = np.frombuffer(buffer, np.int64)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += int(values[: count // 8].sum())
    return total & (2**63 - 1)


def at_places(path: Path, places: Places, advice: tuple[PageAdvice, ...]) -> int:
    """Sum of the numbers at these places."""
    with Mapped(path, advice) as values:
        return int(values[places].sum())


def read_places(path: Path, places: Places) -> int:
    """The same, a read for each."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    got = b"".join(os.pread(fd, 8, 8 * place) for place in places.tolist())
    os.close(fd)
    return int(np.frombuffer(got, np.int64).sum())


def patterns(path: Path, reads: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """The ways of each pattern."""
    count = path.stat().st_size // 8
    random = np.random.default_rng(1).integers(0, count, reads)
    strided = np.arange(0, count, (64 << 10) // 8)
    made: dict[str, dict[str, Callable[[], Any]]] = {
        "in order": {"read": functools.partial(read_in_order, path)}
    }
    made["in order"] |= {n: functools.partial(in_order, path, a) for n, a in _ADVICE.items()}
    for name, places in (("random", random), ("strided", strided)):
        made[name] = {"read": functools.partial(read_places, path, places)}
        made[name] |= {n: functools.partial(at_places, path, places, a) for n, a in _ADVICE.items()}
    return made


def timed(path: Path, repeats: int, reads: int, before: Callable[[], None]) -> list[dict[str, str]]:
    """A row for each pattern."""
    rows = []
    for pattern, ways in patterns(path, reads).items():
        seconds = interleaved(ways, repeats=repeats, same=lambda a, b: bool(a == b), before=before)
        base = seconds["read"]
        rows.append({"pattern": pattern} | {n: f"{s:.3f} s ({base / s:.1f} x)" for n, s in seconds.items()})
    return rows


def huge(folder: Path, size: int, repeats: int, reads: int) -> list[dict[str, str]]:
    """Shared memory with small and huge pages."""
    small, large = folder / "mmflow-bench-small", folder / "mmflow-bench-huge"
    try:
        for path in (small, large):
            make(path, size)
        begun = time.perf_counter()
        with Mapped(large, ("load", "collapse")):
            took = time.perf_counter() - begun
        rows = []
        ways = {"small pages": patterns(small, reads), "huge pages": patterns(large, reads)}
        for pattern in ("in order", "random", "strided"):
            kinds = {kind: found[pattern]["map, loaded"] for kind, found in ways.items()}
            seconds = interleaved(kinds, repeats=repeats, same=lambda a, b: bool(a == b))
            row = {"pattern": pattern} | {n: f"{s:.3f} s" for n, s in seconds.items()}
            rows.append(row | {"ratio": f"{seconds['small pages'] / seconds['huge pages']:.2f}"})
        print(f"making {size >> 20} MiB huge took {took:.2f} s\n")
        return rows
    finally:
        for path in (small, large):
            path.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--size", type=parse_size, default=1 << 30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reads", type=int, default=200_000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"numbers-{options.size}.bin"
    make(path, options.size)
    print("warm\n")
    print(table(timed(path, options.repeats, options.reads, lambda: None)))
    print("\ncold\n")
    print(table(timed(path, options.repeats, options.reads // 10, functools.partial(drop, path))))
    print("\nhuge pages in shared memory, warm\n")
    print(table(huge(Path("/dev/shm"), options.size, options.repeats, options.reads)))


if __name__ == "__main__":
    main()
