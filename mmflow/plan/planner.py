"""Planner: from a DataFusion plan to stages.

The optimized logical plan, as Substrait, is walked from its root: row-wise operators stay in the
stage of their input, exchanges cut. An operator without a split of its own gathers its inputs into one task, which
is always correct; `explain` says gather. `plan/stages.py` has a worked example of the result.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace

from datafusion import DataFrame, LogicalPlan
from substrait.algebra_pb2 import Rel
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.config import Settings
from mmflow.errors import PlanError
from mmflow.plan.catalog import Catalog, planning
from mmflow.plan.errors import RefusedError, report_planner_bugs
from mmflow.plan.logical.constants import optimized
from mmflow.plan.logical.date_comparisons import refuse_date_comparisons
from mmflow.plan.logical.encoding import UnsupportedBySubstraitError, encode
from mmflow.plan.logical.zone_comparisons import refuse_zone_comparisons
from mmflow.plan.operators.aggregates import plan_aggregate
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import close_relation
from mmflow.plan.operators.joins import plan_join
from mmflow.plan.operators.leaves import plan_read
from mmflow.plan.operators.projections import plan_filter, plan_project, plan_union
from mmflow.plan.operators.scalar_subqueries import plan_with_scalars
from mmflow.plan.operators.sorts import plan_fetch, plan_sort, row_order
from mmflow.plan.operators.whole import NotWholeError, whole_files
from mmflow.plan.pipeline import Builder, Pipeline
from mmflow.plan.plan_cache import keep_plan, kept_plan
from mmflow.plan.rewrites.null_aware import null_aware_joins
from mmflow.plan.rewrites.reduced_groups import with_reduced_groups
from mmflow.plan.stages import (
    Broadcast,
    Forward,
    FragmentStep,
    Functions,
    OrderedStep,
    Plan,
    ProgramStep,
    Result,
    SortKey,
    SqlStep,
    Stage,
    Write,
)
from mmflow.plan.substrait import RelationBuilder, function_names, kind, subqueries
from mmflow.sinks import SortedColumn

__all__ = ["make_plan", "why_not_split"]

_OPERATORS: dict[str, Callable[[PlanContext, Rel], Pipeline]] = {
    "read": plan_read,
    "filter": plan_filter,
    "project": plan_project,
    "aggregate": plan_aggregate,
    "join": plan_join,
    "cross": plan_join,
    "set": plan_union,
    "sort": plan_sort,
    "fetch": plan_fetch,
}


def make_plan(frame: DataFrame, catalog: Catalog, *, settings: Settings, output: Result | Write) -> Plan:
    """Split a query into stages.

    Args:
        frame: Query over leaves of `catalog`.
        catalog: Catalog in which the frame was made.
        settings: Settings; `partitions`, `broadcast`, `memory` and `workers` matter here.
        output: Destination of the rows.

    Raises:
        PlanError: A part of the query can't be planned.
    """
    known = kept_plan(frame, settings) if isinstance(output, Result) else None
    if known is not None and known[1] is not None:
        return known[1]
    kept = _planned.pop(frame, None)
    if kept is not None and kept[0].catalog is catalog and kept[0].settings is settings:
        planner, pipeline = kept
    else:
        planner = _Planner(catalog, settings)
        with report_planner_bugs("plan this query"):
            pipeline = planner.plan_frame(frame)
    builder = planner.builder
    if isinstance(output, Write):
        names = pipeline.schema.names
        order = tuple(SortedColumn(names[k.column], k.descending, k.nulls_first) for k in planner.order)
        output = Write(replace(output.sink, sorted_by=order))
    one_file = isinstance(output, Write) and not output.sink.is_folder
    if len(pipeline.branches) > 1 or (one_file and not pipeline.single):
        gathers = one_file and not pipeline.single
        stages = builder.close(pipeline, Broadcast() if gathers else Forward())
        pipeline = builder.reopen(stages, "all" if gathers else "forward", pipeline)
    builder.close(pipeline, output, title="write" if isinstance(output, Write) else "result")
    called = [f for f in catalog.functions.all if _calls(builder.stages, f.name)]
    functions = (*called, *planner.checked.values())
    plan = Plan(tuple(builder.stages), Functions(functions, catalog.environment))
    if known is not None and not called and not catalog.environment:
        keep_plan(frame, settings, known[0], plan)
    return plan


def _calls(stages: Iterable[Stage], name: str) -> bool:
    """Return whether a plan may call a function: its fragments declare it, or its SQL has the name somewhere."""
    written = name.lower().encode()
    for stage in stages:
        for step in stage.steps:
            match step:
                case (
                    FragmentStep(plan=plan)
                    | ProgramStep(fallback=FragmentStep(plan=plan))
                    | OrderedStep(fallback=FragmentStep(plan=plan))
                ):
                    if written in plan.lower() and name.lower() in _declared(plan):
                        return True
                case SqlStep():
                    if written in step.query.lower().encode():
                        return True
    return False


def _declared(plan: bytes) -> set[str]:
    """Return the functions that a plan declares, in lower case."""
    return {name.lower() for name in function_names(SubstraitPlan.FromString(plan)).values()}


def why_not_split(
    frame: DataFrame, made: LogicalPlan | None, *, catalog: Catalog, settings: Settings
) -> str | None:
    """Return why a query can't be split; None: it can. Its pipeline is kept for `make_plan`.

    Args:
        frame: The query.
        made: Its optimized plan; None: it is not at hand.
        catalog: Catalog in which the frame was made.
        settings: Settings (see `make_plan`).
    """
    planner = _Planner(catalog, settings)
    try:
        with report_planner_bugs("split this query"):
            pipeline = planner.plan_frame(frame, made, as_sql=False)  # the query itself is at hand
    except RefusedError:
        raise
    except PlanError as error:
        return error.message
    _planned[frame] = planner, pipeline
    return None


class _Planner(PlanContext):
    """Planner of one query: walks its relations from the root.

    Attributes:
        order: Order of the rows of the whole query, in each of its tasks.
    """

    order: tuple[SortKey, ...] = ()

    def plan_frame(
        self, frame: DataFrame, made: LogicalPlan | None = None, *, as_sql: bool = True
    ) -> Pipeline:
        refuse_zone_comparisons(frame)
        with planning("query"):
            logical = optimized(frame, made)
        refuse_date_comparisons(frame.logical_plan(), logical, self.catalog.context)
        try:
            encoded = encode(logical, self.catalog.context, self.catalog.context_of)
        except UnsupportedBySubstraitError as error:
            if not as_sql:
                raise
            frame = self.catalog.run_as_sql(frame, error.message)
            logical = frame.optimized_logical_plan()
            encoded = encode(logical, self.catalog.context, self.catalog.context_of)
        query = encoded.plan
        rels = RelationBuilder(query, self.catalog.functions.register)
        outer = None
        if self._builder is None:
            self._builder = Builder(rels)
        else:
            # Names of tables go on counting over the whole plan.
            rels.continue_from(self._builder.rels)
            outer = self._builder.rels, self.null_aware, self.encoded
            self._builder.rels = rels
        self.null_aware, self.encoded = null_aware_joins(logical), encoded
        if outer is None:
            self.order = row_order(_root(query))
        pipeline = self.plan_relation(_root(query))
        if pipeline.branches[0].unseen:
            rels.check(pipeline.branches[0].rel)
        schema = self.catalog.schema(frame, logical)
        if schema.types != pipeline.schema.types:
            branches = tuple(replace(b, trivial=False) for b in pipeline.branches)
            pipeline = replace(pipeline, branches=branches)
        pipeline = replace(pipeline, schema=schema)
        if outer is not None:
            # An open relation only makes sense among the functions of its own query: close it.
            pipeline = close_relation(self, pipeline)
            outer[0].continue_from(rels)
            self.builder.rels, self.null_aware, self.encoded = outer
        return pipeline

    def plan_relation(self, rel: Rel) -> Pipeline:
        if self.encoded.has_subqueries and subqueries(rel):
            return plan_with_scalars(self, rel)
        operator = _OPERATORS.get(kind(rel))
        if operator is None:
            raise PlanError(f"mmflow can't split a plan with a {kind(rel)!r} relation")
        files = None if self.whole else whole_files(self, rel)
        if files is None:
            return operator(self, rel)
        if isinstance(files, str):
            self.not_whole = files
            return operator(self, rel)
        self.whole = files
        stages, joins = len(self.builder.stages), self.null_aware.position
        try:
            # Closed: what stands above may not run in several threads.
            made = close_relation(self, operator(self, with_reduced_groups(self, rel)))
            return replace(made, branches=tuple(replace(b, streaming=True) for b in made.branches))
        except NotWholeError as why:
            self.not_whole = str(why)
        finally:
            self.whole = {}
        del self.builder.stages[stages:]
        self.null_aware.position = joins
        return operator(self, rel)


#: Planners and pipelines of frames that can be split, for the first request of their rows.
_planned: weakref.WeakKeyDictionary[DataFrame, tuple[_Planner, Pipeline]] = weakref.WeakKeyDictionary()


def _root(query: SubstraitPlan) -> Rel:
    relation = query.relations[0]
    return relation.root.input if relation.HasField("root") else relation.rel
