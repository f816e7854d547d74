"""Clusters of this machine with two workers, as benchmarks use them: each its own, whatever else runs here."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

__all__ = ["CORES", "dask_cluster", "ray_cluster"]

CORES = 2
#: Idle workers that Ray keeps. By default as many as there are cores, and Ray Data needs some for reading, some for
#: shuffling and some for the rest: then each run, of whatever comes next too, waits seconds for new processes.
_IDLE_WORKERS = 16


@contextlib.contextmanager
def ray_cluster() -> Iterator[str]:
    """A Ray of two cores that this process is connected to; the address for mmflow."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray  # noqa: PLC0415  (a benchmark of Dask alone does without)

    # "local": without an address, Ray would join a cluster that somebody else runs on this machine.
    ray.init(
        "local",
        num_cpus=CORES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _system_config={"num_workers_soft_limit": _IDLE_WORKERS},
    )
    try:
        yield "auto"
    finally:
        ray.shutdown()


@contextlib.contextmanager
def dask_cluster() -> Iterator[str]:
    """Two Dask workers of one thread each, and this process's default client; the address for mmflow."""
    from distributed import Client, LocalCluster  # noqa: PLC0415  (a benchmark of Ray alone does without)

    with (
        LocalCluster(n_workers=CORES, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        yield cluster.scheduler_address
