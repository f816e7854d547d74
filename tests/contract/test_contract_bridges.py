"""Datasets as dataframes of Dask and datasets of Ray Data, and the other way round, on real clusters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pytest
import ray
from distributed import Client

import mmflow as mf
from mmflow import col
from mmflow.engines.dask import connection

# Ray Data 2.60 sets options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`use_.*` is deprecated:DeprecationWarning")

ROWS = 12_000
OPTIONS: dict[str, Any] = {"shard_size": "64KiB", "workers": 2, "memory": "512MiB"}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Text whose records have lines: shards in the middle of it guess wrong where a record begins."""
    path = tmp_path_factory.mktemp("notes") / "notes.csv"
    with open(path, "w") as file:
        file.write("id,note,x\n")
        file.writelines(f'{n},"a note\nof {n % 7} lines{chr(10) * (n % 7)}",{n / 4}\n' for n in range(ROWS))
    return str(path)


@pytest.fixture(scope="module")
def on_dask() -> Iterator[mf.Session]:
    with mf.Session(engine="dask", **OPTIONS) as made:
        assert (
            made.from_arrow({"a": [1]}).count() == 1
        )  # the cluster that tests of this folder share has started
        yield made


@pytest.fixture(scope="module")
def client(on_dask: mf.Session) -> Iterator[Client]:
    """Default client of Dask, which has the key to that cluster."""
    link = connection._links[on_dask.settings.workers]
    assert link.cluster is not None
    with Client(link.address, security=link.cluster.security) as made:
        yield made


@pytest.fixture(scope="module")
def on_ray() -> Iterator[mf.Session]:
    with mf.Session(engine="ray", **OPTIONS) as made:
        assert made.from_arrow({"a": [1]}).count() == 1  # Ray has started
        yield made


@pytest.fixture
def datasets(local: mf.Session, notes: str, tmp_path: Path) -> dict[str, mf.Dataset]:
    text = local.read_csv(notes)
    text.write_parquet(str(tmp_path / "p.parquet"), row_group_rows=4000)
    parquet = local.read_parquet(str(tmp_path / "p.parquet"))
    return {
        "text": text.filter(col("id") % 3 == 0).with_columns(twice=col("id") * 2),
        "groups of rows": parquet.filter(col("x") > 10.0).select("id", "x"),
        "memory": local.from_arrow({"a": [1, None, 3], "b": ["x", "y", None]}),
        "computed": text.group_by(k=col("id") % 10).agg(mf.len()).sort("k"),
        "nothing": text.filter(col("id") < 0),
    }


NAMES = ["text", "groups of rows", "memory", "computed", "nothing"]


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False).cast(schema)


@pytest.mark.parametrize("name", NAMES)
def test_dask_computes_the_rows_of_a_dataset(
    datasets: dict[str, mf.Dataset], name: str, client: Client
) -> None:
    ds = datasets[name]
    frame = ds.to_dask()
    assert frame.npartitions > 1 or name in ("memory", "computed")
    assert list(frame.columns) == ds.columns
    assert _table(frame.compute(), ds.schema).equals(ds.to_arrow())
    assert len(frame) == ds.count()


def test_dask_reads_partitions_on_its_workers_once_they_are_computed(
    local: mf.Session, tmp_path: Path, client: Client
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 50_000)

    def add_process(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"process": [os.getpid()] * batch.num_rows}

    frame = local.read_csv(str(path)).map_batches(add_process, {"process": "int64"}).to_dask()
    wanted = {w["pid"] for w in client.run(lambda dask_worker: {"pid": os.getpid()}).values()}
    assert set(frame["process"].unique().compute()) <= wanted
    path.unlink()
    with pytest.raises(mf.SourceError, match=r"t\.csv"):
        frame.compute()


def test_dask_says_which_record_of_a_file_is_bad(local: mf.Session, tmp_path: Path, client: Client) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 50_000 + "x\n" + "1\n" * 50_000)
    frame = local.read_csv(str(path), schema={"a": "int64"}).to_dask()
    with pytest.raises(mf.BadRecordError, match=r"50,?002"):
        frame.compute()


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_dataset_reads_partitions_of_dask(
    engine: str, client: Client, on_dask: mf.Session, local: mf.Session
) -> None:
    frame = dd.from_pandas(
        pd.DataFrame({"a": range(1000), "s": [f"s{n % 5}" for n in range(1000)]}), npartitions=5
    )
    frame = frame[frame["a"] % 2 == 0]
    session = local if engine == "local" else on_dask
    ds = session.from_dask(frame)
    assert ds.to_arrow()["a"].to_pylist() == [*range(0, 1000, 2)]
    counts = ds.group_by("s").agg(mf.len()).sort("s").to_arrow().to_pydict()
    assert counts == {"s": [f"s{n}" for n in range(5)], "len": [100] * 5}
    kept = client.persist(frame)
    assert session.from_dask(kept).agg(col("a").sum()).to_arrow()["a"].to_pylist() == [249_500]


def test_a_dataset_reads_dask_without_a_cluster(local: mf.Session) -> None:
    frame = pd.DataFrame({"a": pd.Categorical(["x", "y", "x"])}, index=pd.Index([7, 8, 9], name="i"))
    ds = local.from_dask(dd.from_pandas(frame, npartitions=2))
    assert ds.to_arrow().to_pydict() == {"i": [7, 8, 9], "a": ["x", "y", "x"]}
    with pytest.raises(mf.ConfigError, match="DataFrame is no dataframe of Dask"):
        local.from_dask(frame)


@pytest.mark.parametrize("name", ["text", "groups of rows", "memory", "computed"])
def test_ray_has_the_rows_of_a_dataset(
    datasets: dict[str, mf.Dataset], name: str, on_ray: mf.Session
) -> None:
    ds = datasets[name]
    made = ds.to_ray()
    tables = [t.select(ds.columns).cast(ds.schema) for t in ray.get(made.to_arrow_refs())]
    assert pa.concat_tables(tables).equals(ds.to_arrow())


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_dataset_reads_blocks_of_ray(engine: str, on_ray: mf.Session, local: mf.Session) -> None:
    tables = [pa.table({"id": ids, "twice": [2 * n for n in ids]}) for ids in (range(400), range(400, 1000))]
    blocks = ray.data.from_arrow(tables)
    session = local if engine == "local" else on_ray
    ds = session.from_ray(blocks)
    assert ds.filter(col("id") > 990).to_arrow()["twice"].to_pylist() == [*range(1982, 2000, 2)]
    assert ds.agg(col("id").sum()).to_arrow()["id"].to_pylist() == [499_500]
    with pytest.raises(mf.ConfigError, match="dict is no dataset of Ray Data"):
        session.from_ray({})
