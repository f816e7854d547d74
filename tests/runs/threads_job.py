"""Job whose threads write one output each, in a given order."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import mmflow as mf
from mmflow import col


@mf.job
def threads(session: mf.Session, *, orders: str, folder: str, kill: bool = False) -> mf.WriteResult:
    """Write the even and the odd amounts, in two threads.

    Args:
        orders: CSV of person, amount.
        folder: Folder of the output.
        kill: Start with the even ones, and end the process once they are there; else start with the odd ones.
    """
    rows = session.read_csv(orders, schema={"person": "int64", "amount": "int64"})
    made: list[mf.WriteResult] = []

    def write(name: str, rest: int) -> None:
        made.append(
            rows.filter(col("amount") % 2 == rest).sort("amount", "person").write_csv(f"{folder}/{name}.csv")
        )

    first, second = [("even", 0), ("odd", 1)] if kill else [("odd", 1), ("even", 0)]
    for name, rest in (first, second):
        thread = threading.Thread(target=write, args=(name, rest))
        thread.start()
        thread.join()
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
    assert Path(folder, "even.csv").exists()
    return made[0]
