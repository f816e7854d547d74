"""One suite for every engine: `session` runs what a test says on each of them, real clusters included."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Iterator[None]:
    """Clusters that sessions started end with the tests; nothing of theirs is left."""
    yield
    import ray

    ray.shutdown()
