"""The 22 TPC-H queries on every engine: the rows of DataFusion alone, to the last digit, in the order asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

import mmflow as mf

QUERIES = sorted((Path(__file__).parents[1] / "tpch" / "queries").glob("q*.sql"))
TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


@pytest.fixture(scope="module")
def oracle(tpch_parquet: Path) -> SessionContext:
    context = SessionContext(SessionConfig().with_target_partitions(1))
    for name in TABLES:
        table = pq.read_table(tpch_parquet / f"{name}.parquet").replace_schema_metadata(None)
        schema = pa.schema([pa.field(f.name, f.type) for f in table.schema])
        context.register_record_batches(name, [table.cast(schema).to_batches()])
    return context


@pytest.fixture(scope="module")
def exchanging(session: mf.Session) -> Iterator[mf.Session]:
    """Several shards of each large table, and exchanges where defaults would broadcast."""
    with mf.Session(
        engine=session.settings.engine,
        shard_size="16MiB",
        workers=2,
        memory="512MiB",
        partitions=2,
        broadcast="64KiB",
    ) as opened:
        yield opened


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_tpch(
    path: Path, exchanging: mf.Session, oracle: SessionContext, tpch_csv: Path, tpch_parquet: Path
) -> None:
    query = path.read_text()
    schemas = {n: pq.read_schema(tpch_parquet / f"{n}.parquet") for n in TABLES}
    tables = {n: exchanging.read_csv(str(tpch_csv / f"{n}.csv"), schema=schemas[n]) for n in TABLES}
    got = exchanging.sql(query, **tables).to_arrow()
    wanted = oracle.sql(query).to_arrow_table()
    assert [tuple(map(str, r.values())) for r in got.to_pylist()] == [
        tuple(map(str, r.values())) for r in wanted.to_pylist()
    ]
