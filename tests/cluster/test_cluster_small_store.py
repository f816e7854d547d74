"""Data larger than the object stores of a Ray cluster: it spills, and the rows are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)
from tests.cluster.conftest import STORE_BYTES, WORKERS, Nodes

ROWS = 16_000_000


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_sort_join_and_collect_with_more_than_the_stores_hold(nodes: Nodes, tmp_path: Path) -> None:
    keys = np.random.default_rng(15).permutation(ROWS)
    table = pa.table({"k": keys, "v": 2 * keys, "w": keys.astype("float64")})
    assert table.nbytes > 2 * STORE_BYTES * WORKERS
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=500_000)
    with mf.Session(engine="ray", address=nodes.address, memory="512MiB", spill_dir=tmp_path) as session:
        ds = session.read_parquet(tmp_path / "a.parquet")
        made = ds.sort("k").write_parquet(str(tmp_path / "sorted.parquet"))
        assert made.rows == ROWS
        found = pq.read_table(tmp_path / "sorted.parquet", columns=["k"])["k"].to_numpy()
        assert (found == np.arange(ROWS)).all()
        joined = ds.join(ds.select("k", "v"), on="k").agg(F.sum(col("v_right")).alias("s"))
        assert joined.to_arrow()["s"].to_pylist() == [int((2 * keys).sum())]
        assert (ds.sort("k").to_arrow()["k"].to_numpy() == np.arange(ROWS)).all()
