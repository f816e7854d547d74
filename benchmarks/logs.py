"""Lines split into columns: a web log by its pattern, and text of fixed width, against DuckDB, Polars and pandas.

python benchmarks/logs.py [lines]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
from timing import interleaved

import mmflow as mf

_PATTERN = (
    r'^(?P<host>[^ ]+) [^ ]+ (?P<user>[^\[]+) \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>[0-9]+) '
    r'(?P<bytes>[0-9]+|-) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"$'
)
_GROUPS = ["host", "user", "time", "request", "status", "bytes", "referer", "agent"]


def _write(folder: Path, lines: int) -> tuple[Path, Path]:
    log, fixed = folder / "access.log", folder / "fixed.txt"
    with open(log, "w") as file:
        file.writelines(
            f"10.0.{n % 251}.{n * 7 % 256} - u{n % 99} [{1 + n % 28:02}/Jul/2024:{n % 24:02}:17:{n % 60:02} +0200] "
            f'"GET /a/b/c{n * 31 % 100003}.html HTTP/1.1" {(200, 200, 200, 404, 500)[n % 5]} {n * 13 % 90001} '
            f'"http://x.y/z{n % 1000}" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{n % 100}"\n'
            for n in range(lines)
        )
    with open(fixed, "w") as file:
        file.writelines(
            f"{n:10}name{n % 1000:<8}{n * 7 % 10007 / 8:12.3f}{n % 365:6}\n" for n in range(lines)
        )
    return log, fixed


def main(lines: int) -> None:
    """Print seconds of each: the median of three rounds."""
    with tempfile.TemporaryDirectory() as name:
        log, fixed = _write(Path(name), lines)
        read = mf.read_text(log, pattern=_PATTERN)
        plain = _PATTERN.replace("(?P<", "(")
        for group in _GROUPS:
            plain = plain.replace(f"({group}>", "(")
        line = f"read_csv('{log}', columns={{'line': 'VARCHAR'}}, delim='\x01', quote='', escape='', header=false)"
        source = f"(SELECT regexp_extract(line, '{plain}', {_GROUPS}) AS g FROM {line})"

        def polars() -> pl.LazyFrame:
            scan = pl.scan_csv(log, has_header=False, new_columns=["line"], separator="\x01", quote_char=None)
            return scan.select(pl.col("line").str.extract_groups(_PATTERN).alias("g")).unnest("g")

        queries: dict[str, dict[str, Callable[[], object]]] = {
            "sum(bytes) by status": {
                "mmflow": lambda: read.group_by("status").agg(mf.col("bytes").sum()).to_arrow(),
                "duckdb": lambda: duckdb.sql(
                    f"SELECT g.status::INT, sum(try_cast(g.bytes AS BIGINT)) FROM {source} GROUP BY 1"
                ).fetchall(),
                "polars": lambda: (
                    polars()
                    .group_by(pl.col("status").cast(pl.Int64))
                    .agg(pl.col("bytes").cast(pl.Int64, strict=False).sum())
                    .collect()
                ),
            },
            "rows of one request": {
                "mmflow": lambda: read.filter(mf.col("request") == "GET /a/b/c31.html HTTP/1.1").to_arrow(),
                "duckdb": lambda: duckdb.sql(
                    f"SELECT * FROM {source} WHERE g.request = 'GET /a/b/c31.html HTTP/1.1'"
                ).fetchall(),
                "polars": lambda: (
                    polars().filter(pl.col("request") == "GET /a/b/c31.html HTTP/1.1").collect()
                ),
            },
            "all columns": {
                "mmflow": read.to_arrow,
                "duckdb": lambda: duckdb.sql(f"SELECT g.* FROM {source}").to_arrow_table(),
                "polars": lambda: polars().collect(),
            },
            "fixed width, all columns": {
                "mmflow": lambda: mf.read_fwf(fixed, widths=[10, 12, 12, 6], names="a,b,c,d").to_arrow(),
                "pandas": lambda: pd.read_fwf(fixed, widths=[10, 12, 12, 6], names=["a", "b", "c", "d"]),
            },
        }
        for query, ways in queries.items():
            seconds = interleaved(ways, repeats=3, same=lambda a, b: True)
            print(query, {who: f"{found:.2f} s" for who, found in seconds.items()}, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
