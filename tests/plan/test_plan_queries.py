"""Every query of queries.sql through mmflow's stages gives the rows that DataFusion alone gives.

The tables are CSV files cut into shards of one page, so that every stage has several tasks, with exchanges of
several partitions forced on (`partitions=3, broadcast=0`) and off (the defaults).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from datafusion import SessionConfig, SessionContext

import mmflow as mf

QUERIES = [
    line
    for line in Path(__file__).with_name("queries.sql").read_text().splitlines()
    if line and not line.startswith("--")
]
SCHEMAS = {
    "a": {"k": "int64", "v": "float64", "s": "string", "i": "int32", "pad": "string"},
    "b": {"k": "int64", "w": "int64", "t": "string", "pad": "string"},
    "c": {"k": "int64", "w": "int64"},
    "e": {"k": "int64", "w": "int64"},
}


def _tables() -> dict[str, pa.Table]:
    rng = np.random.default_rng(0)

    def holes(values: Any, share: float) -> pa.Array:
        return pa.array(values, mask=rng.random(len(values)) < share)

    n, m = 90, 40
    words = np.array(["x", "yy", "zzzzzzzzzzzzzzzzzz", "xx"])
    return {
        "a": pa.table(
            {
                "k": holes(rng.integers(0, 8, n), 0.15),
                # Quarters add up exactly in any order.
                "v": holes(rng.integers(-40, 40, n) / 4, 0.15),
                "s": holes(words[rng.integers(0, 4, n)], 0.2),
                "i": pa.array(range(n), pa.int32()),
                "pad": ["p" * 200] * n,
            }
        ),
        "b": pa.table(
            {
                "k": holes(rng.integers(0, 10, m), 0.15),
                "w": rng.integers(0, 50, m),
                "t": [f"t{i % 5}" for i in range(m)],
                "pad": ["p" * 300] * m,
            }
        ),
        "c": pa.table({"k": [1, 2, 3], "w": [1, 2, 3]}),
        "e": pa.table({"k": pa.array([], pa.int64()), "w": pa.array([], pa.int64())}),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("queries")
    made = {}
    for name, table in _tables().items():
        made[name] = folder / f"{name}.csv"
        pacsv.write_csv(table, made[name])
    return made


@pytest.fixture(scope="module")
def oracle() -> SessionContext:
    context = SessionContext(SessionConfig().with_target_partitions(1))
    for name, padded in _tables().items():
        table = padded.select([c for c in padded.column_names if c != "pad"])
        schema = pa.schema(
            [pa.field(f.name, pa.string_view() if f.type == pa.string() else f.type) for f in table.schema]
        )
        batches = table.cast(schema).to_batches() or [pa.RecordBatch.from_pylist([], schema)]
        context.register_record_batches(name, [batches])
    return context


@pytest.fixture(scope="module", params=["exchanges", "defaults"])
def session(request: pytest.FixtureRequest) -> Iterator[mf.Session]:
    settings: dict[str, Any] = {"shard_size": 4096, "workers": 2}
    if request.param == "exchanges":
        settings |= {"partitions": 3, "broadcast": 0}
    with mf.Session(**settings) as opened:
        yield opened


def _rows(table: pa.Table) -> list[tuple[str, ...]]:
    numbered = table.rename_columns([str(i) for i in range(table.num_columns)])
    return [
        tuple(str(round(v, 9) + 0.0) if isinstance(v, float) else str(v) for v in row.values())
        for row in numbered.to_pylist()
    ]


@pytest.mark.parametrize("query", QUERIES)
def test_rows_equal_datafusions(
    query: str, session: mf.Session, files: dict[str, Path], oracle: SessionContext
) -> None:
    tables = {}
    for name, path in files.items():
        tables[name] = session.read_csv(str(path), schema=SCHEMAS[name])
        if "pad" in SCHEMAS[name]:
            # Padding makes the files several pages long.
            tables[name] = tables[name].drop("pad")
    wanted = oracle.sql(query).to_arrow_table()
    got = session.sql(query, **tables).to_arrow()
    assert sorted(_rows(got)) == sorted(_rows(wanted))
    if "order by" in query.rsplit(")", maxsplit=1)[-1]:
        assert _rows(got) == _rows(wanted)
