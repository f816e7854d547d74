"""Prints the keys of the stages of some queries: equal in every process."""

from __future__ import annotations

import sys
from typing import Any

import mmflow as mf
from mmflow import col
from mmflow.engines.loop import plan_inputs, plan_sources
from mmflow.scheduler.build import stage_states
from mmflow.scheduler.task_keys import stage_keys

QUERIES = [
    "SELECT k, sum(v) AS s, count(*) AS n, min(t), avg(v) FROM a GROUP BY k HAVING count(*) > 1 ORDER BY s DESC, k",
    "SELECT a.k, b.t FROM a JOIN a b ON a.k = b.v WHERE a.t LIKE '%x%' OR b.k IN (1, 2, 3)",
    "SELECT k, rank() OVER (PARTITION BY t ORDER BY v) AS r FROM a",
    "SELECT DISTINCT t FROM a UNION ALL SELECT cast(k AS varchar) FROM a LIMIT 7",
    "SELECT count(DISTINCT t), median(v) FROM a WHERE k BETWEEN 2 AND 9",
]


@mf.udf("int64", "int64")
def twice(values: Any) -> Any:
    """Doubles."""
    import pyarrow.compute as pc

    return pc.multiply(values, 2)


def main(path: str) -> None:
    for broadcast in (0, 1 << 20):
        session = mf.Session(broadcast=broadcast, partitions=2, workers=2, memory="1GiB")
        table = session.read_csv(path, schema={"k": "int64", "v": "int64", "t": "string"})
        datasets = [session.sql(query, a=table) for query in QUERIES]
        datasets.append(table.select(twice(col("k")).alias("k")).map_batches(lambda batch: batch).sort("k"))
        for dataset in datasets:
            plan = dataset._plan()
            runs = stage_states(plan, plan_sources(plan, session.settings, plan_inputs(plan)))
            print(*stage_keys(runs, plan.functions).values())


if __name__ == "__main__":
    main(sys.argv[1])
