"""One suite for every engine: `session` runs what a test says on each of them, real clusters included."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

import mmflow as mf

ENGINES = ("local", "ray", "dask")


@pytest.fixture(scope="module", params=ENGINES)
def session(request: pytest.FixtureRequest) -> Iterator[mf.Session]:
    """Shards small enough for several tasks a file, large enough for a cluster's tasks not to take all day."""
    with mf.Session(engine=request.param, shard_size="64KiB", workers=2, memory="512MiB") as opened:
        yield opened


@pytest.fixture(scope="module")
def local() -> Iterator[mf.Session]:
    with mf.Session(shard_size="64KiB", workers=2, memory="512MiB") as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Clusters that sessions started end with the tests; nothing of theirs is left."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    import ray

    from mmflow.engines.dask import disconnect

    ray.shutdown()
    disconnect()
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert [" ".join(p.cmdline()) for p in alive] == []
