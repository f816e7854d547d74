"""Columns of text files are kept, and read again, by workers of every engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mmflow as mf
from mmflow.config import EngineName


# A cluster of Ray of its own took more than a minute on a busy machine.
@pytest.mark.parametrize("engine", ["local", "dask", pytest.param("ray", marks=pytest.mark.nightly)])
def test_columns_are_read_from_the_cache(engine: EngineName, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,kind\n" + "".join(f"{n},{n % 3}\n" for n in range(20_000)))
    os.utime(path, (0, 0))  # it was left alone for a while
    query = (
        f"SELECT kind, count(*) AS n, sum(id) AS s FROM '{path}' WHERE id >= 500 GROUP BY kind ORDER BY kind"
    )
    with mf.Session(
        engine=engine,
        shard_size="64KiB",
        workers=2,
        memory="512MiB",
        cache="eager",
        cache_dir=tmp_path / "cache",
    ) as session:
        first = session.sql(query).to_arrow()
        second = session.sql(query).to_arrow()
        assert session.last_run is not None
        assert "id, kind: columns from the cache" in session.last_run.reasons
    with mf.Session(workers=2) as session:
        assert first.equals(session.sql(query).to_arrow())
    assert second.equals(first)
