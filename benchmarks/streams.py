"""Queries over a pipe, beside DuckDB and Polars: `zcat big.csv.gz | query`, one after the other, several times.

    python benchmarks/streams.py FOLDER [MEGABYTES] [TIMES]

Prints the least seconds of each, and the ratios to mmflow's. `zcat` alone is the bound: it has one core.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_QUERIES = {
    "count": "SELECT count(*) FROM {}",
    "group by": "SELECT name, count(*), sum(v) FROM {} GROUP BY name ORDER BY name LIMIT 3",
}
_COLUMNS = {"id": "BIGINT", "name": "VARCHAR", "v": "DOUBLE", "d": "DATE"}
_POLARS = {
    "count": "df.select(pl.len()).collect()",
    "group by": "df.group_by('name').agg(pl.len(), pl.sum('v')).sort('name').head(3).collect()",
}


def _commands(name: str) -> dict[str, list[str]]:
    query = _QUERIES[name]
    python = sys.executable
    # DuckDB takes the head of a pipe for sniffing, and loses the header: it is told.
    over_pipe = query.format(f"read_csv('/dev/stdin', header=true, auto_detect=false, columns={_COLUMNS})")
    duckdb = f"import duckdb; print(duckdb.sql({over_pipe!r}).fetchall())"
    polars = f"import polars as pl, sys; df = pl.scan_csv(sys.stdin.buffer); print({_POLARS[name]})"
    return {
        "mmflow": [python, "-m", "mmflow", "sql", query.format("'-'")],
        "DuckDB": [python, "-c", duckdb],
        "Polars": [python, "-c", polars],
    }


def _seconds(producer: list[str], command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(producer, stdout=subprocess.PIPE) as source:
        subprocess.run(command, stdin=source.stdout, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Make the file, run the queries, print the table."""
    folder, megabytes = Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 300
    times = int(sys.argv[3]) if sys.argv[3:] else 3
    path = folder / "big.csv"
    if path.exists():
        path.unlink()
    Path(f"{path}.gz").unlink(missing_ok=True)
    with path.open("w") as file:
        file.write("id,name,v,d\n")
        row = 0
        while file.tell() < megabytes << 20:
            rows = range(row, row + 100_000)
            file.write("".join(f"{i},n{i % 1000},{i * 0.5},2024-01-{1 + i % 28:02d}\n" for i in rows))
            row += 100_000
    subprocess.run(["gzip", "-kf1", str(path)], check=True)
    for producer in (["cat", str(path)], ["zcat", f"{path}.gz"]):
        for name in _QUERIES:
            least: dict[str, float] = {}
            for _ in range(times):
                for engine, command in _commands(name).items():
                    taken = _seconds(producer, command)
                    least[engine] = min(taken, least.get(engine, taken))
            shown = ", ".join(f"{e} {s:.2f} s ({s / least['mmflow']:.2f})" for e, s in least.items())
            print(f"{producer[0]} | {name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
