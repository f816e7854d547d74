"""The work that is measured: each system's way of computing the same from one file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import datafusion
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

import mmflow as mf

__all__ = ["LOG_GROUP", "LOG_SCHEMA", "Q1", "Q6", "THREADS", "Work", "works"]

THREADS = 2
Ways = dict[str, Callable[[], pa.Table]]


@dataclass(frozen=True)
class Work:
    """One row of the table: a file, and how each system computes the same from it."""

    path: Path
    ways: Ways


def _duck(query: str) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        connection = duckdb.connect()
        connection.execute(f"SET threads={THREADS}")
        return connection.sql(query).to_arrow_table()

    return run


def _datafusion(register: Callable[[Any], None], query: str) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(THREADS))
        register(context)
        return context.sql(query).to_arrow_table()

    return run


def _mmflow(query: str, read: Callable[[mf.Session], mf.Dataset]) -> Callable[[], pa.Table]:
    def run() -> pa.Table:
        with mf.Session(workers=THREADS) as session:
            return session.sql(query, t=read(session)).to_arrow()

    return run


Q6 = """SELECT sum(l_extendedprice * l_discount) AS revenue FROM {t}
WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1995-01-01'
  AND l_discount >= 0.05 AND l_discount <= 0.07 AND l_quantity < 24"""
Q1 = """SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base,
  sum(l_extendedprice * (1 - l_discount)) AS sum_disc,
  sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
  avg(l_quantity) AS avg_qty, avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS n
FROM {t} WHERE l_shipdate <= date '1998-09-02'
GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus"""
COUNT = "SELECT count(*) AS n FROM {t}"
SELECTIVE = """SELECT count(*) AS n, max(l_orderkey) AS k FROM {t}
WHERE l_shipmode = 'RAIL' AND l_comment = 'final deposits'"""

# Each type as SQL, pyarrow and Polars write it.
_TYPES = {
    "string": ("VARCHAR", pa.string(), pl.String),
    "int64": ("BIGINT", pa.int64(), pl.Int64),
    "int32": ("INTEGER", pa.int32(), pl.Int32),
    "float64": ("DOUBLE", pa.float64(), pl.Float64),
    "date32": ("DATE", pa.date32(), pl.Date),
}


_LINEITEM_SQL = ", ".join(f"'{n}': '{_TYPES[t][0]}'" for n, t in data.LINEITEM.items())
_LINEITEM_ARROW = pa.schema([(n, _TYPES[t][1]) for n, t in data.LINEITEM.items()])
_LINEITEM_POLARS = {n: _TYPES[t][2] for n, t in data.LINEITEM.items()}


def _lineitem(path: Path, query: str) -> Work:
    from_duck = f"read_csv('{path}', header=true, columns={{{_LINEITEM_SQL}}})"

    def polars() -> pa.Table:
        frame = pl.scan_csv(path, schema=_LINEITEM_POLARS)
        return pl.SQLContext(t=frame).execute(query.format(t="t"), eager=True).to_arrow()

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_csv(str(path), schema=data.LINEITEM)),
            "duckdb": _duck(query.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(
                lambda c: c.register_csv("t", str(path), schema=_LINEITEM_ARROW), query.format(t="t")
            ),
        },
    )


def _lineitem_of_europe(path: Path, query: str) -> Work:
    from_duck = (
        f"read_csv('{path}', header=true, delim=';', decimal_separator=',', dateformat='%d/%m/%Y', "
        f"columns={{{_LINEITEM_SQL}}})"
    )
    dates = [n for n, t in data.LINEITEM.items() if t == "date32"]

    def polars() -> pa.Table:
        schema = {**_LINEITEM_POLARS, **dict.fromkeys(dates, pl.String)}
        frame = pl.scan_csv(path, separator=";", decimal_comma=True, schema=schema)
        frame = frame.with_columns(pl.col(dates).str.to_date("%d/%m/%Y"))
        return pl.SQLContext(t=frame).execute(query.format(t="t"), eager=True).to_arrow()

    def read(session: mf.Session) -> mf.Dataset:
        return session.read_csv(
            str(path), delimiter=";", decimal=",", date_format="%d/%m/%Y", schema=data.LINEITEM
        )

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), read),
            "duckdb": _duck(query.format(t=from_duck)),
            "polars": polars,
        },
    )


STATIONS = "SELECT station, min(temp) AS a, avg(temp) AS b, max(temp) AS c FROM {t} GROUP BY station"
_STATION_TYPES = {"station": "string", "temp": "float64"}


def _stations(path: Path) -> Work:
    columns = ", ".join(f"'{n}': '{_TYPES[t][0]}'" for n, t in _STATION_TYPES.items())
    from_duck = f"read_csv('{path}', header=true, delim=';', columns={{{columns}}})"
    schema = pa.schema([(n, _TYPES[t][1]) for n, t in _STATION_TYPES.items()])

    def polars() -> pa.Table:
        frame = pl.scan_csv(path, separator=";", schema={n: _TYPES[t][2] for n, t in _STATION_TYPES.items()})
        return pl.SQLContext(t=frame).execute(STATIONS.format(t="t"), eager=True).to_arrow()

    return Work(
        path,
        {
            "mmflow": _mmflow(
                STATIONS.format(t="t"),
                lambda s: s.read_csv(str(path), delimiter=";", schema=_STATION_TYPES),
            ),
            "duckdb": _duck(STATIONS.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(
                lambda c: c.register_csv("t", str(path), schema=schema, delimiter=";"), STATIONS.format(t="t")
            ),
        },
    )


def _process(path: Path, query: str, delimiter: str = ",") -> Work:
    """Whole processes: an interpreter that starts, queries a file whose types it finds, prints the rows, and ends."""
    of_files = query.format(t=f"'{path}'")
    duck = query.format(t=f"read_csv('{path}', delim='{delimiter}')")
    of_table = query.format(t="t")
    dates = "try_parse_dates=True"
    scripts = {
        "duckdb": f"""import duckdb; duckdb.sql("SET threads={THREADS}; SET enable_progress_bar=false")
for row in duckdb.sql({duck!r}).fetchall(): print(*row, sep=",")""",
        "polars": f"""import polars as pl; t = pl.scan_csv({str(path)!r}, separator={delimiter!r}, {dates})
for row in pl.SQLContext(t=t).execute({of_table!r}, eager=True).rows(): print(*row, sep=",")""",
        "datafusion": f"""import datafusion as df
c = df.SessionContext(df.SessionConfig().with_target_partitions({THREADS}))
c.register_csv("t", {str(path)!r}, delimiter={delimiter!r})
for row in c.sql({of_table!r}).to_pylist(): print(*row.values(), sep=",")""",
    }
    mmflow = [str(Path(sys.executable).with_name("mmflow")), "sql", "--workers", str(THREADS), of_files]
    commands = {"mmflow": mmflow} | {name: [sys.executable, "-c", script] for name, script in scripts.items()}
    return Work(path, {name: _run(command, name == "mmflow") for name, command in commands.items()})


def _run(command: list[str], header: bool) -> Callable[[], pa.Table]:
    # Compiled modules are a part of every installation, whatever this process may write.
    unset = ("PYTHONDONTWRITEBYTECODE",)
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment["POLARS_MAX_THREADS"] = str(THREADS)

    def run() -> pa.Table:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        rows = [[_value(text) for text in line.split(",")] for line in done.stdout.splitlines()[header:]]
        return pa.Table.from_pylist([{str(n): value for n, value in enumerate(row)} for row in rows])

    return run


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


LIKE = "SELECT count(*) AS n FROM {t} WHERE line LIKE '%item/499 %'"
REGEX = r"SELECT count(*) AS n FROM {t} WHERE regexp_like(line, 'item/4[0-9]9 .* 50[03] ')"
REGEX_DUCK = REGEX.replace("regexp_like", "regexp_matches")


def _lines(path: Path, query: str, polars_filter: pl.Expr | None, duck_query: str) -> Work:
    # Peers have no format for lines: a CSV of one column, delimited by a byte that no line holds.
    from_duck = (
        f"read_csv('{path}', header=false, auto_detect=false, columns={{'line': 'VARCHAR'}}, "
        "delim=chr(1), quote='', escape='')"
    ).replace("chr(1)", "'\x01'")

    def polars() -> pa.Table:
        frame = pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String}
        )
        if polars_filter is None:
            status = pl.col("line").str.split(" ").list.get(8).alias("status")
            return frame.group_by(status).agg(pl.len().alias("n")).collect().to_arrow()
        return frame.filter(polars_filter).select(pl.len().alias("n")).collect().to_arrow()

    def register(context: Any) -> None:
        schema = pa.schema([("line", pa.string())])
        context.register_csv(
            "t", str(path), schema=schema, has_header=False, delimiter="\x01", file_extension=path.suffix
        )

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_text(str(path))),
            "duckdb": _duck(duck_query.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(register, query.format(t="t")),
        },
    )


SPLIT = "SELECT split_part(line, ' ', 9) AS status, count(*) AS n FROM {t} GROUP BY 1"

_LOG_TYPES = {
    "time": "string",
    "host": "string",
    "method": "string",
    "path": "string",
    "status": "int64",
    "ms": "float64",
}
LOG_SCHEMA = pa.schema(
    [
        *((n, _TYPES[t][1]) for n, t in _LOG_TYPES.items()),
        ("agent", pa.struct([("name", pa.string()), ("os", pa.string())])),
    ]
)
LOG_GROUP = "SELECT path, count(*) AS n, avg(ms) AS ms FROM {t} WHERE status >= 500 GROUP BY path"


def _ndjson(path: Path, query: str) -> Work:
    polars_schema = {n: _TYPES[t][2] for n, t in _LOG_TYPES.items()}
    polars_schema["agent"] = pl.Struct({"name": pl.String, "os": pl.String})
    columns = ", ".join(f"'{n}': '{_TYPES[t][0]}'" for n, t in _LOG_TYPES.items())
    columns += ", 'agent': 'STRUCT(name VARCHAR, os VARCHAR)'"
    from_duck = f"read_json('{path}', format='newline_delimited', columns={{{columns}}})"

    def polars() -> pa.Table:
        frame = pl.scan_ndjson(path, schema=polars_schema)
        return pl.SQLContext(t=frame).execute(query.format(t="t"), eager=True).to_arrow()

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_ndjson(str(path), schema=LOG_SCHEMA)),
            "duckdb": _duck(query.format(t=from_duck)),
            "polars": polars,
            "datafusion": _datafusion(
                lambda c: c.register_json("t", str(path), schema=LOG_SCHEMA, file_extension=path.suffix),
                query.format(t="t"),
            ),
        },
    )


RECORDS = "SELECT count(*) AS n, sum(price) AS price, max(count) AS most FROM {t} WHERE key < 500"


def _records(path: Path, query: str) -> Work:
    layout = [
        {"name": n, "type": t, "offset": data.RECORD.fields[n][1], "order": o}  # type: ignore[index]  # a structured type has fields
        for n, t, o in (
            ("id", "int64", "little"),
            ("key", "int32", "little"),
            ("price", "float64", "little"),
            ("count", "int32", "big"),
        )
    ]

    def memmap() -> pa.Table:
        records = np.memmap(path, data.RECORD, "r")
        chosen = records["key"] < 500
        price, most = records["price"][chosen].sum(), records["count"][chosen].max()
        return pa.table({"n": [int(chosen.sum())], "price": [float(price)], "most": [int(most)]})

    return Work(
        path,
        {
            "mmflow": _mmflow(
                query.format(t="t"),
                lambda s: s.read_records(str(path), layout=layout, record_size=data.RECORD.itemsize),
            ),
            "numpy": memmap,
        },
    )


IPC_GROUP = """SELECT l_returnflag, l_linestatus, sum(l_quantity) AS q, sum(l_extendedprice) AS p, count(*) AS n
FROM {t} GROUP BY l_returnflag, l_linestatus"""


def _ipc(path: Path, query: str) -> Work:
    def register(context: Any) -> None:
        context.register_arrow("t", str(path), file_extension=path.suffix)

    def polars() -> pa.Table:
        return pl.SQLContext(t=pl.scan_ipc(path)).execute(query.format(t="t"), eager=True).to_arrow()

    def duck() -> pa.Table:
        # DuckDB reads Arrow through pyarrow.
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            t = pa.Table.from_batches([reader.get_batch(i) for i in range(reader.num_record_batches)])
            connection = duckdb.connect()
            connection.execute(f"SET threads={THREADS}")
            connection.register("t", t)
            return connection.sql(query.format(t="t")).to_arrow_table()

    return Work(
        path,
        {
            "mmflow": _mmflow(query.format(t="t"), lambda s: s.read_arrow(str(path))),
            "duckdb": duck,
            "polars": polars,
            "datafusion": _datafusion(register, query.format(t="t")),
        },
    )


def _to_parquet(path: Path, folder: Path) -> Work:
    """Each writes the whole file as Parquet with snappy."""

    def mmflow() -> pa.Table:
        out = _fresh(folder, "mmflow") / "data"
        with mf.Session(workers=THREADS) as session:
            session.read_csv(str(path), schema=data.LINEITEM).write_parquet(str(out))
        return _content(out / "*.parquet")

    def duck() -> pa.Table:
        out = _fresh(folder, "duckdb") / "data.parquet"
        connection = duckdb.connect()
        connection.execute(f"SET threads={THREADS}")
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{path}', header=true, columns={{{_LINEITEM_SQL}}})) "
            f"TO '{out}' (FORMAT parquet, COMPRESSION snappy)"
        )
        return _content(out)

    def polars() -> pa.Table:
        out = _fresh(folder, "polars") / "data.parquet"
        pl.scan_csv(path, schema=_LINEITEM_POLARS).sink_parquet(out, compression="snappy")
        return _content(out)

    def from_datafusion() -> pa.Table:
        out = _fresh(folder, "datafusion") / "data"
        context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(THREADS))
        context.read_csv(str(path), schema=_LINEITEM_ARROW).write_parquet(str(out), compression="snappy")
        return _content(out / "*.parquet")

    return Work(path, {"mmflow": mmflow, "duckdb": duck, "polars": polars, "datafusion": from_datafusion})


_WITH_SUMS = """SELECT count(*) AS n, sum(l_extendedprice * q) AS p FROM {t} AS l
JOIN (SELECT l_orderkey AS k, sum(l_quantity) AS q FROM {t} AS s GROUP BY l_orderkey) AS a ON l.l_orderkey = a.k"""
_GROUPS = """SELECT count(*) AS n, max(c) AS c, sum(q) AS q FROM (
  SELECT {key}, count(*) AS c, sum(l_quantity) AS q FROM {t} GROUP BY {key}) AS g"""
EXCHANGES = {
    "exchange-groups-text": _GROUPS.replace("{key}", "l_comment"),
    "exchange-groups": _GROUPS.replace("{key}", "l_orderkey"),
    "exchange-join": _WITH_SUMS,
    "exchange-distinct": "SELECT count(DISTINCT l_partkey) AS a, count(DISTINCT l_suppkey) AS b FROM {t}",
}
NUMBERED = """SELECT count(*) AS n, sum(r) AS s, max(r) AS m FROM (
  SELECT row_number() OVER (PARTITION BY l_partkey ORDER BY l_orderkey, l_linenumber) AS r FROM {t}) AS w"""
_SORTED = ["l_extendedprice", "l_orderkey", "l_partkey", "l_shipdate"]


def _numbered(path: Path) -> Work:
    work = _lineitem(path, NUMBERED)

    def polars() -> pa.Table:
        order = pl.struct("l_orderkey", "l_linenumber").rank("ordinal").over("l_partkey").alias("r")
        r = pl.col("r").cast(pl.Int64)
        frame = pl.scan_csv(path, schema=_LINEITEM_POLARS).select(order)
        return frame.select(pl.len().alias("n"), r.sum().alias("s"), r.max().alias("m")).collect().to_arrow()

    return Work(path, work.ways | {"polars": polars})


def _sorted(path: Path, folder: Path) -> Work:
    """Each writes four columns as Parquet with snappy, ordered by price."""
    query = f"SELECT {', '.join(_SORTED)} FROM {{t}} ORDER BY l_extendedprice"

    def mmflow() -> pa.Table:
        out = _fresh(folder, "mmflow") / "data"
        with mf.Session(workers=THREADS) as session:
            rows = session.sql(query.format(t="t"), t=session.read_csv(str(path), schema=data.LINEITEM))
            rows.write_parquet(str(out))
        return _content(out / "*.parquet")

    def duck() -> pa.Table:
        out = _fresh(folder, "duckdb") / "data.parquet"
        connection = duckdb.connect()
        connection.execute(f"SET threads={THREADS}")
        table = f"read_csv('{path}', header=true, columns={{{_LINEITEM_SQL}}})"
        connection.execute(f"COPY ({query.format(t=table)}) TO '{out}' (FORMAT parquet, COMPRESSION snappy)")
        return _content(out)

    def polars() -> pa.Table:
        out = _fresh(folder, "polars") / "data.parquet"
        frame = pl.scan_csv(path, schema=_LINEITEM_POLARS).select(_SORTED).sort("l_extendedprice")
        frame.sink_parquet(out, compression="snappy")
        return _content(out)

    return Work(path, {"mmflow": mmflow, "duckdb": duck, "polars": polars})


def _fresh(folder: Path, name: str) -> Path:
    out = folder / f"out-{name}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return out


def _content(pattern: Path) -> pa.Table:
    """Rows by the footers alone: what is timed is the writing."""
    rows = duckdb.sql(f"SELECT sum(num_rows)::BIGINT AS n FROM parquet_file_metadata('{pattern}')").fetchall()
    return pa.table({"n": [rows[0][0]]})


def works(
    folder: Path, scale: float, rows: int, stations: int = 20_000_000
) -> Mapping[str, Callable[[], Work]]:
    """Work by name; making it makes the data that it needs.

    Args:
        folder: Folder of the data and of outputs.
        scale: Scale factor of TPC-H; records are in proportion (scale 2: 2 GB).
        rows: Number of rows of the web logs.
        stations: Number of rows of `station;temp`.
    """

    def lineitem(query: str) -> Callable[[], Work]:
        return lambda: _lineitem(data.lineitem_csv(folder, scale), query)

    return {
        "csv-q6": lineitem(Q6),
        "csv-q1": lineitem(Q1),
        "csv-count": lineitem(COUNT),
        "csv-equal": lineitem(SELECTIVE),
        "csv-europe-q6": lambda: _lineitem_of_europe(data.lineitem_of_europe(folder, scale), Q6),
        "csv-europe-q1": lambda: _lineitem_of_europe(data.lineitem_of_europe(folder, scale), Q1),
        "text-like": lambda: _lines(
            data.log_text(folder, rows), LIKE, pl.col("line").str.contains("item/499 ", literal=True), LIKE
        ),
        "text-regex": lambda: _lines(
            data.log_text(folder, rows),
            REGEX,
            pl.col("line").str.contains("item/4[0-9]9 .* 50[03] "),
            REGEX_DUCK,
        ),
        "text-split": lambda: _lines(
            data.log_text(folder, rows),
            SPLIT,
            None,
            SPLIT,
        ),
        "ndjson": lambda: _ndjson(data.log_ndjson(folder, rows), LOG_GROUP),
        "records": lambda: _records(data.records_bin(folder, int(scale * 15_625_000)), RECORDS),
        "ipc-group": lambda: _ipc(data.lineitem_arrow(folder, scale), IPC_GROUP),
        "stations": lambda: _stations(data.stations_csv(folder, stations)),
        "process-count": lambda: _process(data.two_lines_csv(folder), COUNT),
        "process-q6": lambda: _process(data.lineitem_csv(folder, scale), Q6),
        "process-stations": lambda: _process(data.stations_csv(folder, stations), STATIONS, ";"),
        "csv-parquet": lambda: _to_parquet(data.lineitem_csv(folder, scale), folder),
        **{name: lineitem(query) for name, query in EXCHANGES.items()},
        "exchange-window": lambda: _numbered(data.lineitem_csv(folder, scale)),
        "exchange-sort": lambda: _sorted(data.lineitem_csv(folder, scale), folder),
    }
