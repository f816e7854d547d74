"""An installed pandas is imported by nobody but who wants it: reads, queries and outputs of every kind do without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow
import mmflow as mf
from mmflow.errors import PlanError

PACKAGE = Path(mmflow.__file__).parent

# Runs in a child process, with a finder that tells where pandas was looked for.
_CHILD = """
import importlib.util
import io
import os
import sys
import tempfile
import traceback

assert importlib.util.find_spec("pandas") is not None, "the test needs an installed pandas"

import mmflow as mf
from mmflow import col, functions as F
import numpy as np
import pyarrow as pa
from decimal import Decimal
import datetime as dt


class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            found.append("".join(traceback.format_stack()))


found = []
sys.meta_path.insert(0, Spy())
os.chdir(tempfile.mkdtemp())

kinds = {
    "i": (pa.int64(), [1, None, 3]),
    "f": (pa.float64(), [1.5, None, float("inf")]),
    "s": (pa.string(), ['a"b\\n', None, ""]),
    "b": (pa.bool_(), [True, None, False]),
    "d": (pa.date32(), [dt.date(2024, 2, 29), None, dt.date(1970, 1, 1)]),
    "t": (pa.timestamp("us", "UTC"), [dt.datetime(2024, 2, 29, tzinfo=dt.UTC), None, None]),
    "n": (pa.timestamp("ns"), [1, None, 3]),
    "c": (pa.decimal128(5, 2), [Decimal("1.50"), None, Decimal(0)]),
    "l": (pa.list_(pa.string()), [["x", None], None, []]),
    "r": (pa.struct([("x", pa.int64())]), [{"x": 1}, None, {"x": None}]),
    "m": (pa.map_(pa.int64(), pa.string()), [[(1, "x")], None, []]),
}
table = pa.table([pa.array(v, k) for k, v in kinds.values()], list(kinds))
whole = pa.table([pa.array([3, 1, 2], pa.int64()), pa.array([0.5, 1.5, 2.5], pa.float64())], ["i", "f"])
session = mf.Session(workers=2, shard_size=4096)
ds = session.from_arrow(table)
for form in ("csv", "ndjson", "parquet", "arrow"):
    ds.write(f"one.{form}")
    ds.write(f"many_{form}", format=form, partition_by=["d", "s"])
session.from_arrow(whole).write("one.npy")
with open("one.bin", "wb") as file:
    file.write(np.arange(10, dtype="<i4").tobytes())
with open("one.log", "w") as file:
    file.write("a 1\\nb 2\\n")
with open("bad.csv", "w") as file:
    file.write("a,b\\n1,x\\ny,2\\n3,4\\n")
with open("bad.ndjson", "w") as file:
    file.write('{"a":1,"b":"2024-01-01"}\\n{"a":"x","b":null}\\n')

sources = [session.read(f"one.{f}", **({"schema": table.schema} if f in ("csv", "ndjson") else {}))
           for f in ("csv", "ndjson", "parquet", "arrow")]
sources += [session.read(f"many_{f}") for f in ("parquet", "arrow")]
sources += [session.read("one.csv"), session.read("one.ndjson")]
for source in sources:
    source.to_arrow()
    source.take([0, 2])
    source[-1:]
    source.filter(col("i") > 1).sort("i").to_arrow()
    source.group_by("s").agg(F.count().alias("n"), F.sum(col("f")).alias("f")).to_arrow()
    source.join(source, on="i").to_arrow()
    source.distinct().to_arrow()
session.read("one.npy").take([1])
records = session.read_records("one.bin", layout=[{"name": "x", "type": "int32", "offset": 0}])
records.select("x", "_file", "_offset").to_arrow()
records.select("x", "_file", "_offset").take([1, 3])
text = session.read("one.log")
text.select("line", "_file", "_line").to_arrow()
text.select("line", "_file", "_line").take([1])
for policy in ("null", "skip", "quarantine"):
    session.read("bad.csv", schema="a:int64,b:int64", on_bad_record=policy).to_arrow()
    session.read("bad.ndjson", schema="a:int64,b:timestamp[us]", on_bad_record=policy).to_arrow()
# Many shards and partitions: samples, exchanges, joins of parts.
with open("long.csv", "w") as file:
    file.write("k,v\\n" + "".join(f"{i % 97},{i * 7919 % 10007}.5\\n" for i in range(5000)))
parts = mf.Session(workers=2, shard_size=4096, partitions=3, broadcast=0)
long = parts.read("long.csv")
long.sort("v", "k").to_arrow()
long.group_by("k").agg(F.avg(col("v")).alias("v")).to_arrow()
long.join(long, on="k").limit(3).to_arrow()
long.sample(0.1).to_arrow()
long.map_batches(lambda batch: batch.slice(0, 1), schema=long.schema).to_arrow()

from mmflow.cli.main import main

out = io.TextIOWrapper(io.BytesIO())
sys.stdout, real = out, sys.stdout
for form in ("table", "json", "ndjson", "csv", "arrow", "parquet"):
    assert main(["sql", "SELECT * FROM 'one.parquet'", "--format", form]) == 0
    assert main(["head", "one.csv", "--format", form]) == 0
assert main(["inspect", "one.csv"]) == 0
assert main(["explain", "SELECT i, count(*) FROM 'one.csv' GROUP BY i"]) == 0
assert main(["tail", "one.log"]) == 0
sys.stdout = real
assert not found, "pandas is imported by:\\n" + found[0]
assert "pandas" not in sys.modules
"""


def test_reads_queries_and_outputs_import_no_pandas(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_values_leave_arrow_by_one_module() -> None:
    """pyarrow's `to_numpy` and `np.asarray` import pandas; `formats.decoding.fixed_width` does without."""
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ">>>" not in line
        and re.search(r"\.to_numpy\(|np\.asarray\(.*\.(is_null|is_valid|offsets|sizes)\b", line)
    ]
    assert not found


# Runs in a child process, where nobody has imported pandas yet.
_NANOSECONDS = """
import pyarrow as pa
import mmflow as mf

kinds = {"t": pa.timestamp("ns"), "d": pa.duration("ns"), "l": pa.list_(pa.timestamp("ns"))}
table = pa.table([pa.array([[1] if name == "l" else 1], kind) for name, kind in kinds.items()], list(kinds))
ds = mf.from_arrow(table)
mapped = ds.map(lambda row: {"x": row["t"].nanosecond}).to_arrow() if %r == "map" else None
rows = ds.to_dicts() if %r == "to_dicts" else None
import pandas as pd
one = pd.Timestamp(1)
assert rows in (None, [{"t": one, "d": pd.Timedelta(1), "l": [one]}]), rows
assert mapped is None or mapped.to_pydict() == {"x": [1]}, mapped
"""


@pytest.mark.parametrize("verb", ["to_dicts", "map"])
def test_nanoseconds_are_those_of_an_installed_pandas(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NANOSECONDS % (verb, verb)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (pa.array([None, 2932897], pa.int32()), pa.date32(), "out of range"),
        (pa.array([10**18]), pa.timestamp("s"), "too large"),
        (pa.array([1]), pa.time64("ns"), "lose data"),
    ],
)
def test_values_that_python_does_not_have_are_named(values: pa.Array, kind: pa.DataType, why: str) -> None:
    ds = mf.from_arrow({"id": [1] * len(values), "when": values.cast(kind)})
    expected = rf"column 'when' \({re.escape(str(kind))}\) has a value .*{why}.*; cast the column to text"
    with pytest.raises(PlanError, match=expected):
        ds.to_dicts()
    with pytest.raises(PlanError, match=expected):
        ds.map(lambda row: {"id": row["id"]}).to_arrow()
