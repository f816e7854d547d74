"""Data for benchmarks, made once into a folder: TPC-H by tpchgen-cli, web logs and records by numpy.

Everything is deterministic: the same folder comes out on every machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

__all__ = [
    "KEYED",
    "LINEITEM",
    "RECORD",
    "keyed_csv",
    "lineitem_arrow",
    "lineitem_csv",
    "log_ndjson",
    "log_text",
    "records_bin",
    "stations_csv",
    "two_lines_csv",
]

#: Types of lineitem.csv as every tool here infers them (TPC-H itself has decimals where these are floats).
LINEITEM = {
    "l_orderkey": "int64",
    "l_partkey": "int64",
    "l_suppkey": "int64",
    "l_linenumber": "int32",
    "l_quantity": "float64",
    "l_extendedprice": "float64",
    "l_discount": "float64",
    "l_tax": "float64",
    "l_returnflag": "string",
    "l_linestatus": "string",
    "l_shipdate": "date32",
    "l_commitdate": "date32",
    "l_receiptdate": "date32",
    "l_shipinstruct": "string",
    "l_shipmode": "string",
    "l_comment": "string",
}

#: Types of `keyed_csv`.
KEYED = {"k": "int64", "v": "float64", "s": "string"}

RECORD = np.dtype(
    {
        "names": ["id", "key", "price", "count", "flag"],
        "formats": ["<i8", "<i4", "<f8", ">i4", "S8"],
        "offsets": [0, 8, 16, 24, 32],
        "itemsize": 64,
    }
)


def lineitem_csv(folder: Path, scale: float) -> Path:
    """lineitem.csv at a TPC-H scale (scale 1 is about 770 MB)."""
    out = folder / f"tpch-{scale:g}"
    path = out / "lineitem.csv"
    if not path.exists():
        tool = Path(sys.executable).with_name("tpchgen-cli")
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [str(tool), "csv", "-s", f"{scale:g}", "--tables=lineitem", f"--output-dir={out}"], check=True
        )
    return path


def lineitem_of_europe(folder: Path, scale: float) -> Path:
    """lineitem with decimal commas, dates with the day first, and semicolons between fields."""
    path = folder / f"tpch-{scale:g}" / "lineitem-europe.csv"
    if not path.exists():
        spelled = {"float64": "replace({0}, '.', ',')", "date32": "strftime(CAST({0} AS DATE), '%d/%m/%Y')"}
        columns = ", ".join(f"{spelled.get(t, '{0}').format(n)} AS {n}" for n, t in LINEITEM.items())
        source = f"read_csv('{lineitem_csv(folder, scale)}', header=true, all_varchar=true)"
        unfinished = path.with_suffix(".part")
        duckdb.sql(
            f"COPY (SELECT {columns} FROM {source}) TO '{unfinished}' (FORMAT csv, DELIMITER ';', HEADER)"
        )
        unfinished.rename(path)
    return path


def two_lines_csv(folder: Path) -> Path:
    """A file of which next to nothing is to be read."""
    path = folder / "two-lines.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    return path


def stations_csv(folder: Path, rows: int) -> Path:
    """Temperatures of 400 stations, `station;temp`, in no order (20 million rows: 270 MB)."""
    path = folder / f"stations-{rows}.csv"
    if not path.exists():
        rng = np.random.default_rng(11)
        names = pa.array(
            [f"{['Station', 'Bay', 'Lake', 'Hill'][i % 4]} {i * 7919 % 100_003}" for i in range(400)]
        )
        means = rng.uniform(-10, 35, 400)
        unfinished = path.with_suffix(".part")
        options = pacsv.WriteOptions(delimiter=";", quoting_style="none")
        schema = pa.schema([("station", pa.string()), ("temp", pa.float64())])
        with pacsv.CSVWriter(str(unfinished), schema, write_options=options) as out:
            for begin in range(0, rows, 1 << 20):
                which = rng.integers(0, 400, min(1 << 20, rows - begin))
                temps = rng.normal(means[which], 8).round(1)
                out.write_table(pa.table([names.take(pa.array(which)), pa.array(temps)], schema=schema))
        unfinished.rename(path)
    return path


def lineitem_arrow(folder: Path, scale: float) -> Path:
    """lineitem as an Arrow IPC file, in batches of some 60,000 rows."""
    path = folder / f"tpch-{scale:g}" / "lineitem.arrow"
    if not path.exists():
        types = {n: {"string": pa.string(), "date32": pa.date32()}.get(t, t) for n, t in LINEITEM.items()}
        options = pacsv.ConvertOptions(column_types=types)
        read = pacsv.ReadOptions(block_size=8 << 20)
        source = pacsv.open_csv(lineitem_csv(folder, scale), read_options=read, convert_options=options)
        unfinished = path.with_suffix(".part")
        with pa.ipc.new_file(unfinished, source.schema) as sink:
            for batch in source:
                sink.write_batch(batch)
        unfinished.rename(path)
    return path


def _log_columns(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "status": rng.choice([200, 200, 200, 200, 301, 404, 500, 503], rows),
        "path": rng.integers(0, 500, rows),
        "host": rng.integers(0, 10_000, rows),
        "ms": rng.gamma(2.0, 30.0, rows).round(3),
        "second": np.sort(rng.integers(0, 86_400, rows)),
    }


def log_ndjson(folder: Path, rows: int) -> Path:
    """Web-log records, one JSON object a line."""
    path = folder / f"log-{rows}.ndjson"
    if not path.exists():
        columns = _log_columns(rows)
        with path.open("w") as file:
            for status, page, host, ms, second in zip(*(c.tolist() for c in columns.values()), strict=True):
                row = {
                    "time": f"2026-03-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
                    "host": f"10.0.{host // 256}.{host % 256}",
                    "method": "GET",
                    "path": f"/api/v1/item/{page}",
                    "status": status,
                    "ms": ms,
                    "agent": {"name": "Mozilla/5.0", "os": "Linux"},
                }
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
    return path


def log_text(folder: Path, rows: int) -> Path:
    """The same records as lines of a common web log."""
    path = folder / f"log-{rows}.log"
    if not path.exists():
        columns = _log_columns(rows)
        with path.open("w") as file:
            for status, page, host, ms, second in zip(*(c.tolist() for c in columns.values()), strict=True):
                when = f"01/Mar/2026:{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
                file.write(
                    f'10.0.{host // 256}.{host % 256} - - [{when}] "GET /api/v1/item/{page} HTTP/1.1" '
                    f"{status} {int(ms * 100)} {ms}\n"
                )
    return path


def records_bin(folder: Path, rows: int) -> Path:
    """Fixed-width records of 64 bytes (`RECORD`)."""
    path = folder / f"records-{rows}.bin"
    if not path.exists():
        rng = np.random.default_rng(11)
        with path.open("wb") as file:
            for start in range(0, rows, 1 << 20):
                count = min(1 << 20, rows - start)
                chunk = np.zeros(count, RECORD)
                chunk["id"] = np.arange(start, start + count)
                chunk["key"] = rng.integers(0, 1000, count)
                chunk["price"] = rng.random(count) * 100
                chunk["count"] = rng.integers(0, 1 << 20, count)
                chunk["flag"] = np.array([b"A", b"B", b"C"])[rng.integers(0, 3, count)]
                chunk.tofile(file)
    return path


def keyed_csv(folder: Path, rows: int, seed: int) -> Path:
    """Rows to be sorted and joined, some 20 bytes each.

    `k` is drawn from [0, rows), so that a join of two such tables on it gives about `rows` rows; `v` has three
    decimals; `s` is one of 1000 texts.
    """
    path = folder / f"keyed-{rows}-{seed}.csv"
    if not path.exists():
        rng = np.random.default_rng(seed)
        texts = np.array([f"s-{i:03}" for i in range(1000)])
        unfinished = path.with_suffix(".part")
        schema = pa.schema([("k", pa.int64()), ("v", pa.float64()), ("s", pa.string())])
        options = pacsv.WriteOptions(quoting_style="none")
        with pacsv.CSVWriter(unfinished, schema, write_options=options) as file:
            for start in range(0, rows, 1 << 20):
                count = min(1 << 20, rows - start)
                k = rng.integers(0, rows, count)
                v = rng.integers(1, 1_000_000, count) / 1000
                s = texts[rng.integers(0, len(texts), count)]
                file.write_table(pa.table([k, v, s], schema=schema))
        unfinished.rename(path)
    return path
