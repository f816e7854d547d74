"""Workers with other versions than the driver are refused by name, before they do any work or as they join."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client

import mmflow as mf
from mmflow.engines.dask.connection import disconnect
from mmflow.engines.versions import check_same, versions
from mmflow.errors import EngineError
from tests.cluster.conftest import Nodes
from tests.cluster.dask_workers import dask_workers
from tests.waiting import wait_until

HERE = versions()


def other(folder: Path, module: str) -> dict[str, str]:
    """Return what an environment must have for its Pythons to load another version of a module: of one line of code."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import {module}\n{module}.__version__ = '0.0.9'\n")
    return {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


def count(session: mf.Session) -> int:
    return session.from_arrow({"v": [1, 2]}).count()


def prefix(environment: dict[str, str]) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in environment.items())]


def test_a_worker_that_joins_a_dask_cluster_later(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("v\n" + "1\n" * 20_000)
    with (
        dask_workers(tmp_path, 1, "--no-nanny") as cluster,
        Client(cluster.address, set_as_default=False) as client,
    ):
        session = mf.Session(engine="dask", address=cluster.address, spill_dir=tmp_path, shard_size=2048)
        try:
            assert count(session) == 2
            cluster.start("--no-nanny", prefix=prefix(other(tmp_path / "late", "mmflow")))
            wait_until(lambda: len(client.nthreads()) == 2, "the worker joins")
            errors: list[str] = []

            def refused() -> bool:
                try:
                    session.read_csv(path).sort("v").to_arrow()
                except EngineError as error:
                    errors.append(str(error))
                return bool(errors)

            wait_until(refused, "a task on the new worker", 60)
            assert f"mmflow is {HERE['mmflow']} here and 0.0.9 on worker" in errors[0]
        finally:
            disconnect()


def test_nodes_of_a_ray_cluster(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes.add(env_vars=other(tmp_path / "old", "mmflow"))
    try:
        session = mf.Session(engine="ray", address=nodes.address, spill_dir=tmp_path)
        with pytest.raises(
            EngineError, match=r"mmflow is .* here and 0\.0\.9 on node [0-9.]+.*: install the same"
        ):
            count(session)
    finally:
        nodes.kill(node)


def test_all_that_differs_is_told() -> None:
    with pytest.raises(EngineError) as errors:
        check_same({**HERE, "Python": "3.9", "pyarrow": "1.0"}, "worker tcp://10.0.0.1:4")
    assert f"Python is {HERE['Python']} here and 3.9 on worker tcp://10.0.0.1:4" in str(errors.value)
    assert "and 1.0 on worker" in str(errors.value)
