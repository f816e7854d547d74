"""The kernels alone, on one thread: GB of text a second by instruction set, beside their references.

    python benchmarks/kernels.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--megabytes 200]

Medians of five, interleaved; the references read a tenth of the bytes. Hashing is in millions of rows a second,
aggregation in nanoseconds a row, beside DataFusion and pyarrow on the same batches.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import mmap
from collections.abc import Callable
from pathlib import Path

import data
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datafusion import SessionConfig, SessionContext
from timing import interleaved, table

from mmflow.formats.base import Comparison
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.ndjson.decoder import NdjsonDecoder
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.records.gathering import gather, kernel_field
from mmflow.formats.records.layout import record_field
from mmflow.formats.schemas.schema import canonical_schema, parse_schema, public_type
from mmflow.formats.text.kernel import text_decoder
from mmflow.formats.text.lines import TextDecoder
from mmflow.kernels import kernels
from mmflow.plan.native_aggregate import AggregateStep, Measure, distinct_states, result_type, state_type
from mmflow.worker.aggregation import Aggregator
from mmflow.worker.hashing import hash_columns
from mmflow.worker.partition import hash_rows

_PIECE = 4 << 20


def mapped(path: Path, nbytes: int, header: bool) -> pa.Buffer:
    """The first bytes of a file, without a header line."""
    with path.open("rb") as file:
        buffer = pa.py_buffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    begin = buffer.slice(0, 1 << 16).to_pybytes().index(b"\n") + 1 if header else 0
    return buffer.slice(begin, min(nbytes, buffer.size - begin))


def decode(decoder: RecordDecoder, text: pa.Buffer) -> None:
    """All records, in pieces as scans read them."""
    at = 0
    while at < text.size:
        piece = text.slice(at, min(_PIECE, text.size - at))
        consumed = decoder.decode(piece, piece.size, final=False, located=False).consumed
        if not consumed:
            return
        at += consumed


#: Median seconds of each way; that results agree is for tests/kernels to say.
measured = functools.partial(interleaved, repeats=5, same=lambda a, b: True)


def on(isa: str, work: Callable[[], None]) -> Callable[[], None]:
    """The work with an instruction set."""

    def run() -> None:
        kernels().simd_use(isa)
        work()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    nbytes = options.megabytes << 20

    schema = canonical_schema(parse_schema(data.LINEITEM))
    types = CsvTypes(tuple(schema.names), dict(zip(schema.names, schema.types, strict=True)), ("",))
    log = canonical_schema(parse_schema("path:string,status:int64,ms:float64"))
    some = ("l_quantity", "l_extendedprice", "l_discount", "l_tax", "l_returnflag", "l_linestatus")
    csv = mapped(data.lineitem_csv(options.folder, options.scale), nbytes, header=True)
    ndjson = mapped(data.log_ndjson(options.folder, options.rows), nbytes, header=False)
    lines = mapped(data.log_text(options.folder, options.rows), nbytes, header=False)
    q6 = ("l_quantity", "l_extendedprice", "l_discount", "l_shipdate")
    q6_filters = (
        Comparison("l_shipdate", "ge", dt.date(1994, 1, 1)),
        Comparison("l_shipdate", "lt", dt.date(1995, 1, 1)),
        Comparison("l_discount", "ge", 0.05),
        Comparison("l_discount", "le", 0.07),
        Comparison("l_quantity", "lt", 24.0),
    )
    late = (Comparison("status", "ge", 500),)

    def csv_pair(columns: tuple[str, ...]) -> tuple[RecordDecoder, RecordDecoder]:
        reference = CsvDecoder(columns, types, Dialect(), "error")
        return csv_decoder(columns, types, Dialect(), "error"), reference

    text = TextDecoder(("line",), "error")
    json_reference = NdjsonDecoder(("path", "ms"), log, "error", closed=False)
    pairs: dict[str, tuple[pa.Buffer, RecordDecoder, RecordDecoder]] = {
        "CSV, no columns": (csv, *csv_pair(())),
        "CSV, Q6": (csv, csv_decoder(q6, types, Dialect(), "error", prune=q6_filters), csv_pair(q6)[1]),
        "CSV, 6 of 16 columns": (csv, *csv_pair(some)),
        "CSV, all columns": (csv, *csv_pair(tuple(schema.names))),
        "NDJSON, 2 of 7 fields, filtered": (
            ndjson,
            ndjson_decoder(("path", "ms"), log, "error", closed=False, prune=late),
            json_reference,
        ),
        "text": (lines, text_decoder(text, ()), text),
        "text, LIKE": (lines, text_decoder(text, (Comparison("line", "contains", "item/499 "),)), text),
    }
    available = kernels().simd_available()
    rows = []
    for name, (buffer, native, reference) in pairs.items():
        tenth = buffer.slice(0, buffer.size // 10)
        ways = {isa: on(isa, functools.partial(decode, native, buffer)) for isa in available}
        ways["reference"] = functools.partial(decode, reference, tenth)
        taken = measured(ways)
        speeds = {n: (tenth if n == "reference" else buffer).size / 1e9 / t for n, t in taken.items()}
        rows.append({"work": name} | {n: f"{s:.2f} GB/s" for n, s in speeds.items()})

    records = mapped(data.records_bin(options.folder, int(options.scale * 15_625_000)), nbytes, header=False)
    fields = [
        record_field({"name": n, "type": t, "offset": data.RECORD.fields[n][1], "order": o})  # type: ignore[index]  # a structured type has fields
        for n, t, o in (("key", "int32", "little"), ("price", "float64", "little"), ("count", "int32", "big"))
    ]
    size = data.RECORD.itemsize
    count = (64 << 10) * size
    pieces = [records.slice(at, min(count, records.size - at)) for at in range(0, records.size, count)]
    reader = kernels().RecordsReader([kernel_field(f) for f in fields], size)

    def by_kernel() -> None:
        for piece in pieces:
            reader.decode(piece.address, piece.size // size, piece)

    def by_numpy() -> None:
        for piece in pieces:
            for field in fields:
                gather(piece, field, size, piece.size // size)

    taken = measured({available[0]: by_kernel, "reference": by_numpy})
    rows.append(
        {"work": "records, 3 fields"} | {n: f"{records.size / 1e9 / t:.2f} GB/s" for n, t in taken.items()}
    )

    million = 1_000_000
    keys = [
        pa.array([f"/api/v1/item/{i % 500}" for i in range(million)], pa.string_view()),
        pa.array(range(million)),
    ]
    taken = measured({available[0]: lambda: hash_rows(keys), "reference": lambda: hash_columns(keys)})
    rows.append({"work": "hash of text and int64"} | {n: f"{1 / t:.1f} M rows/s" for n, t in taken.items()})
    print(table(rows))
    print(table([aggregation(name, *work) for name, work in aggregations().items()]))


def aggregations() -> dict[str, tuple[pa.Table, list[str], list[tuple[str, str]]]]:
    """Rows, keys, and functions of columns: few groups of text, none, and a group for every second row."""
    n = 2_000_000
    rng = np.random.default_rng(0)
    price, discount = rng.integers(90_000, 10_500_000, n) / 100, rng.integers(0, 11, n) / 100

    def text(values: list[str], numbers: npt.NDArray[np.int64]) -> pa.Array:
        return pa.array(np.array(values)[numbers]).cast(pa.string_view())

    q1 = pa.table(
        {
            "flag": text(["A", "N", "R"], rng.integers(0, 3, n)),
            "status": text(["F", "O"], rng.integers(0, 2, n)),
            "quantity": rng.integers(1, 51, n).astype(float),
            "price": price,
            "discount": discount,
            "net": price * (1 - discount),
            "gross": price * (1 - discount) * 1.07,
        }
    )
    sums = [("sum", c) for c in ("quantity", "price", "net", "gross")]
    means = [("avg", c) for c in ("quantity", "price", "discount")]
    station = pa.table(
        {
            "station": text([f"station {i}" for i in range(1000)], rng.integers(0, 1000, n)),
            "t": rng.normal(size=n),
        }
    )
    many = pa.table({"key": rng.integers(0, n // 2, n), "value": rng.integers(0, 100, n)})
    return {
        "Q1: 2 keys, 4 sums, 3 means": (q1, ["flag", "status"], [*sums, *means]),
        "sum of floats, no keys": (q1.select(["price"]), [], [("sum", "price")]),
        "min, max, mean by 1,000 texts": (station, ["station"], [("min", "t"), ("max", "t"), ("avg", "t")]),
        "sum of int64 by 1 M int64": (many, ["key"], [("sum", "value")]),
    }


def aggregation(
    name: str, rows: pa.Table, keys: list[str], functions: list[tuple[str, str]]
) -> dict[str, str]:
    """Nanoseconds a row of the native aggregator, DataFusion and pyarrow, each on one thread."""
    batches = rows.combine_chunks().to_batches(max_chunksize=1 << 16)
    rows = pa.Table.from_batches(batches)
    place = rows.schema.get_field_index
    measures = tuple(Measure(f, place(c)) for f, c in functions)
    kinds = [rows.schema.field(c).type for _, c in functions]
    made_keys = [rows.schema.field(k) for k in keys]
    distinct = distinct_states(measures)
    states = [pa.field(str(m), state_type(m.function, rows.schema.types[m.column or 0])) for m in distinct]
    results = [
        pa.field(str(m), result_type(m.function, kind)) for m, kind in zip(measures, kinds, strict=True)
    ]
    step = AggregateStep(
        tuple(map(place, keys)), measures, "final", rows.schema, pa.schema([*made_keys, *states]),
        pa.schema([*made_keys, *results]),
    )  # fmt: skip
    context = SessionContext(SessionConfig().with_target_partitions(1))
    context.register_record_batches("t", [batches])
    columns = ", ".join([*keys, *(f"{f}({c})" for f, c in functions)])
    query = f"SELECT {columns} FROM t" + (f" GROUP BY {', '.join(keys)}" if keys else "")

    def native() -> None:
        aggregator = Aggregator(step)
        for batch in batches:
            aggregator.update(batch)
        list(aggregator.results())

    # pyarrow groups by no views.
    plain = rows.cast(pa.schema([f.with_type(public_type(f.type)) for f in rows.schema]))
    by_pyarrow = [(c, {"avg": "mean"}.get(f, f)) for f, c in functions]
    taken = measured(
        {
            "native": native,
            "DataFusion": lambda: context.sql(query).collect(),
            "pyarrow": lambda: plain.group_by(keys, use_threads=False).aggregate(by_pyarrow),
        }
    )
    return {"aggregate": name} | {n: f"{t / rows.num_rows * 1e9:.1f} ns a row" for n, t in taken.items()}


if __name__ == "__main__":
    main()
