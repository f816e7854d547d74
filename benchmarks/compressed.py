"""Queries of lineitem.csv.gz, beside Polars and DuckDB, and beside inflating alone by ISA-L and by zlib.

    python benchmarks/compressed.py [--folder .cache/bench] [--scale 2] [--megabytes 500] [--repeats 5] [--no-peers]

The first megabytes of lineitem.csv are compressed by `gzip -6`. All ways take turns in one process, with the page cache
warm, on two threads; results are checked equal first. The table has the median seconds of each way, and in brackets its
median processor time, which other work on the machine changes little. The ratios are of seconds: those of the best peer
to mmflow's, those of a first pass to those of a query that finds the checkpoints which the pass has left, and those of
ISA-L to mmflow's first pass.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from data import lineitem_csv
from isal import igzip_lib
from timing import bare_read, same_rows, table
from works import COUNT, Q1, Q6, THREADS

import mmflow as mf
from mmflow.formats.compression import open_decompressed
from mmflow.mapping import MappedFile
from mmflow.mapping.sections import forget_sections

_PIECE = 1 << 20
#: Without a cache, checkpoints are only where the first pass of this process leaves them.
_SESSION = mf.Session(cache_size=0)
_QUERIES = {"count": COUNT, "q6": Q6, "q1": Q1}


def main() -> None:
    """Make the file, run the queries, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true", help="leave out Polars and DuckDB")
    options = parser.parse_args()
    path = compressed_csv(options.folder, options.scale, options.megabytes)
    bare_read(path)
    rows = [_inflating(path, options.repeats)]
    alone = rows[0]["isal"]
    for name, query in _QUERIES.items():
        ways: dict[str, Callable[[], Any]] = {
            "mmflow": lambda q=query: _first_pass(path, q),
            # After the first pass of the same round, which leaves them.
            "with checkpoints": lambda q=query: _mmflow(path, q),
        }
        if not options.no_peers:
            ways["polars"] = lambda q=query: _polars(path, q)
            ways["duckdb"] = lambda q=query: _duckdb(path, q)
        # Inflating takes its turn with each query: other work on the machine slows all alike.
        times = _turns({**ways, "isal": lambda: _isal(path)}, options.repeats, ways)
        row = {"work": name} | {way: _shown(found) for way, found in times.items()}
        wall = {way: statistics.median(seconds for seconds, _ in found) for way, found in times.items()}
        if not options.no_peers:
            row["best peer / mmflow"] = f"{min(wall['polars'], wall['duckdb']) / wall['mmflow']:.2f}"
        row["mmflow / with checkpoints"] = f"{wall['mmflow'] / wall['with checkpoints']:.2f}"
        row["isal / mmflow"] = f"{wall['isal'] / wall['mmflow']:.2f}"
        rows.append(row)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {options.megabytes} MB of text; ISA-L alone: {alone}")
    print(table(rows))


def compressed_csv(folder: Path, scale: float, megabytes: int) -> Path:
    """The first megabytes of lineitem.csv, up to a line's end, by `gzip -6`."""
    plain = lineitem_csv(folder, scale)
    path = plain.with_name(f"lineitem-{megabytes}.csv.gz")
    if not path.exists():
        with plain.open("rb") as file:
            text = file.read(megabytes * 1_000_000)
        packed = subprocess.run(
            ["gzip", "-6"], input=text[: text.rfind(b"\n") + 1], stdout=subprocess.PIPE, check=True
        )
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(packed.stdout)
        unfinished.rename(path)
    return path


def _inflating(path: Path, repeats: int) -> dict[str, str]:
    ways = {"isal": lambda: _isal(path), "zlib": lambda: _zlib(path), "mmflow": lambda: _inflated(path)}
    return {"work": "inflating alone"} | {way: _shown(found) for way, found in _turns(ways, repeats).items()}


def _turns(
    ways: dict[str, Callable[[], Any]], repeats: int, compared: dict[str, Any] | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and seconds of processor time, of each way in each round, after one whose results are compared.

    Raises:
        AssertionError: Two ways gave different results.
    """
    results = {name: way() for name, way in ways.items()}
    kept = [results[name] for name in (ways if compared is None else compared)]
    if not all(same_rows(kept[0], other) if compared else kept[0] == other for other in kept[1:]):
        raise AssertionError(f"results differ: {kept}")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            gc.collect()
            begin, processor = time.perf_counter(), time.process_time()
            way()
            found[name].append((time.perf_counter() - begin, time.process_time() - processor))
    return found


def _shown(found: list[tuple[float, float]]) -> str:
    wall, processor = (statistics.median(values) for values in zip(*found, strict=True))
    return f"{wall:.3f} s ({processor:.3f})"


def _isal(path: Path) -> int:
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    with path.open("rb") as file:
        return sum(len(inflater.decompress(piece)) for piece in iter(lambda: file.read(_PIECE), b""))


def _zlib(path: Path) -> int:
    inflater = zlib.decompressobj(31)
    with path.open("rb") as file:
        return sum(len(inflater.decompress(piece)) for piece in iter(lambda: file.read(_PIECE), b""))


def _inflated(path: Path) -> int:
    buffer, total = memoryview(bytearray(_PIECE)), 0
    with MappedFile.open(str(path)) as file, open_decompressed(file) as contents:
        while count := contents.readinto(buffer):
            total += count
    return total


def _mmflow(path: Path, query: str) -> Any:
    return _SESSION.sql(query.format(t=f"'{path}'")).to_arrow()


def _first_pass(path: Path, query: str) -> Any:
    forget_sections()
    return _mmflow(path, query)


def _duckdb(path: Path, query: str) -> Any:
    connection = duckdb.connect()
    connection.execute(f"SET threads={THREADS}")
    return connection.sql(query.format(t=f"'{path}'")).to_arrow_table()


def _polars(path: Path, query: str) -> Any:
    frame = pl.scan_csv(path, try_parse_dates=True)
    return pl.SQLContext(t=frame).execute(query.format(t="t")).collect().to_arrow()


if __name__ == "__main__":
    main()
