"""Shared parts of all tests: kinds, turns on the machine, Hypothesis profiles, TPC-H tables made once, an S3 server."""

from __future__ import annotations

import compileall
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_timeout
from hypothesis import HealthCheck, Phase, settings

# Where Python may not write bytecode, each collection would rewrite all asserts, and each of a thousand processes compile
# all of mmflow: half a second of its start.
sys.dont_write_bytecode = False
compileall.compile_dir(Path(__file__).parents[1] / "mmflow", quiet=1)

# A shell that starts the tests in the background has them ignore Ctrl-C; tests of Ctrl-C need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

# CI judges a change by the same examples each time; `make test` by hand and the nightly run look for new ones.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=_SLOW, derandomize=True)
settings.register_profile("daily", max_examples=50, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
# `make mutants` does not look for the smallest example of a failure, which takes minutes.
settings.register_profile("mutants", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

ROOT = Path(__file__).parents[1]

# Helpers of the cluster tests assert, too.
pytest.register_assert_rewrite("tests.cluster.host_checks", "tests.cluster.leftovers")

# ---- kinds of tests, and which worker of pytest-xdist runs them ------------------------------------

#: Packages whose tests need nothing but this process, and are over within a minute each. Doctests are like them.
UNIT = {
    "blocks",
    "cache",
    "formats",
    "kernels",
    "mapping",
    "rows",
    "scheduler",
    "shards",
    "shm",
    "sinks",
    "worker",
}
#: Packages whose tests start Ray or Dask.
CLUSTER = {"cluster", "contract"}
#: Packages whose tests share what takes long to make, or would disturb each other: one worker runs them.
TOGETHER = {"cluster", "contract", "tpch"}


def _kind(item: pytest.Item) -> str:
    """Return the kind of a test by its folder, where it has no mark of its own."""
    package = item.path.parent.name if ROOT / "tests" in item.path.parents else ""
    return "cluster" if package in CLUSTER else "unit" if package in UNIT or not package else "integration"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its kind; workers of pytest-xdist begin with the kinds that take longest."""
    kinds = ("cluster", "integration", "unit")
    for item in items:
        if not any(item.get_closest_marker(kind) for kind in kinds):
            item.add_marker(_kind(item))
        if os.environ.get(
            "CI"
        ):  # a test that depends on other processes or on time may fail on two crowded cores
            item.add_marker(pytest.mark.flaky(reruns=1))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: next(i for i, kind in enumerate(kinds) if item.get_closest_marker(kind)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker whole files, and whole packages of those in TOGETHER.

    pytest-xdist 3.8 does not see its own mark `xdist_group` with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    def room(nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        package = Path(file).parent.name
        return package if package in TOGETHER else file

    made = LoadScopeScheduling(config, log)
    made._split_scope = room
    return made


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the machine, together with others or alone. Who waits for it alone is not overtaken."""
    with open(folder / "queue", "a") as queue, open(folder / "machine", "a") as machine:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test marked `alone` while the other workers of pytest-xdist wait, before its timeout begins to count."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]  # private to pytest
    with _turn(factory.getbasetemp().parent, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def _limit(item: pytest.Item) -> None:
    """Begin a test's time limit anew: pytest-timeout 2.4 has one for all attempts, and none behind the first error."""
    settings = pytest_timeout._get_item_settings(item)
    if settings.timeout:
        pytest_timeout.pytest_timeout_cancel_timer(item)
        pytest_timeout.pytest_timeout_set_timer(item, settings)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if getattr(item, "execution_count", 1) > 1:
        _limit(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    _limit(item)


# ---- fixtures ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _runs_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs of tests, and pages, are not kept among those of whoever runs the tests."""
    os.environ["MMFLOW_RUNS_DIR"] = str(tmp_path_factory.mktemp("runs"))
    os.environ["MMFLOW_CACHE_DIR"] = str(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session", autouse=True)
def _bugs_are_seen() -> Iterator[None]:
    """An exception that the planner did not foresee is not taken for a refusal of a query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmflow.plan.errors.bug_error", lambda error, _: error)
        yield


def _tpch(form: str) -> Path:
    """All eight tables at scale 0.1, cached between runs."""
    folder = ROOT / ".cache" / "tpch-0.1" / form
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making them
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


@pytest.fixture(scope="session")
def gcs() -> Iterator[Callable[[], str]]:
    """Makes a new bucket of Google Cloud Storage, and says its URL, as `s3` does."""
    from tests.emulators import fake_gcs_server

    numbers = count()
    with fake_gcs_server() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which asks Google what a bucket is

        def make() -> str:
            import fsspec

            bucket = f"bucket-{next(numbers)}"
            fsspec.filesystem("gs").mkdir(bucket)
            return f"gs://{bucket}"

        yield make


@pytest.fixture(scope="session")
def azure() -> Iterator[Callable[[], str]]:
    """Makes a new container of Azure Blob Storage, and says its URL, as `s3` does."""
    from tests.emulators import azurite

    numbers = count()
    with azurite() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)

        def make() -> str:
            import fsspec

            container = f"container-{next(numbers)}"
            fsspec.filesystem("abfs").mkdir(container)
            return f"abfs://{container}"

        yield make
