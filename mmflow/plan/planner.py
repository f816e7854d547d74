"""From a DataFusion plan to stages.

The optimized logical plan, as Substrait, is walked from its root: row-wise operators stay in the
stage of their input, exchanges cut. Whatever has no split of its own gathers its inputs into one task: always
correct, and `explain` says gather. See `exec/stage.py` for a worked example of what comes out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
from datafusion import DataFrame
from substrait.algebra_pb2 import Expression, JoinRel, Rel, SortField
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.config import Settings
from mmflow.errors import PlanError
from mmflow.exec.stage import (
    Broadcast,
    Forward,
    FragmentStep,
    Function,
    Functions,
    Hash,
    MapStep,
    Plan,
    Range,
    Result,
    ScanInput,
    SortKey,
    TableInput,
    Write,
)
from mmflow.formats.carried import check_wanted
from mmflow.formats.schema import public_schema
from mmflow.plan.aggregates import keys_of, split
from mmflow.plan.bugs import no_bug_seen
from mmflow.plan.constants import optimized
from mmflow.plan.encoding import NotCarriedError, RefusedError, encode
from mmflow.plan.estimates import exchange_partitions, partition_bytes, scan_estimate, width_of
from mmflow.plan.exact import Exact, windows_in
from mmflow.plan.frontend import (
    Catalog,
    MapLeaf,
    SourceLeaf,
    SpreadLeaf,
    SqlLeaf,
    TableLeaf,
    planning,
)
from mmflow.plan.joins import broadcastable, equalities, join_title
from mmflow.plan.measures import Measures
from mmflow.plan.nullaware import NullAware, null_aware_joins, with_null_rule
from mmflow.plan.pipeline import Branch, Builder, Estimate, Pipeline
from mmflow.plan.pruning import comparisons
from mmflow.plan.rels import (
    Rels,
    field,
    field_index,
    has_window,
    inputs_of,
    int_literal,
    kind,
    messages,
    read_of,
    subqueries,
    table_name,
    with_inputs,
)
from mmflow.plan.zone_comparisons import refuse_bent_comparisons

__all__ = ["make_plan", "why_not_split"]

_MOST_RANGES = 4096
_DIRECTIONS = {1: (False, True), 2: (False, False), 3: (True, True), 4: (True, False)}


def make_plan(frame: DataFrame, catalog: Catalog, *, settings: Settings, output: Result | Write) -> Plan:
    """Split a query into stages.

    Args:
        frame: What to compute, over leaves of `catalog`.
        catalog: Where the frame was made.
        settings: `partitions` and `broadcast` matter here.
        output: What to do with the rows.

    Raises:
        PlanError: The query holds something that can't be planned.
    """
    tried, catalog.tried = catalog.tried, None
    if tried is not None and tried[0] is frame and tried[1][0].settings is settings:
        planner, pipeline = tried[1]
    else:
        planner = _Planner(catalog, settings)
        with no_bug_seen("plan this query"):
            pipeline = planner.frame(frame)
    builder = planner.builder
    one_file = isinstance(output, Write) and not output.sink.is_folder
    if len(pipeline.branches) > 1 or (one_file and not pipeline.single):
        gathers = one_file and not pipeline.single
        stages = builder.close(pipeline, Broadcast() if gathers else Forward())
        pipeline = builder.reopen(stages, "all" if gathers else "forward", pipeline)
    builder.close(pipeline, output, title="write" if isinstance(output, Write) else "result")
    return Plan(tuple(builder.stages), Functions((*catalog.functions.all, *planner.checked.values())))


def why_not_split(frame: DataFrame, *, catalog: Catalog, settings: Settings) -> str | None:
    """Try to split a query, and say what is in the way; None: nothing. What was made is kept for `make_plan`."""
    planner = _Planner(catalog, settings)
    catalog.tried = None
    try:
        with no_bug_seen("split this query"):
            pipeline = planner.frame(frame, as_sql=False)  # the query itself is at hand
    except RefusedError:
        raise
    except PlanError as error:
        return error.message
    catalog.tried = frame, (planner, pipeline)
    return None


class _Planner:
    """Walks one query's relations. Each method gives a pipeline of the relation's own layout."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.partition_bytes = partition_bytes(settings.memory, settings.workers)
        self.null_aware = NullAware([])
        self._builder: Builder | None = None
        # Pipelines that rewritten relations read from, by made-up table name.
        self.planned: dict[str, Pipeline] = {}
        #: Checked functions that the plan calls, by name.
        self.checked: dict[str, Function] = {}

    def frame(self, frame: DataFrame, *, as_sql: bool = True) -> Pipeline:
        """Plan a frame; the plans of leaves inside it (map_batches) share stages and names.

        Args:
            frame: What to plan.
            as_sql: Run what Substrait can't carry as SQL that DataFusion writes; else that is an error.
        """
        whole = self.catalog.whole(frame)
        refuse_bent_comparisons(frame)
        with planning("query"):
            logical = optimized(frame)
        if whole is not None:
            query = SubstraitPlan()
        else:
            try:
                query = encode(logical, self.catalog.context)
            except NotCarriedError as error:
                if not as_sql:
                    raise
                frame = self.catalog.in_one_task(frame, error.message)
                logical = frame.optimized_logical_plan()
                query = encode(logical, self.catalog.context)
        rels = Rels(query, self.catalog.functions.register)
        outer = None
        if self._builder is None:
            self._builder = Builder(rels)
        else:
            # Names of tables go on counting over the whole plan.
            rels.continue_from(self._builder.rels)
            outer = self._builder.rels, self.null_aware
            self._builder.rels = rels
        self.null_aware = null_aware_joins(logical)
        pipeline = self.build(_root(query)) if whole is None else self._sql(whole)
        schema = self.catalog.schema(frame)
        if schema.types != pipeline.schema.types:
            branches = tuple(replace(b, trivial=False) for b in pipeline.branches)
            pipeline = replace(pipeline, branches=branches)
        pipeline = replace(pipeline, schema=schema)
        if outer is not None:
            # An open relation only makes sense among the functions of its own query: close it.
            pipeline = self._sealed(pipeline)
            outer[0].continue_from(rels)
            self.builder.rels, self.null_aware = outer
        return pipeline

    @property
    def builder(self) -> Builder:
        assert self._builder is not None  # made by the first call of `frame`
        return self._builder

    @property
    def rels(self) -> Rels:
        return self.builder.rels

    def build(self, rel: Rel) -> Pipeline:
        """Plan a relation."""
        if subqueries(rel):
            return self._with_scalars(rel)
        method = getattr(self, f"_{kind(rel)}", None)
        if method is None:
            raise PlanError(f"mmflow can't split a plan with a {kind(rel)!r} relation")
        made: Pipeline = method(rel)
        return made

    # ---- leaves ---------------------------------------------------------------------------

    def _read(self, rel: Rel) -> Pipeline:
        name = table_name(rel)
        if name in self.planned:
            return self.planned.pop(name)
        if name is None:
            schema = self.rels.schema(rel)
            rows = len(rel.read.virtual_table.expressions)
            nbytes = rows * sum(width_of(t) for t in schema.types)
            branch = Branch((), (), rel, trivial=False, streaming=False, title=("values",))
            return Pipeline((branch,), schema, Estimate(rows, nbytes))
        if name not in self.catalog.leaves:
            raise PlanError(
                f"mmflow can't split what {name} gives"
            )  # a table function: range(), generate_series()
        leaf = self.catalog.leaves[name]
        if rel.read.HasField("filter"):
            raise PlanError("a filter was pushed into a table scan; mmflow plans filters itself")
        schema = leaf.schema
        wanted = list(range(len(schema)))
        if rel.read.HasField("projection"):
            wanted = [item.field for item in rel.read.projection.select.struct_items]
        check_wanted(schema.field(i) for i in wanted)
        match leaf:
            case SourceLeaf():
                made = self._scan(leaf, [schema.field(i) for i in wanted])
            case TableLeaf():
                made = self._table(leaf.table.select(wanted))
            case MapLeaf():
                made = self._select(self._map(leaf), wanted)
            case SpreadLeaf():
                made = self._select(self._spread(leaf), wanted)
            case SqlLeaf():
                made = self._select(self._sql(leaf), wanted)
        if rel.read.common.HasField("emit"):
            made = self._select(made, list(rel.read.common.emit.output_mapping))
        return made

    def _scan(self, leaf: SourceLeaf, fields: list[pa.Field]) -> Pipeline:
        columns, types = [f.name for f in fields], [f.type for f in fields]
        name = self.rels.name()
        rel, stored = self.rels.table(name, types)
        scan = ScanInput(name, leaf.source, tuple(columns))
        branch = Branch((scan,), ((name, stored),), rel, title=(f"scan {leaf.source.label}",))
        schema = pa.schema([pa.field(c, t) for c, t in zip(columns, types, strict=True)])
        one_nan = frozenset(range(len(columns))) if leaf.source.format.one_nan else frozenset[int]()
        return Pipeline((branch,), schema, scan_estimate(leaf.source, columns), one_nan)

    def _table(self, table: pa.Table) -> Pipeline:
        name = self.rels.name()
        rel, stored = self.rels.table(name, table.schema.types)
        branch = Branch((TableInput(name, table),), ((name, stored),), rel, title=("table",))
        return Pipeline((branch,), table.schema, Estimate(table.num_rows, table.nbytes))

    def _map(self, leaf: MapLeaf) -> Pipeline:
        child = self.frame(leaf.child)
        step = MapStep(
            leaf.function, public_schema(child.schema), leaf.schema, leaf.batch_rows, leaf.processes
        )
        label = getattr(leaf.function, "__name__", "function")
        return self._after(child, (step,), leaf.schema, f"map {label}")

    def _spread(self, leaf: SpreadLeaf) -> Pipeline:
        child = self.frame(leaf.child)
        stages = self.builder.close(child, Hash(leaf.keys, leaf.partitions), title="repartition")
        return self.builder.reopen(stages, "partition", child)

    def _after(self, pipeline: Pipeline, steps: tuple[Any, ...], schema: pa.Schema, title: str) -> Pipeline:
        """Close the open relation of each branch as steps, run `steps`, and open a read over their output."""
        branches = []
        for branch in pipeline.branches:
            name = self.rels.name()
            rel, stored = self.rels.table(name, schema.types)
            closed = (*self.builder.steps(branch, pipeline.schema), *steps)
            branches.append(
                replace(
                    branch,
                    steps=closed,
                    tables=((name, stored),),
                    rel=rel,
                    trivial=True,
                    split=(),
                    title=(*branch.title, title) if title else branch.title,
                )
            )
        return Pipeline(tuple(branches), schema, pipeline.estimate)

    def _sealed(self, pipeline: Pipeline) -> Pipeline:
        return replace(self._after(pipeline, (), pipeline.schema, ""), one_nan=pipeline.one_nan)

    def _sql(self, leaf: SqlLeaf) -> Pipeline:
        """Gather every table that the query names, and run it as SQL in one task."""
        inputs, tables = [], []
        for name, frame in leaf.tables:
            child = self._in_order(self.frame(frame))
            stages = self.builder.close(child, Broadcast())
            source, (_, stored), _ = self.builder.read(stages, "all", child.schema)
            inputs.append(replace(source, name=name))
            tables.append((name, pa.schema([f.with_nullable(True) for f in child.schema])))
            del stored
        step = FragmentStep(leaf.query, tuple(tables), leaf.schema, streaming=False)
        name = self.rels.name()
        rel, stored = self.rels.table(name, leaf.schema.types)
        branch = Branch(
            tuple(inputs),
            ((name, stored),),
            rel,
            (step,),
            title=("gather, SQL",),
            notes=(f"gather: {leaf.reason}",),
        )
        return Pipeline((branch,), leaf.schema, Estimate(None, 1 << 30))

    def _in_order(self, pipeline: Pipeline) -> Pipeline:
        """One kind of NaN and of zero in every column of floats: what runs as SQL can't be made exact itself."""
        keys = self.exact.order(pipeline).keys()
        if keys is None:
            return pipeline
        branches = tuple(
            b.extend(self.rels.project(b.rel, keys, width=pipeline.width), "") for b in pipeline.branches
        )
        return replace(pipeline, branches=branches, one_nan=frozenset(range(pipeline.width)))

    # ---- scalar subqueries ------------------------------------------------------------------

    def _with_scalars(self, rel: Rel) -> Pipeline:
        """Compute uncorrelated scalar subqueries first; each is one row, broadcast as a further column."""
        if len(inputs_of(rel)) != 1:
            raise PlanError("a subquery in a join's condition: write it as a join, or compute it first")
        # The logical plan lists subqueries before inputs: `null_aware` is taken in that order.
        scalars = [self._scalar(e) for e in subqueries(rel)]
        child = self.build(inputs_of(rel)[0])
        wide = child
        always = Expression()
        always.literal.boolean = True
        for scalar in scalars:
            branches, reads = self._broadcast_into(wide, scalar)
            joined = []
            for branch, read in zip(branches, reads, strict=True):
                join = Rel()
                join.join.left.CopyFrom(branch.rel)
                join.join.right.CopyFrom(read)
                join.join.type = JoinRel.JOIN_TYPE_LEFT
                join.join.expression.CopyFrom(always)
                joined.append(branch.extend(join, "with scalar subquery"))
            wide = Pipeline(tuple(joined), self.rels.schema(joined[0].rel), wide.estimate)
        name = self.rels.name()
        self.planned[name] = wide
        made = with_inputs(rel, read_of(name))
        for index, expression in enumerate(subqueries(made)):
            expression.CopyFrom(field(child.width + index))
        if kind(made) == "project":
            emit = made.project.common.emit.output_mapping
            moved = [i if i < child.width else i + len(scalars) for i in emit]
            del emit[:]
            emit.extend(moved)
        done = self.build(made)
        if kind(made) in ("filter", "sort", "fetch"):
            done = self._select(done, list(range(child.width)))
        return done

    def _scalar(self, expression: Expression) -> Pipeline:
        """A pipeline of exactly one row and column: the subquery's value, null where it has no row."""
        subquery = expression.subquery
        if subquery.WhichOneof("subquery_type") != "scalar":
            raise PlanError("a subquery that DataFusion could not turn into a join: write it as a join")
        rel = subquery.scalar.input
        if any(
            isinstance(m, Expression.FieldReference) and m.HasField("outer_reference") for m in messages(rel)
        ):
            raise PlanError(
                "a correlated subquery that DataFusion could not turn into a join: write it as a join"
            )
        made = self._gathered(self.build(rel), "scalar subquery")
        if _one_row(rel):
            return made
        return self._checked_scalar(made)

    def _checked_scalar(self, pipeline: Pipeline) -> Pipeline:
        """One row from a subquery that may have none or, wrongly, several."""
        branch = pipeline.branches[0]
        shell = Rel()
        shell.aggregate.groupings.add()
        for name, argument in (("first_value", field(0)), ("count", int_literal(1))):
            function = shell.aggregate.measures.add().measure
            function.function_reference = self.rels.anchors[name]
            function.invocation = function.AGGREGATION_INVOCATION_ALL
            function.arguments.add().value.CopyFrom(argument)
        rel = with_inputs(shell, branch.rel)
        counted = pa.schema([("value", pipeline.schema.types[0]), ("rows", pa.int64())])
        made = Pipeline((branch.extend(rel, "at most one row", streaming=False),), counted, Estimate(1, 64))
        step = MapStep(at_most_one_row, public_schema(counted), counted)
        return self._select(self._after(made, (step,), counted, ""), [0])

    # ---- row-wise -------------------------------------------------------------------------

    def _select(self, pipeline: Pipeline, columns: list[int]) -> Pipeline:
        if columns == list(range(pipeline.width)):
            return pipeline
        schema = pa.schema([pipeline.schema.field(i) for i in columns])
        branches = tuple(
            b.extend(self.rels.project(b.rel, [field(i) for i in columns], width=pipeline.width), "")
            for b in pipeline.branches
        )
        one_nan = frozenset(n for n, i in enumerate(columns) if i in pipeline.one_nan)
        return Pipeline(branches, schema, pipeline.estimate, one_nan)

    # ---- what DataFusion computes otherwise ---------------------------------------------------

    @property
    def exact(self) -> Exact:
        return Exact(self.rels, self._use)

    def _use(self, function: Function) -> int:
        """Make a checked function known to the plan; gives its anchor."""
        self.checked.setdefault(function.name, function)
        return self.rels.use(function)

    def _rowwise(self, rel: Rel, child: Pipeline, title: str, estimate: Estimate | None = None) -> Pipeline:
        branches = tuple(b.extend(with_inputs(rel, b.rel), title) for b in child.branches)
        return Pipeline(branches, self.rels.schema(branches[0].rel), estimate or child.estimate)

    def _filter(self, rel: Rel) -> Pipeline:
        child = self.build(rel.filter.input)
        found = comparisons(rel.filter.condition, child.schema, self.rels.anchors)
        if found:
            child = replace(child, branches=tuple(_pruned(b, found) for b in child.branches))
        made = self._rowwise(self.exact.filter(rel, child), child, "filter")
        return made if rel.filter.common.HasField("emit") else replace(made, one_nan=child.one_nan)

    def _project(self, rel: Rel) -> Pipeline:
        if has_window(rel):
            return self._window_project(rel)
        child = self.build(rel.project.input)
        exact, one_nan = self.exact.project(rel, child)
        made = replace(self._rowwise(exact, child, "project" if _computes(rel) else ""), one_nan=one_nan)
        share = max(1, sum(map(width_of, made.schema.types))) / max(1, sum(map(width_of, child.schema.types)))
        return replace(
            made, estimate=Estimate(child.estimate.rows, int(child.estimate.nbytes * min(1.0, share)))
        )

    def _window_project(self, rel: Rel) -> Pipeline:
        child = self.build(rel.project.input)
        exact, restored = self.exact.windows(rel, child)
        if not child.single:
            functions = [e.window_function for e in exact.project.expressions for e in windows_in(e)]
            partitions = [{p.SerializeToString() for p in f.partitions} for f in functions]
            common = set.intersection(*partitions)
            keys = [p for p in functions[0].partitions if p.SerializeToString() in common]
            child = self._by_key(child, keys, "window") if keys else self._gathered(child, "window")
        branch = child.branches[0]
        made = branch.extend(with_inputs(exact, branch.rel), "window", streaming=False, by_key=True)
        if restored is not None:
            made = made.extend(self.rels.project(made.rel, restored, width=len(restored)), "")
        return Pipeline((made,), self.rels.schema(made.rel), child.estimate)

    # ---- exchanges ------------------------------------------------------------------------

    def _gathered(self, pipeline: Pipeline, why: str) -> Pipeline:
        if pipeline.single:
            return pipeline
        stages = self.builder.close(pipeline, Broadcast(), title=f"gather for {why}")
        return self.builder.reopen(stages, "all", pipeline)

    def _with_columns(self, pipeline: Pipeline, keys: list[Expression]) -> tuple[Pipeline, tuple[int, ...]]:
        """The pipeline with a column for each key: its own where the key is a plain one, else appended."""
        indexes: list[int] = []
        extra: list[Expression] = []
        for key in keys:
            plain = field_index(key)
            if plain is None:
                plain = pipeline.width + len(extra)
                extra.append(key)
            indexes.append(plain)
        if extra:
            branches = tuple(
                b.extend(self.rels.project(b.rel, extra, width=pipeline.width, keep=True), "")
                for b in pipeline.branches
            )
            order = self.exact.order(pipeline)
            one_nan = {pipeline.width + n for n, e in enumerate(extra) if order.has_one_nan(e)}
            pipeline = Pipeline(
                branches, self.rels.schema(branches[0].rel), pipeline.estimate, pipeline.one_nan | one_nan
            )
        return pipeline, tuple(indexes)

    def _partitions(self, nbytes: int) -> int:
        return exchange_partitions(nbytes, self.partition_bytes, self.settings.partitions)

    def _by_key(self, pipeline: Pipeline, keys: list[Expression], why: str) -> Pipeline:
        """Rows with equal keys in one task; the layout stays."""
        width = pipeline.width
        partitions = self._partitions(pipeline.estimate.nbytes)
        if partitions == 1:
            return self._gathered(pipeline, why)
        wide, indexes = self._with_columns(pipeline, keys)
        output = Hash(indexes, partitions)
        stages = self.builder.close(wide, output, title=f"exchange by key for {why}")
        opened = self.builder.reopen(stages, "partition", wide)
        (branch,) = opened.branches
        split = ((branch.tables[0][0], indexes),)
        return self._select(replace(opened, branches=(replace(branch, split=split),)), list(range(width)))

    def _aggregate(self, rel: Rel) -> Pipeline:
        child = self.build(rel.aggregate.input)
        measures = Measures(self.exact.aggregate(rel, child), child.schema, self.rels, self._use)
        made = self._aggregated(measures, child)
        if not measures.changed:
            return made
        restored = measures.restored(made.schema.types)
        (branch,) = made.branches
        branch = branch.extend(self.rels.project(branch.rel, restored, width=made.width), "")
        return replace(made, branches=(branch,), schema=self.rels.schema(branch.rel))

    def _aggregated(self, measures: Measures, child: Pipeline) -> Pipeline:
        """An aggregation whose sums are wide where it is merged."""
        rel = measures.rel
        keys = keys_of(rel.aggregate)
        title = "aggregate" if len(rel.aggregate.measures) else "distinct"
        whole = with_inputs(rel, child.branches[0].rel)
        schema = self.rels.schema(whole)
        estimate = child.estimate if keys else Estimate(1, 1024)
        one_nan = frozenset(range(len(keys))) if keys is not None else frozenset[int]()
        if not child.single:
            wide = measures.declared(schema)
            divided = split(rel, child.branches[0].rel, self.rels, wide)
            if divided is not None:
                return replace(self._merged(rel, child, wide, estimate, title), one_nan=one_nan)
            reason = "aggregate that can't be merged"
            child = self._by_key(child, keys, reason) if keys else self._gathered(child, reason)
        branch = child.branches[0]
        made = branch.extend(with_inputs(rel, branch.rel), title, streaming=False, by_key=True)
        return Pipeline((made,), schema, estimate, one_nan)

    def _merged(
        self, rel: Rel, child: Pipeline, schema: pa.Schema, estimate: Estimate, title: str
    ) -> Pipeline:
        """Partial aggregation where the rows are, exchange by key, final aggregation."""
        divided = [split(rel, b.rel, self.rels, schema) for b in child.branches]
        parts = [d for d in divided if d is not None]
        partial = Pipeline(
            tuple(
                b.extend(d.partial, f"partial {title}") for b, d in zip(child.branches, parts, strict=True)
            ),
            parts[0].partial_schema,
            estimate,
        )
        # What a partial aggregation leaves is unknown before it runs; mostly far less than its input. Where all of it
        # would not do for memory, it is not relied on.
        leaves = estimate.nbytes // 10 if estimate.nbytes <= self.settings.memory // 4 else estimate.nbytes
        partitions = self._partitions(leaves) if parts[0].keys else 1
        mode = "partition" if partitions > 1 else "all"
        output = Hash(tuple(range(parts[0].keys)), partitions) if partitions > 1 else Broadcast()
        stages = self.builder.close(partial, output)
        source, _, _ = self.builder.read(stages, mode, partial.schema)
        name, stored = parts[0].table
        branch = Branch(
            (replace(source, name=name),),
            ((name, stored),),
            parts[0].final,
            trivial=False,
            streaming=False,
            split=((name, tuple(range(parts[0].keys))),) if parts[0].keys else (),
            title=(f"final {title}",),
        )
        return Pipeline((branch,), schema, estimate)

    def _cross(self, rel: Rel) -> Pipeline:
        return self._join(rel)

    def _join(self, rel: Rel) -> Pipeline:
        null_aware = self.null_aware.take()
        left_rel, right_rel = inputs_of(rel)
        left = self.build(left_rel)
        mark = self.null_aware.position
        right = self.build(right_rel)
        rel = self.exact.join(rel, left, right)
        if null_aware:
            end = self.null_aware.position
            return with_null_rule(
                with_inputs(rel, left_rel, right_rel),
                left,
                self._joined(rel, left, right),
                self.rels,
                lambda stats: self._again(stats, mark, end),
                self._broadcast_into,
            )
        made = self._joined(rel, left, right)
        if made.width == left.width + right.width:
            both = left.one_nan | {left.width + i for i in right.one_nan}
            return replace(made, one_nan=both)
        return replace(made, one_nan=left.one_nan) if made.width == left.width else made

    def _again(self, rel: Rel, mark: int, end: int) -> Pipeline:
        """Plan a relation that holds joins which were planned already."""
        self.null_aware.position = mark
        made = self.build(rel)
        self.null_aware.position = end
        return made

    def _joined(self, rel: Rel, left: Pipeline, right: Pipeline) -> Pipeline:
        title = join_title(rel)
        names = {anchor: name for name, anchor in self.rels.anchors.items()}
        keys = equalities(rel, left.width, names)
        may_left, may_right = broadcastable(rel)
        nbytes = max(left.estimate.nbytes, right.estimate.nbytes)
        limit = self.settings.broadcast
        small_left = may_left and (left.single or left.estimate.nbytes <= limit)
        small_right = may_right and (right.single or right.estimate.nbytes <= limit)
        if small_left and small_right:
            small_left = left.estimate.nbytes < right.estimate.nbytes
            small_right = not small_left
        if not keys.left and not (small_left or small_right):
            # No equality: the smaller side must go everywhere, whatever its size.
            small_right = may_right and (not may_left or right.estimate.nbytes <= left.estimate.nbytes)
            small_left = may_left and not small_right
        if small_right or small_left:
            big, small = (left, right) if small_right else (right, left)
            return self._broadcast_join(rel, big, small, small_right, f"broadcast {title}", nbytes)
        if keys.left and not (left.single and right.single):
            wide_left, left_keys = self._with_columns(left, list(keys.left))
            wide_right, right_keys = self._with_columns(right, list(keys.right))
            if _same_hash(wide_left.schema, left_keys, wide_right.schema, right_keys):
                partitions = self._partitions(left.estimate.nbytes + right.estimate.nbytes)
                output = Hash(left_keys, partitions), Hash(right_keys, partitions)
                sides = [
                    (p, self.builder.close(p, o, title=f"exchange by key for {title}"), "partition")
                    for p, o in zip((wide_left, wide_right), output, strict=True)
                ]
                return self._zip_join(
                    rel, sides, (left.width, right.width), title, nbytes, (left_keys, right_keys)
                )
        sides = [
            (p, self.builder.close(p, Broadcast(), title=f"gather for {title}"), "all") for p in (left, right)
        ]
        return self._zip_join(rel, sides, (left.width, right.width), title, nbytes)

    def _zip_join(
        self,
        rel: Rel,
        sides: list[tuple[Pipeline, tuple[int, ...], str]],
        widths: tuple[int, int],
        title: str,
        nbytes: int,
        keys: tuple[tuple[int, ...], ...] = (),
    ) -> Pipeline:
        """A join in tasks that read both sides from exchanges; `keys`: by which."""
        opened = [
            self._select(self.builder.reopen(stages, mode, p), list(range(width))).branches[0]
            for (p, stages, mode), width in zip(sides, widths, strict=True)
        ]
        joined = with_inputs(rel, opened[0].rel, opened[1].rel)
        branch = Branch(
            (*opened[0].inputs, *opened[1].inputs),
            (*opened[0].tables, *opened[1].tables),
            joined,
            trivial=False,
            streaming=False,
            split=tuple((b.tables[0][0], k) for b, k in zip(opened, keys, strict=False)),
            title=(title,),
        )
        return Pipeline((branch,), self.rels.schema(joined), Estimate(None, nbytes))

    def _broadcast_into(self, big: Pipeline, small: Pipeline) -> tuple[list[Branch], list[Rel]]:
        """Close `small` as a broadcast, and give each branch of `big` an input that reads it."""
        stages = self.builder.close(small, Broadcast(), title="broadcast")
        branches, reads = [], []
        for branch in big.branches:
            source, table, read = self.builder.read(stages, "all", small.schema)
            branches.append(
                replace(
                    branch,
                    inputs=(*branch.inputs, source),
                    tables=(*branch.tables, table),
                    streaming=branch.streaming and bool(branch.inputs),
                )
            )
            reads.append(read)
        return branches, reads

    def _broadcast_join(
        self, rel: Rel, big: Pipeline, small: Pipeline, right: bool, title: str, nbytes: int
    ) -> Pipeline:
        branches, reads = self._broadcast_into(big, small)
        made = [
            b.extend(with_inputs(rel, b.rel, r) if right else with_inputs(rel, r, b.rel), title)
            for b, r in zip(branches, reads, strict=True)
        ]
        return Pipeline(tuple(made), self.rels.schema(made[0].rel), Estimate(None, nbytes))

    def _set(self, rel: Rel) -> Pipeline:
        if rel.set.op != rel.set.SET_OP_UNION_ALL:
            raise PlanError(f"set operation {rel.set.op} is not planned by DataFusion as expected")
        parts = [self.build(r) for r in inputs_of(rel)]
        schema = parts[0].schema
        branches: list[Branch] = []
        for part in parts:
            if part.schema.types != schema.types:
                raise PlanError(f"UNION of different types: {schema.types} and {part.schema.types}")
            branches.extend(part.branches)
        one_nan = frozenset[int].intersection(*(p.one_nan for p in parts))
        return Pipeline(
            tuple(branches), schema, Estimate(None, sum(p.estimate.nbytes for p in parts)), one_nan
        )

    # ---- order and limits -------------------------------------------------------------------

    def _sort(self, rel: Rel) -> Pipeline:
        child = self.build(rel.sort.input)
        rel = self.exact.sort(rel, child)
        if child.single or child.estimate.nbytes <= self.settings.broadcast:
            gathered = self._gathered(child, "sort")
            return self._sorted(rel, gathered)
        width = child.width
        wide, indexes = self._with_columns(child, [s.expr for s in rel.sort.sorts])
        keys = tuple(_sort_key(s, i) for s, i in zip(rel.sort.sorts, indexes, strict=True))
        if any(pa.types.is_nested(wide.schema.field(k.column).type) for k in keys):
            return self._sorted(rel, self._gathered(child, "sort by a nested column"))
        sampled = self.builder.close(wide, Forward(sample=keys), title="sample for sort")
        ranged = self.builder.reopen(sampled, "forward", wide)
        partitions = self.settings.partitions or _MOST_RANGES
        target = 1 if self.settings.partitions else self.partition_bytes
        stages = self.builder.close(ranged, Range(keys, partitions, target), title="range exchange")
        return self._sorted(
            rel, self._select(self.builder.reopen(stages, "partition", wide), list(range(width)))
        )

    def _sorted(self, rel: Rel, pipeline: Pipeline) -> Pipeline:
        branch = pipeline.branches[0]
        made = branch.extend(with_inputs(rel, branch.rel), "sort", streaming=False)
        return replace(pipeline, branches=(made,))

    def _fetch(self, rel: Rel) -> Pipeline:
        offset = _row_count(rel.fetch.offset_expr) if rel.fetch.HasField("offset_expr") else 0
        count = _row_count(rel.fetch.count_expr) if rel.fetch.HasField("count_expr") else -1
        below = rel.fetch.input
        if count < 0:
            child = self._gathered(self.build(below), "offset")
            branch = child.branches[0].extend(
                with_inputs(rel, child.branches[0].rel), "offset", streaming=False
            )
            return replace(child, branches=(branch,))
        top = Rel()
        top.fetch.count_expr.CopyFrom(int_literal(offset + count))
        sort = below if kind(below) == "sort" else None
        child = self.build(below.sort.input if sort is not None else below)
        if sort is not None:
            sort = self.exact.sort(sort, child)
        row = sum(map(width_of, child.schema.types))
        estimate = Estimate(offset + count, min(child.estimate.nbytes, (offset + count) * row))
        if not child.single:
            if sort is None:
                # The stage's own limit ends each task after so many rows, at no cost.
                pieces = [replace(b, title=(*b.title, f"limit {offset + count}")) for b in child.branches]
            else:
                pieces = [
                    b.extend(with_inputs(top, with_inputs(sort, b.rel)), f"top {offset + count}")
                    for b in child.branches
                ]
            pruned = Pipeline(tuple(pieces), child.schema, estimate, child.one_nan)
            limit = offset + count if sort is None else None
            stages = self.builder.close(pruned, Broadcast(), limit=limit)
            child = self.builder.reopen(stages, "all", pruned)
        if sort is not None:
            child = self._sorted(sort, child)
        branch = child.branches[0]
        title = f"limit {count}" + (f" offset {offset}" if offset else "")
        made = branch.extend(with_inputs(rel, branch.rel), title, streaming=False)
        return Pipeline((made,), child.schema, estimate, child.one_nan)


def at_most_one_row(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check the row count that stands beside a scalar subquery's value.

    Raises:
        PlanError: The subquery returned several rows.
    """
    rows = batch.column(1)[0].as_py()
    if rows > 1:
        raise PlanError(
            f"a scalar subquery returned {rows:,} rows; it may return one at most: add LIMIT 1 or aggregate"
        )
    return batch


def _root(query: SubstraitPlan) -> Rel:
    relation = query.relations[0]
    return relation.root.input if relation.HasField("root") else relation.rel


def _row_count(expression: Expression) -> int:
    """Return the number that a LIMIT or OFFSET is."""
    if (
        expression.WhichOneof("rex_type") != "literal"
        or expression.literal.WhichOneof("literal_type") != "i64"
    ):
        raise PlanError("LIMIT and OFFSET must be numbers")
    return int(expression.literal.i64)


def _one_row(rel: Rel) -> bool:
    """Does a relation give exactly one row, whatever the data?"""
    while kind(rel) == "project" and not has_window(rel):
        rel = rel.project.input
    return kind(rel) == "aggregate" and keys_of(rel.aggregate) == []


def _computes(rel: Rel) -> bool:
    return any(field_index(e) is None for e in rel.project.expressions)


def _sort_key(sort: SortField, column: int) -> SortKey:
    descending, nulls_first = _DIRECTIONS[int(sort.direction)]
    return SortKey(column, descending, nulls_first)


def _pruned(branch: Branch, found: tuple[Any, ...]) -> Branch:
    """Hand conjuncts on plain columns to the scan, where the branch is still just that."""
    if not branch.trivial or branch.steps or not isinstance(branch.inputs[0], ScanInput):
        return branch
    scan = replace(branch.inputs[0], prune=(*branch.inputs[0].prune, *found))
    return replace(branch, inputs=(scan, *branch.inputs[1:]))


def _same_hash(
    left: pa.Schema, left_keys: tuple[int, ...], right: pa.Schema, right_keys: tuple[int, ...]
) -> bool:
    """Do equal keys hash alike on both sides? Text does, whatever its layout."""

    def family(t: pa.DataType) -> str:
        text = pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t)
        return "text" if text else str(t)

    return [family(left.field(i).type) for i in left_keys] == [
        family(right.field(i).type) for i in right_keys
    ]
