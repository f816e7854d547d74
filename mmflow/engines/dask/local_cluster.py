"""Dask cluster of this machine, in processes of its own, for `engine = dask` without an address.

    python -m mmflow.engines.dask.local_cluster WORKERS FOLDER     prints its address and the key to it, as JSON; ends
                                                                   when its standard input does

A child process holds it: Dask would start the user's script again in each worker to find its main module, and the
pipe to the child tells it when its user has died, however that was. Whoever can send it a task runs code as its user,
and other users of the machine reach its ports: so it takes connections with its own key only, which is in no file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from mmflow.blocks import shared_memory_folder, sweep
from mmflow.errors import EngineError

if TYPE_CHECKING:
    from distributed import Security

__all__ = ["LocalCluster"]

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
#: A process that was killed is gone by then, unless the kernel holds it.
_DEAD_SECONDS = 10.0


class LocalCluster:
    """Cluster of a Dask scheduler and workers of one thread each.

    Args:
        workers: Number of workers.
        folder: Folder for their files.

    Attributes:
        workers: Number of workers.
        address: Address of the scheduler.
        security: Key to it.

    Raises:
        EngineError: It does not start.
    """

    def __init__(self, workers: int, folder: str) -> None:
        command = [sys.executable, "-m", "mmflow.engines.dask.local_cluster", str(workers), folder]
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for its user, who ends it
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
        )
        self.workers = workers
        self.address, self.security = self._started()
        # What it prints later must not fill the pipe.
        threading.Thread(target=self._drain, name="mmflow-dask-cluster", daemon=True).start()
        atexit.register(self.close)

    def _started(self) -> tuple[str, Security]:
        assert self._process.stdout is not None  # a pipe
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline().decode().strip() if ready else ""
        if line:
            from distributed import Security  # noqa: PLC0415  (the child imports it when it is ready)

            address, key = json.loads(line)
            return address, Security(require_encryption=True, **key)
        self._kill()
        assert self._process.stderr is not None  # a pipe
        said = self._process.stderr.read()  # none of its processes is left to hold the other end
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise EngineError(f"can't start a Dask cluster on this machine: {last[0]}")

    def _drain(self) -> None:
        assert self._process.stderr is not None  # a pipe
        with contextlib.suppress(OSError, ValueError):
            while self._process.stderr.read(1 << 16):
                pass

    @property
    def alive(self) -> bool:
        """True while the cluster runs."""
        return self._process.poll() is None

    def _kill(self) -> None:
        """Kill it and its workers, one of which may be stopped."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEAD_SECONDS)

    def close(self) -> None:
        """End it, and wait for it. Idempotent."""
        with self._lock:
            if self._process.returncode is not None:
                return
            assert self._process.stdin is not None  # a pipe
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()


def _serve(workers: int, folder: str) -> None:
    import dask  # noqa: PLC0415  (only the child needs it)
    from distributed import LocalCluster as Cluster  # noqa: PLC0415  (the same)
    from distributed import Security  # noqa: PLC0415  (the same)

    # The pipe is for the address alone: what workers print goes where errors go.
    address = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    security = Security.temporary()
    # mmflow bounds the memory of its tasks itself, and what it maps is no reason to pause.
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        Cluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=folder,
            silence_logs=50,
            security=security,
        ) as cluster,
    ):
        key = {name: getattr(security, name) for name in ("tls_ca_file", "tls_client_cert", "tls_client_key")}
        address.write(f"{json.dumps([cluster.scheduler_address, key])}\n")
        address.close()
        sys.stdin.buffer.read()
    for parent in filter(None, (shared_memory_folder(), folder)):
        sweep(parent)  # of workers that were killed


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve(int(sys.argv[1]), sys.argv[2])
