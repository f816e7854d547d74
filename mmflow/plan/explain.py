"""Stages, exchanges and pruning, for people."""

from __future__ import annotations

from mmflow.exec.stage import (
    Broadcast,
    ExchangeInput,
    Forward,
    FragmentStep,
    Hash,
    Input,
    Output,
    Plan,
    Range,
    Result,
    ScanInput,
    Stage,
    TableInput,
    Write,
)
from mmflow.formats import Comparison
from mmflow.remote.url import is_url

__all__ = ["explain"]

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


def explain(plan: Plan) -> str:
    """One paragraph per stage: what it reads, what it does, where its rows go."""
    return "\n".join(line for stage in plan.stages for line in _stage(stage))


def _stage(stage: Stage) -> list[str]:
    lines = [f"stage {stage.id}: {stage.title or 'pass on'}"]
    lines += [f"  reads   {_input(source)}" for source in stage.inputs]
    pruning = [c for s in stage.inputs if isinstance(s, ScanInput) for c in s.prune]
    if pruning:
        lines.append(f"  prunes  {' and '.join(map(_comparison, pruning))}")
    streams = all(step.streaming for step in stage.steps if isinstance(step, FragmentStep))
    if stage.steps and streams:
        lines.append("  streams in pieces of bounded size")
    if stage.limit is not None:
        lines.append(f"  stops   after {stage.limit:,} rows")
    lines += [f"  note    {note}" for note in stage.notes]
    lines.append(f"  gives   {_output(stage.output, stage)}")
    return lines


def _input(source: Input) -> str:
    match source:
        case ScanInput():
            columns = ", ".join(source.columns) or "no columns, rows are counted"
            total = len(source.source.schema)
            remote = ", remote, paged" if any(map(is_url, source.source.files)) else ""
            return (
                f"{source.source.label} ({source.source.format.name}, {len(source.source.files):,} files{remote}): "
                f"{len(source.columns)} of {total} columns: {columns}"
            )
        case TableInput():
            return f"table of {source.table.num_rows:,} rows"
        case ExchangeInput():
            stages = " and ".join(str(s) for s in source.stages)
            how = {"partition": "by partition", "forward": "task by task", "all": "whole, in every task"}
            return f"stage {stages}, {how[source.mode]}"


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
