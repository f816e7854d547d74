"""Expressions over the items of lists, planned for the column of their values alone.

col("l").list.eval(mf.element() * 2)
  a scope with one column, the items        types, errors
  a plan over a table of that column        repairs of the planner, such as checked arithmetic
ListEval(list<int64>, fragment, ...)        a function of lists, for the plan of the dataset
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as types

from mmflow.api.expressions.tree.called import CALLED, called
from mmflow.api.expressions.tree.nodes import Node, Raw
from mmflow.api.expressions.tree.scope import Resolved, Scope
from mmflow.config import Settings
from mmflow.plan.catalog import Catalog, TableLeaf
from mmflow.plan.planner import make_plan
from mmflow.plan.stages import FragmentStep, ProgramStep, Result
from mmflow.worker.list_eval import ListEval

__all__ = ["evaluated"]

_ITEM = "element"


def evaluated(lists: Resolved, node: Node) -> Raw:
    """Return lists of the values of an expression of `mf.element()`.

    Raises:
        PlanError: It is none, or sees more than an item.
    """
    if types.is_null(lists.type):
        return lists.raw
    kind = lists.type.value_type
    for inner in node.walk():
        if inner.column is not None:
            raise inner.error(f"list.eval() sees mf.element() alone, and not column {inner.column!r}")
    scope = Scope(lists.scope.context, pa.schema([pa.field(_ITEM, kind)]), element=_ITEM)
    found = scope.resolve(node)
    if found.shape != "rows" or found.windowed:
        advice = "" if found.shape == "literal" else "; list.sum(), list.max() and the like aggregate a list"
        raise node.error(f"list.eval() takes an expression of each item, mf.element(){advice}")
    result = _list_type(lists.type, found.type)
    catalog = Catalog()
    for function in list(CALLED.values()):
        catalog.register_function(function)
    items = catalog.add(TableLeaf(pa.table({_ITEM: pa.nulls(0, kind)})))
    plan = make_plan(items.select(found.raw.alias("value")), catalog, settings=_settings(), output=Result())
    stage = plan.stages[0]
    if len(plan.stages) > 1 or not all(isinstance(s, FragmentStep | ProgramStep) for s in stage.steps):
        raise node.error("list.eval() can't compute this expression: a plan does not carry it")
    made: Any = called(ListEval(lists.type, result, stage.steps, plan.functions))
    raw: Raw = made(lists.raw)
    return raw


def _list_type(lists: pa.DataType, items: pa.DataType) -> pa.DataType:
    item = lists.value_field.with_type(items).with_nullable(True).with_metadata(None)
    return pa.large_list(item) if types.is_large_list(lists) else pa.list_(item)


def _settings() -> Settings:
    """Return settings for a plan of one task, which no engine runs."""
    return Settings(
        engine="local", address=None, shard_size=None, workers=1, memory=1 << 28, io="auto", partitions=1, broadcast=0,
        spill_dir=Path(tempfile.gettempdir()), cache="off", cache_dir=None, cache_size=0, runs_dir="", resumable=False,
        metrics=None, max_bad_records=None, retries=0, stall_after=60.0, stall_timeout=0.0,
    )  # fmt: skip
