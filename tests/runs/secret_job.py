"""A job that is given secrets, and tells them to whoever listens."""

from __future__ import annotations

import os

import mmflow as mf
from mmflow import col, functions, lit


@mf.job
def shy(
    session: mf.Session,
    *,
    orders: str,
    db_password: str,
    url: str = "",
    tokens: list[str] = [],  # noqa: B006  (jobs take their defaults so)
    fail: str = "",
) -> mf.Dataset:
    """Sums by person.

    Args:
        orders: CSV of person, amount.
        db_password: Secret that is in the plan.
        url: URL with a user and a password.
        tokens: Further secrets.
        fail: Place of the failure: here, or in a task.
    """
    message = f"no login at {url} with {db_password}, {os.environ['AWS_SECRET_ACCESS_KEY']}, {tokens}"

    def failing(batch: object) -> object:
        raise ValueError(message)

    if fail == "here":
        raise RuntimeError(message)
    read = session.read_csv(orders, schema={"person": "int64", "amount": "int64"})
    if fail == "task":
        read = read.map_batches(failing, schema=read.schema)
    kept = read.filter(lit(db_password) != functions.concat(col("person"), lit(url)))
    return kept.group_by("person").agg(functions.sum(col("amount")).alias("total"))
