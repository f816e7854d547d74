"""A driver process on a host of a test: runs a query over a file, writes its rows, and tells about the run.

python query_driver.py JSON     sql path schema address settings engine gate row out
"""

from __future__ import annotations

import json
import sys

import pyarrow as pa

import mmflow as mf
from mmflow.scheduler.progress import Progress
from tests.cluster.gates import Gate

__all__: list[str] = []


def main() -> None:
    given = json.loads(sys.argv[1])
    said: list[int] = []

    def watch(progress: Progress) -> None:
        if not said and progress.stages[0].running == 1 and progress.stages[0].done:
            said.append(1)
            print(json.dumps({"event": "one is left"}), flush=True)

    with mf.Session(
        engine=given["engine"], address=given["address"], on_progress=watch, **given["settings"]
    ) as session:
        read = session.read_csv(given["path"], schema=given["schema"])
        mapped = read.map_batches(
            Gate(given["gate"], hosts=True).waiting_at(given["row"]), schema=read.schema
        )
        try:
            rows = session.sql(given["sql"], t=mapped).to_arrow()
        except mf.MmflowError as error:
            print(
                json.dumps({"event": "error", "kind": type(error).__name__, "text": str(error)}), flush=True
            )
            return
        with pa.ipc.new_file(given["out"], rows.schema) as writer:
            writer.write_table(rows)
        assert session.last_run is not None
        print(json.dumps({"event": "done", "retries": session.last_run.retries}), flush=True)


if __name__ == "__main__":
    main()
