"""A small job that goes through every kind of exchange: scan, hash join, aggregate, sort, write."""

from __future__ import annotations

import mmflow as mf
from mmflow import col, functions
from mmflow.api.options import OnBadRecord


@mf.job
def sorted_sums(
    session: mf.Session, *, orders: str, people: str = "", policy: OnBadRecord = "error"
) -> mf.Dataset:
    """Sums by person, sorted.

    Args:
        orders: CSV of person, amount.
        people: CSV of person, name; without it, sums are neither named nor sorted.
        policy: Policy for bad records.
    """
    bought = session.read_csv(orders, schema={"person": "int64", "amount": "int64"}, on_bad_record=policy)
    if not people:
        return bought.group_by("person").agg(functions.sum(col("amount")).alias("total"))
    named = session.read_csv(people, schema={"person": "int64", "name": "string"})
    return session.sql(
        "SELECT name, o.person, sum(amount) AS total, count(*) AS n FROM orders o JOIN people p ON o.person = p.person "
        "GROUP BY name, o.person ORDER BY total DESC, o.person",
        orders=bought,
        people=named,
    )
