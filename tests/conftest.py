"""What all tests share: Hypothesis profiles, TPC-H tables made once, an S3 server on this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts the tests in the background has them ignore Ctrl-C; tests of Ctrl-C need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

# CI judges a change by the same examples each time; `make test` by hand and the nightly run look for new ones.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=_SLOW, derandomize=True)
settings.register_profile("daily", max_examples=50, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _runs_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs of tests, and pages, are not kept among those of whoever runs the tests."""
    os.environ["MMFLOW_RUNS_DIR"] = str(tmp_path_factory.mktemp("runs"))
    os.environ["MMFLOW_CACHE_DIR"] = str(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session", autouse=True)
def _bugs_are_seen() -> Iterator[None]:
    """An exception that the planner did not foresee is not taken for a refusal of a query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmflow.plan.bugs.unforeseen", lambda error, _: error)
        yield


def _tpch(form: str) -> Path:
    """All eight tables at scale 0.1, cached between runs."""
    folder = ROOT / ".cache" / "tpch-0.1" / form
    if not (folder / "supplier.done").exists():
        tool = Path(sys.executable).with_name("tpchgen-cli")
        subprocess.run([str(tool), form, "-s", "0.1", f"--output-dir={folder}"], check=True)
        (folder / "supplier.done").touch()
    return folder


@pytest.fixture(scope="session")
def tpch_csv() -> Path:
    return _tpch("csv")


@pytest.fixture(scope="session")
def tpch_parquet() -> Path:
    return _tpch("parquet")


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """Makes a new bucket, and says its URL. The environment is that of the server, for child processes too."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    numbers = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)

        def make() -> str:
            import fsspec

            bucket = f"bucket-{next(numbers)}"
            fsspec.filesystem("s3").mkdir(bucket)
            return f"s3://{bucket}"

        yield make
    server.stop()
