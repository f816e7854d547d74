"""A driver process whose memory a test watches.

It runs a small query, waits for a line, runs the large one, tells what came of it, and waits for another line: so a test
can look at processes that idle, that work, and that are done but still there.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import pyarrow.compute as pc
import ray

import mmflow as mf

__all__: list[str] = []


def _sort(session: mf.Session, paths: dict[str, str]) -> dict[str, Any]:
    last, rows, total, right = -1, 0, 0, True
    for batch in session.sql(
        "SELECT k, s FROM t ORDER BY k", t=session.read_arrow(paths["t"])
    ).iter_batches():
        keys = batch.column("k")
        right = (
            right and keys[0].as_py() >= last and bool(pc.all(pc.greater_equal(keys[1:], keys[:-1])).as_py())
        )
        last, rows, total = keys[-1].as_py(), rows + batch.num_rows, total + pc.sum(keys).as_py()
    return {"rows": rows, "total": total, "right": right}


def _join(session: mf.Session, paths: dict[str, str]) -> dict[str, Any]:
    query = (
        "SELECT count(*) AS rows, sum(t.k) AS total, sum(length(t.s) + length(u.s)) AS width "
        "FROM t JOIN u ON t.k = u.k"
    )
    tables = {name: session.read_arrow(path) for name, path in paths.items()}
    return dict(session.sql(query, **tables).to_arrow().to_pylist()[0])


def _stores() -> tuple[int, int]:
    """Bytes of all object stores of Ray, used and in total."""
    if not ray.is_initialized():
        return 0, 0
    total = ray.cluster_resources()["object_store_memory"]  # type: ignore[no-untyped-call]  # Ray has no types here
    return int(total - ray.available_resources().get("object_store_memory", 0)), int(total)  # type: ignore[no-untyped-call]  # Ray has no types here


def main() -> None:
    kind, settings, paths, small = sys.argv[1], *map(json.loads, sys.argv[2:5])
    run = {"sort": _sort, "join": _join}[kind]
    with mf.Session(**settings) as session:
        run(session, small)
        print("ready", flush=True)
        sys.stdin.readline()
        most = [0]

        def watch() -> None:
            while True:
                most[0] = max(most[0], _stores()[0])
                time.sleep(0.2)

        threading.Thread(target=watch, daemon=True).start()
        found = run(session, paths)
        deadline = time.monotonic() + 20
        while (used := _stores()[0]) and time.monotonic() < deadline:
            time.sleep(0.1)
        print(json.dumps({**found, "used": used, "most": most[0]}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
