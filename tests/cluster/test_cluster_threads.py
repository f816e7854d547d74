"""Clusters of this machine that threads start: all at once, and threads that end before the cluster does."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmflow.config import Settings
from mmflow.engines.dask.engine import DaskEngine, disconnect
from tests.mixed_work import together

_FROM_THREADS = """
import threading
import mmflow as mf

def count():
    counted.append(mf.Session(engine="ray", workers=1).from_arrow({"v": [1, 2]}).count())

counted = []
for _ in range(2):  # Ray starts in threads of the first round, which end, and lives in the second
    threads = [threading.Thread(target=count) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
print(counted)

import ray

# Its token ended with it: a cluster that the user starts has another.
ray.shutdown()
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
print(ray.get(ray.put("theirs")))
"""


def test_ray_outlives_the_thread_that_starts_it() -> None:
    made = subprocess.run([sys.executable, "-c", _FROM_THREADS], capture_output=True, text=True, timeout=300)
    assert (made.returncode, made.stdout.split("\n")) == (0, [str([2] * 6), "theirs", ""]), made.stderr


@pytest.mark.nightly
def test_runs_with_other_numbers_of_workers_do_not_end_each_others_dask() -> None:
    def opened(workers: int) -> DaskEngine:
        return DaskEngine(Settings.load({"engine": "dask", "workers": workers}), f"run{workers}")

    disconnect()
    try:
        one, two = together([lambda: opened(1), lambda: opened(2)])
        assert (one.resources().slots, two.resources().slots) == (1, 2)
        # A cluster that nobody uses any more makes room for one of another size.
        one.close()
        with ThreadPoolExecutor(1) as pool:
            three = pool.submit(opened, 3).result(timeout=300)
        assert not one._link.usable
        assert two.resources().slots == 2
        two.close()
        three.close()
    finally:
        disconnect()
