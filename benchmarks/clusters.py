"""mmflow on Ray against Ray Data, and on Dask against Dask DataFrame, each pair on one cluster of two cores.

    python benchmarks/clusters.py [--engines ray,dask] [--folder .cache/bench] [--scale 2] [--log-rows 3000000]
                                  [--rows 10000000] [--repeats 3] [--peer-repeats 1] [WORK ...]

Clusters are started before, one after the other, and keep their workers; all run interleaved, with the page cache
warm, after one round of warm-up whose results are checked equal. Beside them stands mmflow's local engine, with as
many threads.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cluster_works import Work, same, works
from local_clusters import CORES, dask_cluster, ray_cluster
from timing import interleaved, table

_CLUSTERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "ray": ray_cluster,
    "dask": dask_cluster,
}
#: What mmflow on a cluster may take beside mmflow local: so many times, and seconds more.
_TIMES, _MORE = 1.5, 1.0


def measured(work: Work, engine: str, address: str, repeats: int, peer_repeats: int) -> dict[str, str]:
    """A row of an engine's table."""
    here, there = "mmflow local", f"mmflow on {engine}"
    ways: dict[str, Callable[[Path], Any]] = {
        here: functools.partial(work.mmflow, {"engine": "local", "workers": CORES}),
        there: functools.partial(work.mmflow, {"engine": engine, "address": address, "workers": CORES}),
        **work.peers[engine],
    }
    writes = work.writes or Path()
    work.clear()
    seconds = interleaved(
        {
            name: functools.partial(way, writes / name.translate({ord(" "): "-", ord(","): None}))
            for name, way in ways.items()
        },
        repeats=repeats,
        same=same,
        before=work.clear,
        fewer=dict.fromkeys(work.peers[engine], peer_repeats),
    )
    work.clear()
    row = {name: f"{s:.2f} s" for name, s in seconds.items()}
    row |= {f"{peer} / {there}": f"{seconds[peer] / seconds[there]:.1f}" for peer in work.peers[engine]}
    allowed = _TIMES * seconds[here] + _MORE
    row[f"{there} / local"] = f"{seconds[there] / seconds[here]:.2f}"
    row[f"allowed ({_TIMES} local + {_MORE:g} s)"] = f"{allowed:.2f} s"
    return row


def measure(
    engine: str, made: Mapping[str, Callable[[], Work]], names: list[str], repeats: int, peer_repeats: int
) -> list[dict[str, str]]:
    """Print an engine's table, each row as soon as it is there."""
    rows = []
    with _CLUSTERS[engine]() as address:
        for name in names:
            print(f"{engine}: {name} …", file=sys.stderr)
            row = measured(made[name](), engine, address, repeats, peer_repeats)
            print(f"  {row}", file=sys.stderr)
            rows.append({"work": name} | row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--engines", default="ray,dask")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--log-rows", type=int, default=3_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-repeats", type=int, default=1)
    options = parser.parse_args()
    folder = options.folder.absolute()  # workers have other working directories
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    made = works(folder, options.scale, options.log_rows, options.rows)
    tables = {}
    for engine in options.engines.split(","):
        names = options.works or list(made)
        tables[engine] = measure(engine, made, names, options.repeats, options.peer_repeats)
    for engine, rows in tables.items():
        print(
            f"\n{engine}, {CORES} cores; medians of {options.repeats} (peers: of {options.peer_repeats}) after one "
            f"run each to warm up; scale {options.scale:g}, {options.log_rows:,} log lines, {options.rows:,} rows\n"
        )
        print(table(rows))


if __name__ == "__main__":
    main()
