"""A function over an array, in place and into another file: mmflow against numpy.memmap and dask.array.

    python benchmarks/arrays.py [--folder .cache/bench] [--megabytes 2000] [--repeats 5]

Bytes of an image (rows of 12,000) are brightened by a table. All ways end with the result on the disk. Only mmflow's
are all or nothing: in place it writes everything twice, first the old content to undo logs, then the new. The peers
leave a half changed file where they are killed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
from timing import interleaved, table
from works import THREADS

import mmflow as mf

ROW = 12_000
CHUNK = 8 << 20
TABLE = np.minimum(np.arange(256) * 6 // 5, 255).astype(np.uint8)


def brighter(pixels: Any) -> Any:
    """The function."""
    return TABLE[pixels]


def made(folder: Path, megabytes: int, name: str) -> Path:
    """An array of random bytes."""
    path = folder / f"array-{megabytes}-{name}.npy"
    rows = (megabytes << 20) // ROW
    random = np.random.default_rng(5)
    with mf.create_array(path, "u1", (rows, ROW), overwrite=True, undo=False) as array:
        for begin in range(0, rows, CHUNK // ROW):
            part = array[begin : begin + CHUNK // ROW]
            array[begin : begin + len(part)] = random.integers(0, 256, part.shape, np.uint8)
    return path


def digest(path: Path) -> str:
    """Return a digest of the elements."""
    found = hashlib.blake2b()
    array = np.load(path, mmap_mode="r")
    for begin in range(0, len(array), CHUNK // ROW):
        found.update(np.ascontiguousarray(array[begin : begin + CHUNK // ROW]))
    return found.hexdigest()


def by_mmflow(source: Path, out: Path | None, workers: int) -> Path:
    """`map_array`, in place without `out`."""
    with mf.Session(workers=workers) as session:
        session.map_array(source, brighter, out=out, in_place=out is None, overwrite=True)
    return out or source


def by_memmap(source: Path, out: Path | None) -> Path:
    """One thread, chunk by chunk."""
    old: Any = np.load(source, mmap_mode="r" if out else "r+")
    new = old if out is None else np.lib.format.open_memmap(out, "w+", old.dtype, old.shape)
    for begin in range(0, len(old), CHUNK // ROW):
        new[begin : begin + CHUNK // ROW] = brighter(old[begin : begin + CHUNK // ROW])
    new.flush()
    return out or source


def by_dask(source: Path, out: Path | None) -> Path:
    """dask.array over memmaps, threads."""
    old: Any = np.load(source, mmap_mode="r" if out else "r+")
    new = old if out is None else np.lib.format.open_memmap(out, "w+", old.dtype, old.shape)
    blocks = dask.array.from_array(old, chunks=(CHUNK // ROW, -1), name=False)
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        dask.array.store(blocks.map_blocks(brighter, dtype="u1"), new, lock=False)
    new.flush()
    return out or source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    named: dict[str, Callable[[Path, Path | None], Path]] = {
        f"mmflow, {THREADS} workers": functools.partial(by_mmflow, workers=THREADS),
        "mmflow, 1 worker": functools.partial(by_mmflow, workers=1),
        "numpy.memmap": by_memmap,
        "dask.array": by_dask,
    }
    rows = []
    for where in ("in place", "into another file"):
        # Each way has files of its own, so that all start from the same bytes.
        sources = {n: made(options.folder, options.megabytes, str(i)) for i, n in enumerate(named)}
        outs = {n: None if where == "in place" else p.with_suffix(".out.npy") for n, p in sources.items()}
        ways = {n: functools.partial(way, sources[n], outs[n]) for n, way in named.items()}
        seconds = interleaved(
            ways, repeats=options.repeats, same=lambda a, b: digest(a) == digest(b), before=os.sync
        )
        rows.append({"": where} | {n: f"{s:.3f} s" for n, s in seconds.items()})
        for path in (*sources.values(), *(o for o in outs.values() if o is not None)):
            path.unlink()
    print(table(rows))


if __name__ == "__main__":
    main()
