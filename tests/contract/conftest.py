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


@pytest.fixture(scope="session", autouse=True)
def children_before() -> set[int]:
    """Processes that were there before the first test of this folder."""
    return {p.pid for p in psutil.Process().children(recursive=True)}


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the clusters that sessions started once the tests of this folder are over; nothing of theirs is left.

    A fixture can't: those of a module would start Ray and Dask anew for each file, those of the session would leave
    this process connected to Ray in the tests of other folders.
    """
    if nextitem is not None and nextitem.path.parent == item.path.parent:
        return
    import ray

    from mmflow.engines.dask.engine import disconnect

    ray.shutdown()
    disconnect()
    before = item.funcargs["children_before"]  # type: ignore[attr-defined]  # of functions only, as all tests are
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert [" ".join(p.cmdline()) for p in alive] == []
