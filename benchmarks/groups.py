"""The native aggregator beside DataFusion, DuckDB and Polars, each on one thread: nanoseconds a row by groups.

    python benchmarks/groups.py [--rows 4000000] [--groups 1 4 100 10000 1000000 10000000] [--keys int64 ...]
        [--functions count sum_int ...] [--repeats 3]

Medians, interleaved, over the same Arrow batches in memory. Ratio: the best peer's time by mmflow's.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable

os.environ["POLARS_MAX_THREADS"] = "1"

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from datafusion import SessionConfig, SessionContext
from timing import interleaved, table

from mmflow.plan.native_aggregate import AggregateStep, Measure, distinct_states, result_type, state_type
from mmflow.worker.aggregation import Aggregator

FUNCTIONS = {
    "count": [("count", "i")],
    "sum": [("sum", "i")],
    "sum of floats": [("sum", "x")],
    "min, max": [("min", "i"), ("max", "i")],
    "all": [("count", "i"), ("sum", "i"), ("avg", "x"), ("min", "x"), ("max", "i")],
}
KEYS = {"int64": ["k"], "text": ["t"], "long text": ["u"], "int64, text": ["h", "t"]}


def rows_of(count: int, groups: int) -> pa.Table:
    """Rows of random groups; `h` and `t` together have about as many as `k`."""
    rng = np.random.default_rng(groups)
    numbers = rng.integers(0, groups, count)
    names = pa.array(numbers).cast(pa.string())
    return pa.table(
        {
            "k": numbers * 7_919,
            "h": numbers % 3,
            "t": names.cast(pa.string_view()),
            "u": pa.compute.binary_join_element_wise("customer number", names, " ").cast(pa.string_view()),
            "i": rng.integers(-1000, 1000, count),
            "x": rng.integers(0, 10_000_000, count) / 100,
        }
    )


def ways(rows: pa.Table, keys: list[str], functions: list[tuple[str, str]]) -> dict[str, Callable[[], int]]:
    """Return the number of groups, by each system."""
    columns = [*keys, *dict.fromkeys(c for _, c in functions)]
    batches = rows.select(columns).combine_chunks().to_batches(max_chunksize=1 << 16)
    rows = pa.Table.from_batches(batches)
    place = rows.schema.get_field_index
    measures = tuple(Measure(f, place(c)) for f, c in functions)
    made_keys = [rows.schema.field(k) for k in keys]
    states = [
        pa.field(str(m), state_type(m.function, rows.schema.types[m.column or 0]))
        for m in distinct_states(measures)
    ]
    results = [pa.field(str(m), result_type(m.function, rows.schema.types[m.column or 0])) for m in measures]
    step = AggregateStep(
        tuple(map(place, keys)), measures, "whole", rows.schema,
        pa.schema([*made_keys, *states]), pa.schema([*made_keys, *results]),
    )  # fmt: skip
    calls = ", ".join(f"{f}({c}) AS r{n}" for n, (f, c) in enumerate(functions))
    query = f"SELECT {', '.join(keys)}, {calls} FROM t GROUP BY {', '.join(keys)}"
    context = SessionContext(SessionConfig().with_target_partitions(1))
    context.register_record_batches("t", [batches])
    connection = duckdb.connect()
    connection.execute("SET threads=1")
    connection.register("t", rows)
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    polars = [
        getattr(pl.col(c), {"avg": "mean"}.get(f, f))().alias(f"r{n}") for n, (f, c) in enumerate(functions)
    ]

    def native() -> int:
        aggregator = Aggregator(step)
        for batch in batches:
            aggregator.update(batch)
        return sum(batch.num_rows for batch in aggregator.results())

    return {
        "mmflow": native,
        "DataFusion": lambda: sum(b.num_rows for b in context.sql(query).collect()),
        "DuckDB": lambda: connection.sql(query).to_arrow_table().num_rows,
        "Polars": lambda: frame.lazy().group_by(keys).agg(polars).collect(engine="streaming").height,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--groups", type=int, nargs="*", default=[1, 4, 100, 10_000, 1_000_000, 10_000_000])
    parser.add_argument("--keys", nargs="*", default=list(KEYS))
    parser.add_argument("--functions", nargs="*", default=list(FUNCTIONS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measured = functools.partial(interleaved, repeats=options.repeats, same=lambda a, b: a == b)
    shown = []
    for groups in options.groups:
        given = rows_of(options.rows, groups)
        for key in options.keys:
            for name in options.functions:
                taken = measured(ways(given, KEYS[key], FUNCTIONS[name]))
                row = {"groups": f"{groups:,}", "key": key, "functions": name}
                row |= {n: f"{t / options.rows * 1e9:.1f}" for n, t in taken.items()}
                best = min(t for n, t in taken.items() if n != "mmflow")
                row["ratio"] = f"{best / taken['mmflow']:.2f}"
                row["to DataFusion"] = f"{taken['DataFusion'] / taken['mmflow']:.2f}"
                shown.append(row)
                print(*row.values(), sep="  ", flush=True)
    print(table(shown))


if __name__ == "__main__":
    main()
