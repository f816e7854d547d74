"""SUMMARIZE: a row for each column, with the columns that DuckDB gives.

rows --> each task: one row of summaries of all columns --> one task: merged, a row for each column
"""

from __future__ import annotations

from functools import partial

from mmflow.api.dataset import Dataset
from mmflow.formats.schemas.arrow_types import plan_schema
from mmflow.formats.schemas.schema import type_text
from mmflow.plan.catalog import StreamLeaf
from mmflow.worker.column_summaries import (
    SUMMARY,
    merge_summaries,
    summaries_schema,
    summarize_columns,
)

__all__ = ["summarized"]


def summarized(dataset: Dataset) -> Dataset:
    """Return a row for each column of a dataset."""
    schema, catalog = dataset.schema, dataset.context.catalog
    types = tuple(type_text(field.type) for field in schema)
    summarize, merge = partial(summarize_columns, schema), partial(merge_summaries, schema, types)
    parts = StreamLeaf(
        dataset.frame, summarize, plan_schema(summaries_schema(schema)), "summarize", public=True
    )
    whole = StreamLeaf(
        catalog.add(parts), merge, plan_schema(SUMMARY), "merge summaries", gather=True, public=True
    )
    made = Dataset(dataset.context, catalog.add(whole))
    made.shows_every_column = True
    return made
