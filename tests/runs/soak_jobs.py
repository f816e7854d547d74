"""Random small jobs for the soak: files, a query, how it is run, and its rows as DuckDB computes them."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

__all__ = ["Case"]

#: SQL that DataFusion and DuckDB take alike; `ordered`: the order of its rows counts.
_QUERIES: dict[str, tuple[str, bool]] = {
    "filter": ("SELECT id, k, v, s, d FROM a WHERE v % {m} <> 0 AND k < {most}", False),
    "group": ("SELECT k, sum(v) AS total, count(*) AS n, min(s) AS least FROM a GROUP BY k", False),
    "distinct": ("SELECT DISTINCT k, v % {m} AS r FROM a", False),
    "join": ("SELECT a.id, a.k, b.name, a.v + b.w AS x FROM a JOIN b ON a.k = b.k", False),
    "left": ("SELECT a.id, a.k, b.name, a.v FROM a LEFT JOIN b ON a.k = b.k", False),
    "sums": (
        "SELECT b.name, a.k, sum(a.v) AS t FROM a JOIN b ON a.k = b.k GROUP BY b.name, a.k ORDER BY t DESC, a.k",
        True,
    ),
    "sort": ("SELECT id, k, v, s, d FROM a ORDER BY s, v DESC, id", True),
    "limit": ("SELECT id, k, v, s FROM a ORDER BY v, id LIMIT {m} OFFSET {most}", True),
    "window": (
        "SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY v, id) AS n, sum(v) OVER (PARTITION BY k) AS t FROM a",
        False,
    ),
    "union": ("SELECT id, k, v FROM a UNION ALL SELECT w AS id, k, w AS v FROM b WHERE w % {m} = 0", False),
}
_WORDS = ("plain", 'with "quotes"', "with, comma", "two\nlines", "größer", "x" * 40)
_HEADER = ["id", "k", "v", "s", "d"]
_SCHEMA_A = {"id": "int64", "k": "int64", "v": "int64", "s": "string", "d": "date"}
_SCHEMA_B = {"k": "int64", "name": "string", "w": "int64"}


@dataclass
class Case:
    """One job: everything about it comes from its seed."""

    folder: Path
    seed: str
    query: str = ""
    sql: str = ""
    ordered: bool = False
    policy: str = "error"
    format: str = "csv"
    partition_by: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = r = random.Random(self.seed)
        self.query = r.choice(sorted(_QUERIES))
        text, self.ordered = _QUERIES[self.query]
        self.sql = text.format(m=r.randint(2, 50), most=r.randint(1, 40))
        self.policy = r.choice(["error", "quarantine", "skip"])
        self.format = r.choice(["csv", "parquet"])
        self.partition_by = ["k"] if " k," in text and not self.ordered and r.random() < 0.4 else []
        self.settings = {
            "shard-size": f"{r.choice([4, 8, 16, 64])}KiB",
            "partitions": str(r.randint(1, 4)),
            "workers": str(r.randint(1, 3)),
            "memory": r.choice(["8MiB", "64MiB", "256MiB"]),
            "broadcast": r.choice(["0", "32MiB"]),
            "io": r.choice(["auto", "mmap", "pread"]),
        }
        self._write_files()

    @property
    def job(self) -> Path:
        return self.folder / "job.toml"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def __str__(self) -> str:
        bad = f", {len(self.bad)} bad ({self.policy})" if self.bad else ""
        by = " by k" if self.partition_by else ""
        return f"{self.query} to {self.format}{by}{bad}, {self.settings}"

    # ---- inputs ---------------------------------------------------------------------------------

    def _write_files(self) -> None:
        r = self.random
        self.folder.mkdir(parents=True)
        keys = r.randint(1, 30)
        rows = r.choice([0, 1, r.randint(2, 200), r.randint(200, 3000), r.randint(200, 3000)])
        files = r.randint(1, 3)
        for number in range(files):
            self._write_a(number, [self._row(keys) for _ in range(rows // files + number)])
        with (self.folder / "b.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_SCHEMA_B)
            writer.writerows([k, r.choice(_WORDS), r.randrange(100)] for k in range(0, keys, r.randint(1, 3)))
        sources: dict[str, dict[str, Any]] = {
            "a": {
                "path": f"{self.folder}/a*.csv",
                "schema": _SCHEMA_A,
                "on_bad_record": self.policy,
            },
            "b": {"path": f"{self.folder}/b.csv", "schema": _SCHEMA_B},
        }
        output = {"path": str(self.output), "format": self.format, "partition_by": self.partition_by}
        lines = [f"sql = {json.dumps(self.sql)}"]
        for name, options in sources.items():
            schema = ", ".join(f'{c} = "{t}"' for c, t in options.pop("schema").items())
            lines += [f"[sources.{name}]", 'format = "csv"', f"schema = {{ {schema} }}"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        lines += ["[output]", *(f"{key} = {json.dumps(value)}" for key, value in output.items())]
        self.job.write_text("\n".join(lines) + "\n")

    def _row(self, keys: int) -> list[Any]:
        r = self.random
        day = dt.date(2024, 1, 1) + dt.timedelta(days=r.randrange(400))
        return [r.randrange(10**6), r.randrange(keys), r.randrange(1000), r.choice(_WORDS), day]

    def _write_a(self, number: int, rows: list[list[Any]]) -> None:
        """Write the input of the job, and the same without bad records for DuckDB."""
        share = 0.0 if self.policy == "error" else self.random.choice([0.0, 0.01, 0.2])
        with (
            (self.folder / f"a{number}.csv").open("w", newline="") as file,
            (self.folder / f"good{number}.csv").open("w", newline="") as good,
        ):
            file.write(",".join(_HEADER) + "\n")
            good.write(",".join(_HEADER) + "\n")
            for row in rows:
                csv.writer(file, lineterminator="\n").writerow(row)
                csv.writer(good, lineterminator="\n").writerow(row)
                if self.random.random() < share:
                    line = self.random.choice(
                        ["1,2,3", f"7,{row[1]},no number,s,2024-01-01", "1,2,3,x,2024-01-01,6"]
                    )
                    file.write(line + "\n")
                    self.bad.append(line)

    # ---- what it must give -----------------------------------------------------------------------

    def expected(self) -> list[tuple[str, ...]]:
        """Rows by DuckDB, as text."""
        with duckdb.connect() as database:
            for name, files, schema in (("a", "good*.csv", _SCHEMA_A), ("b", "b.csv", _SCHEMA_B)):
                types = {
                    c: {"int64": "BIGINT", "string": "VARCHAR", "date": "DATE"}[t] for c, t in schema.items()
                }
                database.execute(
                    f"CREATE TABLE {name} AS SELECT * FROM read_csv('{self.folder}/{files}', "
                    f"header=true, quote='\"', escape='\"', delim=',', auto_detect=false, columns={types})"
                )
            made = database.execute(self.sql)
            self._names = [c[0] for c in made.description]
            rows = [tuple("" if v is None else str(v) for v in row) for row in made.fetchall()]
        return rows if self.ordered else sorted(rows)

    def found(self) -> list[tuple[str, ...]]:
        """Rows of the output, as text; `expected` comes first."""
        rows: list[tuple[str, ...]] = []
        for path in sorted(
            p for p in self.output.rglob("*") if p.is_file() and not p.name.startswith("_mmflow")
        ):
            parts = dict(p.split("=", 1) for p in path.relative_to(self.output).parts[:-1])
            for row in _rows(path):
                whole = {**row, **parts}
                rows.append(tuple("" if whole[n] is None else str(whole[n]) for n in self._names))
        return rows if self.ordered else sorted(rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
        return rows
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
