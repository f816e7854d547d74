"""Window functions that the kernel computes: of a row's place in its partition, and of values elsewhere in it.

    exchange by partition keys -> [project of computed keys] -> windows -> [project]

The kernel sorts numbers of rows by normalised keys (`kernels/sort/row_order.h`), and rows stay where they are: each
only gets its values. Functions that add up or compare values of a frame are DataFusion's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Expression, Rel

from mmflow.plan.native_aggregate import is_known
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import append_keys, extend_branches, run_steps
from mmflow.plan.operators.sorts import sort_key
from mmflow.plan.pipeline import Pipeline
from mmflow.plan.rewrites.exact import windows_in
from mmflow.plan.stages import FragmentStep, WindowCall, WindowStep
from mmflow.plan.substrait import field, with_inputs
from mmflow.plan.window_functions import RANKS, SHIFTS, VALUES

__all__ = ["plan_native_windows"]

#: Largest distance of lag and lead: the kernel negates it.
_FARTHEST = 1 << 62


def plan_native_windows(context: PlanContext, rel: Rel, child: Pipeline) -> Pipeline | None:
    """Return the pipeline of an exact project of window functions; None: the kernel does not know one, or a type.

    Args:
        context: Context of planning.
        rel: The project.
        child: Its input, in which all rows of a partition are in one task.
    """
    found = {_text(e): e for made in rel.project.expressions for e in windows_in(made)}
    windows = [e.window_function for e in found.values()]
    if len({(_texts(w.partitions), _texts(s.expr for s in w.sorts)) for w in windows}) > 1 or any(
        [s.direction for s in w.sorts] != [s.direction for s in windows[0].sorts] for w in windows
    ):
        return None
    names = context.rels.names
    calls = [_call(names.get(w.function_reference, ""), w) for w in windows]
    known = [call for call in calls if call is not None]
    if len(known) < len(calls):
        return None
    first = windows[0]
    values = [w.arguments[0].value for w, (name, _) in zip(windows, known, strict=True) if name not in RANKS]
    keys = [*first.partitions, *(s.expr for s in first.sorts)]
    wide, columns = append_keys(context, child, [*keys, *values])
    if not keys or not all(is_known(wide.schema.field(c).type) for c in columns[: len(keys)]):
        return None
    left = iter(columns[len(keys) :])
    listed = tuple(WindowCall(name, None if name in RANKS else next(left), rows) for name, rows in known)
    partition, order = columns[: len(first.partitions)], columns[len(first.partitions) : len(keys)]
    step = WindowStep(
        tuple(sort_key(s, c) for s, c in zip(first.sorts, order, strict=True)),
        _fallback(context, wide, list(found.values()), partition),
        partition,
        listed,
    )
    made = run_steps(context, wide, (step,), step.schema, "window")
    (branch,) = made.branches
    split = ((branch.tables[0][0], tuple(sorted(child.keyed))),) if child.keyed else ()
    made = replace(made, branches=(replace(branch, split=split),), keyed=child.keyed)
    return extend_branches(context, _over(rel, list(found), child.width, wide.width), made, "")


def _call(name: str, window: Expression.WindowFunction) -> tuple[str, int] | None:
    """Return a function as the kernel has it and the distance of its row; None: it does not know it."""
    arguments = [a.value for a in window.arguments]
    lower, upper = window.lower_bound.WhichOneof("kind"), window.upper_bound.WhichOneof("kind")
    if name in RANKS:
        return None if arguments else (name, 0)
    if name in SHIFTS:
        rows = _whole(arguments[1]) if len(arguments) > 1 else 1
        default = len(arguments) > 2 and arguments[2].literal.WhichOneof("literal_type") != "null"
        return None if rows is None or default or abs(rows) > _FARTHEST else (name, rows)
    if name not in VALUES or lower != "unbounded" or len(arguments) != 1:
        return None
    if name == "first_value":
        return (name, 0) if upper in ("unbounded", "current_row") else None
    if upper == "unbounded":
        return "partition_last_value", 0
    ranged = window.bounds_type == window.BOUNDS_TYPE_RANGE
    return (name, 0) if upper == "current_row" and ranged else None


def _whole(e: Expression) -> int | None:
    """Return the value of a literal whole number; None: it is none."""
    name = e.literal.WhichOneof("literal_type") if e.WhichOneof("rex_type") == "literal" else None
    return int(getattr(e.literal, name)) if name in ("i8", "i16", "i32", "i64") else None


def _fallback(
    context: PlanContext, wide: Pipeline, windows: list[Expression], partition: tuple[int, ...]
) -> FragmentStep:
    name = context.rels.name()
    read, stored = context.rels.table(name, wide.schema.types)
    project = context.rels.project(read, windows, width=wide.width, keep=True)
    declared = context.rels.schema(project)
    schema = pa.schema([*wide.schema, *list(declared)[wide.width :]])
    split = ((name, partition),) if partition else ()
    return FragmentStep(context.rels.plan(project), ((name, stored),), schema, streaming=False, split=split)


def _over(rel: Rel, windows: list[bytes], width: int, wide: int) -> Rel:
    """Return a project over its input's columns, others, and window functions, in place of one that computes these.

    Args:
        rel: The project.
        windows: The functions, encoded, in the order of their columns.
        width: Columns of its input.
        wide: Columns before those of the functions.
    """
    made = with_inputs(rel, Rel())
    for expression in made.project.expressions:
        for one in windows_in(expression):
            one.CopyFrom(field(wide + windows.index(_text(one))))
    kept = list(made.project.common.emit.output_mapping) or range(width + len(made.project.expressions))
    moved = [i if i < width else i - width + wide + len(windows) for i in kept]
    del made.project.common.emit.output_mapping[:]
    made.project.common.emit.output_mapping.extend(moved)
    return made


def _text(e: Expression) -> bytes:
    return bytes(e.SerializeToString(deterministic=True))


def _texts(expressions: Iterable[Expression]) -> tuple[bytes, ...]:
    return tuple(map(_text, expressions))
