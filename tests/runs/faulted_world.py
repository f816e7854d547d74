"""Resources that faulted runs share: clusters and servers, started when first asked for, and the processes of engines."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.leftovers import descendants
from tests.runs.faulted_servers import FaultyServer, s3_server, web_server
from tests.waiting import wait_until

__all__ = ["World"]

_WORKERS = 2


class World:
    """Clusters, servers and folders of a soak."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web_folder = folder / "web"
        self.web_folder.mkdir(parents=True)
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, FaultyServer] = {}
        self._addresses: dict[str, str] = {}
        self._dask: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ---- servers ----------------------------------------------------------------------------------

    def server(self, place: str) -> FaultyServer | None:
        """The server of a place; None: it is the file system."""
        if place != "file" and place not in self._servers:
            made = s3_server() if place == "s3" else web_server(self.web_folder)
            self._servers[place] = self._stack.enter_context(made)
        return self._servers.get(place)

    # ---- clusters ---------------------------------------------------------------------------------

    def address(self, engine: str) -> str | None:
        """The address of an engine's cluster; None: it needs none."""
        if engine not in ("ray", "dask"):
            return None
        if engine not in self._addresses:
            self.server("s3")  # workers are born with its address
            self._addresses[engine] = self._ray() if engine == "ray" else self._start_dask()
        return self._addresses[engine]

    def _ray(self) -> str:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        temp = tempfile.mkdtemp(prefix="mmf-", dir="/tmp")  # paths of sockets have to be short
        self._stack.callback(shutil.rmtree, temp, ignore_errors=True)
        ray.init("local", num_cpus=_WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=temp,
                 object_store_memory=100 << 20, _system_config={"health_check_failure_threshold": 60})  # fmt: skip
        self._stack.callback(ray.shutdown)
        return str(ray.get_runtime_context().gcs_address)

    def _start_dask(self) -> str:
        from tests.cluster.dask_workers import dask_workers

        folder = self.folder / "dask"
        folder.mkdir()
        self._dask = self._stack.enter_context(dask_workers(folder, _WORKERS))
        self.healthy("dask")
        return str(self._dask.address)

    def healthy(self, engine: str) -> None:
        """Wait until the engine's cluster has its workers again.

        Raises:
            AssertionError: It has not in a minute.
        """
        if engine == "dask" and self._dask is not None:
            from distributed import Client

            with Client(self._dask.address, set_as_default=False) as client:
                wait_until(lambda: len(client.scheduler_info()["workers"]) == _WORKERS, "Dask's workers")

    def workers(self, engine: str, driver: int) -> list[int]:
        """Processes that may be running tasks, or user functions."""
        below = descendants()
        if engine == "ray":
            # A node ends with its agents, which are called so, too.
            named = {pid: c for pid, c in below.items() if c.startswith("ray::") and "Agent" not in c}
            return [pid for pid, c in named.items() if "IDLE" not in c] or list(named)
        if engine == "dask":
            return [
                pid
                for pid, c in below.items()
                if "spawn_main" in c and _parent(pid) in {w.pid for w in self._dask.workers}
            ]
        return [pid for pid, c in below.items() if "process_worker" in c and _parent(pid) == driver]

    # ---- what is left -------------------------------------------------------------------------------

    def left(self, mark: str, name: str) -> list[str]:
        """Return what runs left in shared memory, and their processes, after some seconds in which these may go.

        Args:
            mark: Mark in the environment of their processes.
            name: Prefix of their names.
        """
        found: list[str] = []

        def gone() -> bool:
            below = descendants()
            workers = [f"{pid}: {c}" for pid, c in below.items() if "process_worker" in c]
            shared = list(Path("/dev/shm").glob(f"mmflow-{name}*"))
            blocks = [b for pid in below for b in Path("/dev/shm").glob(f"mmflow-dask-*-{pid}/*.block")]
            found[:] = [*workers, *_marked(mark), *map(str, [*shared, *blocks])]
            return not found

        with contextlib.suppress(AssertionError):
            wait_until(gone, "", 10)
        return found


def _parent(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])


def _marked(mark: str) -> list[str]:
    """Living processes that were born with this in their environment."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(f"{name}: {Path(f'/proc/{name}/cmdline').read_text().replace(chr(0), ' ')}")
    return found
