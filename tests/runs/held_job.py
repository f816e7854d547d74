"""A job that stops where a test wants it to, and one that knows secrets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import mmflow as mf
from mmflow import col, functions


def gate(folder: str, row: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Wait for a file `go-<row>` at the first batch with this person; if there is a file `every`, later attempts do, too."""
    if (
        row >= 0
        and not os.path.exists(f"{folder}/go-{row}")
        and pc.any(pc.equal(batch.column("person"), row)).as_py()
    ):
        try:
            with open(f"{folder}/started-{row}", "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            if not os.path.exists(f"{folder}/every"):
                return batch
        while not os.path.exists(f"{folder}/go-{row}"):
            time.sleep(0.01)
        Path(folder, f"passed-{row}").touch()
    return batch


@mf.job
def held(
    session: mf.Session, *, orders: str, folder: str, row: int = -1, then: int = -1, plain: bool = False
) -> mf.Dataset:
    """Sums by person.

    Args:
        orders: CSV of person, amount.
        folder: Folder of the gates.
        row: The person at whom the first task waits.
        then: The person at whom another waits, before that.
        plain: The rows as they are, without an exchange.
    """

    def first(batch: pa.RecordBatch) -> pa.RecordBatch:
        return gate(folder, row, batch)

    def second(batch: pa.RecordBatch) -> pa.RecordBatch:
        return gate(folder, then, batch)

    read = session.read_csv(orders, schema={"person": "int64", "amount": "int64"})
    made = read.map_batches(second, schema=read.schema).map_batches(first, schema=read.schema)
    if plain:
        return made
    return made.group_by("person").agg(
        functions.sum(col("amount")).alias("total"), functions.count(col("amount")).alias("n")
    )
