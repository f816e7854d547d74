"""Files of faulted runs in versions, queries over them, and their rows as DuckDB computes them."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

__all__ = ["FORMATS", "QUERIES", "Data", "encoded", "rows_of"]

FORMATS = ("csv", "ndjson", "text", "records", "arrow", "parquet")
SUFFIXES = {"csv": "csv", "ndjson": "ndjson", "text": "txt", "records": "bin", "arrow": "arrow", "parquet": "parquet"}  # fmt: skip
#: SQL that DataFusion and DuckDB take alike.
QUERIES = {
    "filter": "SELECT id, k, v, s FROM a WHERE v % 3 <> 0",
    "all": "SELECT id, k, v, s FROM a",
    "group": "SELECT k, sum(v) AS total, count(*) AS n, min(s) AS least FROM a GROUP BY k",
    "sort": "SELECT id, k, v, s FROM a ORDER BY s, v DESC, id",
    "join": "SELECT x.id, x.v, y.n FROM a x JOIN (SELECT k, count(*) AS n FROM a GROUP BY k) y ON x.k = y.k",
    "window": "SELECT id, row_number() OVER (PARTITION BY k ORDER BY v, id) AS n FROM a",
}
_GROUP_ROWS = 200
_RECORD = np.dtype([("id", "<i8"), ("k", "<i8"), ("v", "<i8"), ("s", "S16")])


@dataclass
class Data:
    """Files of one format; the changes of one of them.

    Attributes:
        kind: Format.
        query: Name in `QUERIES`.
        tables: Rows of each file.
        changed: Number of the file that a fault may change.
        other: Its rows in another version, of as many bytes where the format allows.
    """

    kind: str
    query: str
    tables: list[pa.Table]
    changed: int
    other: pa.Table = field(init=False)

    @classmethod
    def make(cls, r: random.Random, kinds: list[str]) -> Data:
        kind, query = r.choice(kinds), r.choice(sorted(QUERIES))
        count = r.choice([200, 1000, 3000])
        tables = [_table(r, count // 2 + number, 1000) for number in range(r.randint(1, 3))]
        made = cls(kind, query, tables, r.randrange(len(tables)))
        made.other = _table(r, tables[made.changed].num_rows, 5000)
        return made

    @property
    def names(self) -> list[str]:
        return [f"a{number}.{SUFFIXES[self.kind]}" for number in range(len(self.tables))]

    def files(self) -> list[bytes]:
        """Contents before any fault."""
        return [encoded(table, self.kind) for table in self.tables]

    def versions(self, change: str) -> tuple[bytes, list[pa.Table] | None]:
        """Return the bytes of the file after a change, and the rows of all files then; None if they can't be read."""
        before = self.tables[self.changed]
        if change in ("truncate", "append") and self.kind in ("arrow", "parquet"):
            data = encoded(before, self.kind)
            return (data[: len(data) // 2] if change == "truncate" else data + b"\0" * 100), None
        after = {
            "replace": self.other,
            "rewrite": self.other,
            "truncate": before.slice(0, before.num_rows // 3),
            "append": pa.concat_tables([before, self.other]),
        }[change]
        return encoded(after, self.kind), [
            after if number == self.changed else table for number, table in enumerate(self.tables)
        ]

    def expected(self, tables: list[pa.Table]) -> list[tuple[str, ...]]:
        """Rows of the query over these."""
        with duckdb.connect() as database:
            a = pa.concat_tables(tables)
            database.register("a", a)
            rows = database.execute(QUERIES[self.query]).fetchall()
        return self.ordered([tuple(map(str, row)) for row in rows])

    def ordered(self, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        return rows if self.query == "sort" else sorted(rows)


def _table(r: random.Random, rows: int, least: int) -> pa.Table:
    """Rows whose text is equally long, whatever the values."""
    words = [f"word{n:02}" for n in range(40)]
    columns: dict[str, Any] = {
        "id": [r.randrange(10**5, 10**6) for _ in range(rows)],
        "k": [r.randrange(10, 40) for _ in range(rows)],
        "v": [r.randrange(least, least + 1000) for _ in range(rows)],
        "s": [r.choice(words) for _ in range(rows)],
    }
    return pa.table(columns)


def encoded(table: pa.Table, kind: str) -> bytes:
    """A file of these rows."""
    sink = io.BytesIO()
    if kind in ("csv", "text"):
        options = pa.csv.WriteOptions(include_header=kind == "csv", quoting_style="none")
        pa.csv.write_csv(table, sink, options)
    elif kind == "ndjson":
        lines = '{{"id":{id},"k":{k},"v":{v},"s":"{s}"}}\n'
        sink.write("".join(lines.format(**row) for row in table.to_pylist()).encode())
    elif kind == "records":
        sink.write(np.array([tuple(row.values()) for row in table.to_pylist()], dtype=_RECORD).tobytes())
    elif kind == "arrow":
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=_GROUP_ROWS)
    else:
        pq.write_table(table, sink, row_group_size=_GROUP_ROWS)
    return sink.getvalue()


def rows_of(name: str, data: bytes) -> list[tuple[str, ...]]:
    """Rows of an output file, as text."""
    source = pa.BufferReader(data)
    if name.endswith(".parquet"):
        table = pq.ParquetFile(source).read()
    elif name.endswith(".arrow"):
        table = pa.ipc.open_file(source).read_all()
    elif name.endswith(".csv"):
        table = pa.csv.read_csv(source)
    else:
        raise ValueError(f"{name} is no output: {data[:60]!r}")
    return [tuple(map(str, row.values())) for row in table.to_pylist()]
