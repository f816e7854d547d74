"""Row-wise steps by mmflow's own programs beside DataFusion, on the same batches and one thread: rows a second.

    python benchmarks/programs.py [--rows 2000000] [--batch-rows 65536] [--repeats 5] [WORK ...]

Medians, interleaved. DataFusion gets its batches in pieces of 32 MiB, as tasks give them; a program gets them one by
one.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from timing import interleaved, table

import mmflow as mf
from mmflow.plan.stages import ProgramStep, TableInput
from mmflow.worker.fragment import Fragment
from mmflow.worker.row_program import RowProgram
from mmflow.worker.task_runner import _PIECE_BYTES, _pieces

WORKS = {
    "Q6": "select price * discount as x from t where day >= date '1994-01-01' and day < date '1995-01-01'"
    " and discount between 0.05 and 0.07 and quantity < 24",
    "Q1, floats": "select flag, status, quantity, price * (1 - discount) as a, price * (1 - discount) * (1 + tax) as b"
    " from t where day <= date '1998-09-02'",
    "Q1, decimals": "select flag, dprice * (1 - ddiscount) as a, dprice * (1 - ddiscount) * (1 + dtax) as b from t",
    "text = constant": "select price from t where mode = 'AIR'",
    "text IN": "select price from t where mode in ('AIR', 'MAIL')",
    "LIKE": "select key from t where comment like '%special%requests%'",
    "LIKE prefix": "select key from t where comment like 'fox%'",
    "all columns, 1 in 100": "select * from t where key % 100 = 7",
    "all columns, most": "select * from t where discount > 0.01",
    "CASE": "select case when mode = 'AIR' then price when quantity > 10 then price * 2 else 0 end as x from t",
    "checked integers": "select key * 2 + 1 as x from t",
}


def rows(count: int) -> pa.Table:
    """Rows like those of TPC-H's lineitem."""
    rng = np.random.default_rng(1)
    words = np.array(["fox", "special", "carefully", "requests", "deposits", "ironic", "packages"])
    comments = [" ".join(w) for w in words[rng.integers(0, len(words), (10_000, 4))]]
    cents = rng.integers(90_000, 10_000_000, count)
    tenths = rng.integers(0, 11, count)
    decimal = pa.decimal128(15, 2)
    return pa.table(
        {
            "key": pa.array(np.arange(count)),
            "quantity": pa.array(rng.integers(1, 51, count).astype(np.float64)),
            "price": pa.array(cents / 100),
            "discount": pa.array(tenths / 100),
            "tax": pa.array(rng.integers(0, 9, count) / 100),
            "dprice": _decimals(cents, decimal),
            "ddiscount": _decimals(tenths, decimal),
            "dtax": _decimals(rng.integers(0, 9, count), decimal),
            "day": pa.array(rng.integers(8036, 10_561, count).astype(np.int32)).cast(pa.date32()),
            "flag": _texts(["A", "N", "R"], rng, count),
            "status": _texts(["F", "O"], rng, count),
            "mode": _texts(["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"], rng, count),
            "comment": _texts(comments, rng, count),
        }
    )


def _decimals(hundredths: np.ndarray, kind: pa.DataType) -> pa.Array:
    wide = np.zeros((len(hundredths), 2), np.int64)
    wide[:, 0] = hundredths
    return pa.Array.from_buffers(kind, len(wide), [None, pa.py_buffer(wide)])


def _texts(values: list[str], rng: np.random.Generator, count: int) -> pa.Array:
    return pa.array(values).take(pa.array(rng.integers(0, len(values), count))).cast(pa.string_view())


def ways(query: str, given: pa.Table, batch_rows: int) -> dict[str, Callable[[], int]]:
    """Both ways to run a query's step."""
    with mf.Session() as session:
        plan = session.sql(query, t=session.from_arrow(given))._plan()
    (stage,) = plan.stages
    (step,) = stage.steps
    assert isinstance(step, ProgramStep)
    source = stage.inputs[0]
    assert isinstance(source, TableInput)
    batches = source.table.to_batches(max_chunksize=batch_rows)
    ((name, schema),) = step.fallback.inputs

    def program() -> int:
        runner = RowProgram(step.program, schema, step.schema)
        made = (runner.run(batch) for batch in batches)
        return sum(batch.num_rows for batch in made if batch is not None)

    def datafusion() -> int:
        fragment = Fragment(step.fallback, plan.functions, memory=1 << 30, spill=Path(tempfile.gettempdir()))
        pieces = _pieces(batches, _PIECE_BYTES, _PIECE_BYTES)
        return sum(batch.num_rows for piece in pieces for batch in fragment.run({name: piece}))

    return {"program": program, "DataFusion": datafusion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--batch-rows", type=int, default=1 << 16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    given = rows(options.rows)
    shown = []
    measured = functools.partial(interleaved, repeats=options.repeats, same=lambda a, b: a == b)
    for work in options.works or WORKS:
        taken = measured(ways(WORKS[work], given, options.batch_rows))
        speeds = {n: f"{options.rows / 1e6 / s:.0f} M rows/s" for n, s in taken.items()}
        shown.append({"work": work} | speeds | {"ratio": f"{taken['DataFusion'] / taken['program']:.1f}"})
    print(table(shown))


if __name__ == "__main__":
    main()
