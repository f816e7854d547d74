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
        db_password: In the plan.
        url: With a user and a password.
        tokens: More secrets.
        fail: Where it fails: here, or in a task.
    """
    told = f"no login at {url} with {db_password}, {os.environ['AWS_SECRET_ACCESS_KEY']}, {tokens}"

    def failing(batch: object) -> object:
        raise ValueError(told)

    if fail == "here":
        raise RuntimeError(told)
    read = session.read_csv(orders, schema={"person": "int64", "amount": "int64"})
    if fail == "task":
        read = read.map_batches(failing, schema=read.schema)
    kept = read.filter(lit(db_password) != functions.concat(col("person"), lit(url)))
    return kept.group_by("person").agg(functions.sum(col("amount")).alias("total"))
