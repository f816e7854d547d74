"""The 22 TPC-H queries through mmflow's stages, on CSV, Parquet and Arrow IPC, against DataFusion alone.

Shards are small enough that every table but the two tiny ones has several.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

import mmflow as mf

QUERIES = sorted((Path(__file__).parent / "queries").glob("q*.sql"))
TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, f.type) for f in schema])


@pytest.fixture(scope="session")
def ipc(tpch_parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables as Arrow IPC files of several batches each."""
    folder = tmp_path_factory.mktemp("tpch-ipc")
    for name in TABLES:
        table = pq.read_table(tpch_parquet / f"{name}.parquet").replace_schema_metadata(None)
        table = table.cast(plain(table.schema))
        with pa.ipc.new_file(folder / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows // 5))
    return folder


@pytest.fixture(scope="session")
def oracle(tpch_parquet: Path) -> SessionContext:
    context = SessionContext(SessionConfig().with_target_partitions(1))
    for name in TABLES:
        table = pq.read_table(tpch_parquet / f"{name}.parquet").replace_schema_metadata(None)
        context.register_record_batches(name, [table.cast(plain(table.schema)).to_batches()])
    return context


@pytest.fixture(scope="module")
def session() -> Iterator[mf.Session]:
    with mf.Session(shard_size="128KiB", workers=2, partitions=3, broadcast="64KiB") as opened:
        yield opened


@pytest.fixture(scope="module", params=["csv", "parquet", "arrow"])
def tables(
    request: pytest.FixtureRequest, session: mf.Session, tpch_csv: Path, tpch_parquet: Path, ipc: Path
) -> dict[str, mf.Dataset]:
    if request.param == "parquet":
        return {n: session.read_parquet(str(tpch_parquet / f"{n}.parquet")) for n in TABLES}
    if request.param == "arrow":
        return {n: session.read_arrow(str(ipc / f"{n}.arrow")) for n in TABLES}
    schemas = {n: plain(pq.read_schema(tpch_parquet / f"{n}.parquet")) for n in TABLES}
    return {n: session.read_csv(str(tpch_csv / f"{n}.csv"), schema=schemas[n]) for n in TABLES}


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_tpch(path: Path, tables: dict[str, mf.Dataset], session: mf.Session, oracle: SessionContext) -> None:
    _compare(session, path.read_text(), tables, oracle)


@pytest.fixture(scope="module")
def uncut(tpch_parquet: Path) -> Iterator[tuple[mf.Session, dict[str, mf.Dataset]]]:
    """A session in which nothing says how work is cut, and its tables."""
    with mf.Session(workers=2) as opened:
        yield opened, {n: opened.read_parquet(str(tpch_parquet / f"{n}.parquet")) for n in TABLES}


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_tpch_by_the_reader_of_datafusion(
    path: Path, uncut: tuple[mf.Session, dict[str, mf.Dataset]], oracle: SessionContext
) -> None:
    session, tables = uncut
    assert "by DataFusion" in session.sql(path.read_text(), **tables).explain()
    assert "by pyarrow" not in session.sql(path.read_text(), **tables).explain()
    _compare(session, path.read_text(), tables, oracle)


def _compare(session: mf.Session, query: str, tables: dict[str, mf.Dataset], oracle: SessionContext) -> None:
    got = session.sql(query, **tables).to_arrow()
    wanted = oracle.sql(query).to_arrow_table()
    # Decimals throughout: rows are equal to the last digit, in the order that ORDER BY asks for.
    assert [tuple(map(str, r.values())) for r in got.to_pylist()] == [
        tuple(map(str, r.values())) for r in wanted.to_pylist()
    ]
