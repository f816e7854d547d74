"""A job that waits in the middle of its data until a file is there."""

from __future__ import annotations

import os
import time

import pyarrow as pa

import mmflow as mf
from mmflow.api.options import OnBadRecord


@mf.job
def gated(session: mf.Session, *, orders: str, gate: str, policy: OnBadRecord = "error") -> mf.Dataset:
    """All orders; the one of amount 2500 lets its task wait.

    Args:
        orders: CSV of person, amount.
        gate: A file that opens the way.
        policy: Policy for bad records.
    """

    def wait(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 2500 in batch.column("amount").to_pylist():
            print("waiting at the gate", flush=True)
            while not os.path.exists(gate):
                time.sleep(0.02)
        return batch

    read = session.read_csv(orders, schema={"person": "int64", "amount": "int64"}, on_bad_record=policy)
    return read.map_batches(wait, schema=read.schema)
