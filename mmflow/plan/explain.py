"""Stages, exchanges and pruning, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType

import pyarrow as pa

from mmflow.formats import Comparison
from mmflow.plan.stages import (
    AggregateStep,
    Broadcast,
    ExchangeInput,
    FilesInput,
    Forward,
    FragmentStep,
    Hash,
    Input,
    OrderedStep,
    Output,
    Plan,
    ProgramStep,
    Range,
    Result,
    ScanInput,
    SqlStep,
    Stage,
    Step,
    TableInput,
    WindowStep,
    Write,
)
from mmflow.storage.url import is_url

__all__ = ["explain"]

#: Bad files that are named.
_SHOWN = 3
_SIGNS = {
    "eq": "=",
    "ne": "<>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "in": "in",
    "contains": "contains",
}


def explain(plan: Plan, measured: Mapping[int, Sequence[str]] = MappingProxyType({})) -> str:
    """Return one paragraph per stage: its inputs, its operators, and where its rows go.

    Args:
        plan: Plan.
        measured: Further lines of stages that were run, by stage.
    """
    return "\n".join(line for stage in plan.stages for line in [*_stage(stage), *measured.get(stage.id, ())])


def _stage(stage: Stage) -> list[str]:
    lines = [f"stage {stage.id}: {stage.title or 'pass on'}"]
    lines += [f"  reads   {_input(source)}" for source in stage.inputs]
    lines += [line for s in stage.inputs if isinstance(s, ScanInput) for line in [*_sniffed(s), *_checks(s)]]
    bad = [b for s in stage.inputs if isinstance(s, ScanInput) for b in s.source.skipped]
    if bad:
        lines.append(
            f"  skips   {len(bad):,} files that can't be read: {', '.join(b.path for b in bad[:_SHOWN])}"
        )
    pruning = [c for s in stage.inputs if isinstance(s, ScanInput) for c in s.prune]
    if pruning:
        lines.append(f"  prunes  {' and '.join(map(_comparison, pruning))}")
    streams = all(
        step.streaming
        for step in stage.steps
        if isinstance(step, FragmentStep | ProgramStep | OrderedStep | SqlStep | AggregateStep)
    )
    if stage.steps and streams:
        lines.append("  streams in pieces of bounded size")
    native = [
        part for step, then in zip_longest(stage.steps, stage.steps[1:]) for part in _native(step, then)
    ]
    if native:
        lines.append(f"  native  {', '.join(native)}")
    if stage.limit is not None:
        lines.append(f"  stops   after {stage.limit:,} rows")
    lines += [f"  note    {note}" for note in stage.notes]
    lines.append(f"  gives   {_output(stage.output, stage)}")
    return lines


def _native(step: Step | None, then: Step | None) -> list[str]:
    """Return what mmflow's own kernels do in a step.

    A program is a filter, a projection, or both, or the part of a fragment's filter that it knows.
    """
    if isinstance(step, AggregateStep):
        return ["aggregate" if step.phase == "whole" else f"{step.phase} aggregate"]
    if isinstance(step, OrderedStep):
        return ["window" if isinstance(step, WindowStep) else "sort"]
    if not isinstance(step, ProgramStep):
        return []
    if isinstance(then, FragmentStep):
        return ["prefilter"]
    return ["filter"] * bool(step.program.conjuncts) + ["projection"] * any(
        n >= 0 for n, _ in step.program.outputs
    )


def _input(source: Input) -> str:
    match source:
        case ScanInput():
            columns = ", ".join(source.columns) or "no columns, rows are counted"
            total = len(source.source.schema)
            remote = ", remote, paged" if any(map(is_url, source.source.files)) else ""
            files, every = len(source.files), len(source.source.files)
            count = f"{every:,} files" if files == every else f"{files:,} of {every:,} files"
            return (
                f"{source.source.label} ({source.source.format.name}, {count}{remote}): "
                f"{len(source.columns)} of {total} columns: {columns}"
            )
        case FilesInput():
            return (
                f"{source.source.label} ({source.source.format.name}, {len(source.files):,} files, by DataFusion in "
                f"{source.threads} threads): {len(source.columns)} of {len(source.source.schema)} columns: "
                f"{', '.join(source.columns)}"
            )
        case TableInput():
            return f"table of {source.table.num_rows:,} rows"
        case ExchangeInput():
            stages = " and ".join(str(s) for s in source.stages)
            how = {"partition": "by partition", "forward": "task by task", "all": "whole, in every task"}
            return f"stage {stages}, {how[source.mode]}"


def _sniffed(scan: ScanInput) -> list[str]:
    return [f"  sniffed {scan.source.sniffed}"] if scan.source.sniffed else []


def _checks(scan: ScanInput) -> list[str]:
    """Return a line for the columns that a scan decodes only to find bad records, and for what turns it off."""
    source = scan.source.format
    options = source.spec()
    if options.get("validate") != "all":
        return []
    # Numbers of records have no bad values.
    free = [f.name for f in source.schema if source.name == "records" and not _is_text(f.type)]
    more = [name for name in source.schema.names if name not in scan.columns and name not in free]
    if not more:
        return []
    policy = options["on_bad_record"]
    columns = f"column ({more[0]})" if len(more) == 1 else f"columns ({more[0]} … {more[-1]})"
    cause = {"error": "", "null": f", the default with on_bad_record={policy!r}"}
    why = cause.get(policy, f", which on_bad_record={policy!r} needs")
    option = "on_bad_record='error'" if policy in ("skip", "quarantine") else "validate='projected'"
    return [f"  checks  {len(more):,} more {columns}: validate='all'{why}; {option} checks only what is read"]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_string_view(kind))


def _comparison(c: Comparison) -> str:
    if c.op in ("is_null", "is_not_null"):
        return f"{c.column} {c.op.replace('_', ' ')}"
    value = f"({', '.join(map(str, c.value))})" if c.op == "in" else c.value
    return f"{c.column} {_SIGNS[c.op]} {value}"


def _output(output: Output, stage: Stage) -> str:
    names = stage.schema.names
    match output:
        case Hash():
            keys = ", ".join(names[k] for k in output.keys)
            return f"hash exchange on {keys} into {output.partitions:,}"
        case Range():
            keys = ", ".join(names[k.column] + (" desc" if k.descending else "") for k in output.keys)
            return f"range exchange on {keys} into up to {output.partitions:,}"
        case Broadcast():
            return "everything to each reader"
        case Forward():
            return "block by block" + (", with a sample of the sort keys" if output.sample else "")
        case Result():
            return "the result"
        case Write():
            return f"files: {output.sink.format} in {output.sink.path}"
