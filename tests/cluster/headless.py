"""A driver of a Ray cluster of its own, whose head gets a signal while the driver waits; prints what it is told, and when.

python -m tests.cluster.headless FOLDER SIGNAL STALL_TIMEOUT
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa

AFTER = 4.0


def main(folder: Path, number: signal.Signals, timeout: float) -> None:
    """Start a cluster, run a query on it, and stop its head."""
    import ray
    from ray.cluster_utils import Cluster

    import mmflow as mf

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster: Any = Cluster()
    cluster.add_node(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False)
    head = cluster.head_node.all_processes["gcs_server"][0].process.pid
    rows, begun = folder / "rows.csv", folder / "begun"
    rows.write_text("n\n" + "".join(f"{i}\n" for i in range(1000)))
    stopped = 0.0

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        begun.touch()
        time.sleep(1000)
        return batch

    def stop() -> None:
        nonlocal stopped
        while not begun.exists():
            time.sleep(0.1)
        time.sleep(2)
        stopped = time.monotonic()
        os.kill(head, number)

    def say(what: str, text: object) -> None:
        print(json.dumps([what, round(time.monotonic() - stopped, 1), str(text)]), flush=True)

    def show(message: Warning | str, category: type[Warning], *place: object) -> None:
        del place
        if issubclass(category, mf.StalledWarning):
            say("named", message)

    warnings.simplefilter("always", mf.StalledWarning)
    warnings.showwarning = show  # type: ignore[assignment]  # it takes whatever comes
    session = mf.Session(
        engine="ray", address=cluster.address, workers=2, memory="256MiB", stall_after=AFTER, stall_timeout=timeout,
        spill_dir=folder,
    )  # fmt: skip
    threading.Thread(target=stop, daemon=True).start()
    try:
        session.read_csv(str(rows)).map_batches(slow, schema={"n": "int64"}).count()
    except mf.EngineError as error:
        say(type(error).__name__, error)
    if number == signal.SIGSTOP:
        os.kill(head, signal.SIGCONT)
        ray.shutdown()
        cluster.shutdown()
    else:  # Ray would wait for what is gone
        for node in [*cluster.worker_nodes, cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), signal.Signals[sys.argv[2]], float(sys.argv[3]))
