"""Pipelines: stages that are still open at the top while the planner walks a plan.

A pipeline is one or more branches (more than one after UNION ALL), each of which will become a stage
once an exchange closes it. Row-wise operators extend the open relation of every branch; exchanges close
the branches into stages and open a new one over their outputs.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Rel

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.native.compiler import compile_prefilter, compile_relation
from mmflow.plan.stages import (
    AggregateStep,
    ExchangeInput,
    FilesInput,
    FragmentStep,
    Input,
    OrderedStep,
    Output,
    ProgramStep,
    ScanInput,
    Stage,
    Step,
    StreamStep,
)
from mmflow.plan.substrait import RelationBuilder

__all__ = ["Branch", "Builder", "Estimate", "Pipeline"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Upper bounds where known: rows (None: unknown) and bytes of a pipeline's output."""

    rows: int | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class Branch:
    """Open stage.

    Attributes:
        inputs: Inputs of the stage.
        tables: Names and schemas under which the open relation reads its inputs.
        steps: Closed steps that run before the open relation.
        rel: The open relation.
        trivial: The open relation is a bare read, which needs no fragment.
        streaming: The open relation may run on pieces of its first input (see `FragmentStep`).
        split: Tables and their key columns (see `FragmentStep`).
        title: Operators so far, for explain.
        notes: Further lines for explain.
        unseen: DataFusion may not have seen the open relation yet, and so may be unable to read it.
    """

    inputs: tuple[Input, ...]
    tables: tuple[tuple[str, pa.Schema], ...]
    rel: Rel
    steps: tuple[Step, ...] = ()
    trivial: bool = True
    streaming: bool = True
    split: tuple[tuple[str, tuple[int, ...]], ...] = ()
    title: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: bool = False

    @property
    def single(self) -> bool:
        """True if the stage has one task whatever the data."""
        return not any(
            isinstance(i, ScanInput) or (isinstance(i, ExchangeInput) and i.mode != "all")
            for i in self.inputs
        )

    def extend(self, rel: Rel, title: str, *, streaming: bool = True, by_key: bool = False) -> Branch:
        """Return the branch with one more operator on top. With `by_key`, rows with different keys never meet in it."""
        return replace(
            self,
            rel=rel,
            trivial=False,
            streaming=self.streaming and streaming,
            split=self.split if streaming or by_key else (),
            title=(*self.title, title) if title else self.title,
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Branches with one schema.

    Attributes:
        one_nan: Columns in which every NaN has the same bits. Columns of other types count, too.
        keyed: Columns by which the rows were exchanged: those that are equal in them are in one task. Empty: none are
            known.
    """

    branches: tuple[Branch, ...]
    schema: pa.Schema
    estimate: Estimate
    one_nan: frozenset[int] = frozenset()
    keyed: frozenset[int] = frozenset()

    @property
    def single(self) -> bool:
        return len(self.branches) == 1 and self.branches[0].single

    @property
    def width(self) -> int:
        return len(self.schema)


class Builder:
    """Builder of stages: closes branches into stages, and opens branches over them."""

    def __init__(self, rels: RelationBuilder) -> None:
        self.rels = rels
        self.stages: list[Stage] = []

    def steps(self, branch: Branch, schema: pa.Schema) -> tuple[Step, ...]:
        """Return the steps of a branch, its open relation closed as the last."""
        if branch.trivial:
            return _named(branch.steps, schema)
        plan = self.rels.plan(branch.rel)
        fragment = FragmentStep(plan, branch.tables, schema, branch.streaming, branch.split)
        files = {i.name for i in branch.inputs if isinstance(i, FilesInput)}  # DataFusion reads them
        if not branch.streaming or len(branch.tables) != 1 or branch.tables[0][0] in files:
            return self._by_datafusion(branch, (fragment,))
        ((_, table),) = branch.tables
        program = compile_relation(branch.rel, table, schema, self.rels.anchors)
        if program is not None:
            return (*branch.steps, ProgramStep(program, fragment))
        found = compile_prefilter(branch.rel, table, self.rels.anchors)
        if found is None:
            return self._by_datafusion(branch, (fragment,))
        prefilter, rows = found
        every = FragmentStep(self.rels.plan(rows), branch.tables, table, streaming=True)
        return self._by_datafusion(branch, (ProgramStep(prefilter, every), fragment))

    def _by_datafusion(self, branch: Branch, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if branch.unseen:  # programs know nothing that DataFusion does not read
            self.rels.check(branch.rel)
        return (*branch.steps, *steps)

    def close(
        self, pipeline: Pipeline, output: Output, *, limit: int | None = None, title: str = ""
    ) -> tuple[int, ...]:
        """Make a stage of each branch.

        Returns:
            Numbers of the stages.
        """
        made = []
        for branch in pipeline.branches:
            stage = Stage(
                id=len(self.stages),
                inputs=branch.inputs,
                steps=self.steps(branch, pipeline.schema),
                output=output,
                schema=pipeline.schema,
                limit=limit,
                title=", ".join((*branch.title, title) if title else branch.title),
                notes=branch.notes,
            )
            self.stages.append(stage)
            made.append(stage.id)
        return tuple(made)

    def read(
        self, stages: tuple[int, ...], mode: str, schema: pa.Schema
    ) -> tuple[ExchangeInput, tuple[str, pa.Schema], Rel]:
        """Return an input over stages, its table, and a relation that reads it."""
        name = self.rels.name()
        rel, stored = self.rels.table(name, schema.types)
        return ExchangeInput(name, stages, mode), (name, stored), rel  # type: ignore[arg-type]  # one of the modes, by its callers

    def reopen(self, stages: tuple[int, ...], mode: str, like: Pipeline) -> Pipeline:
        """Return a pipeline over stages whose output has the layout of `like`."""
        source, table, rel = self.read(stages, mode, like.schema)
        return Pipeline((Branch((source,), (table,), rel),), like.schema, like.estimate, like.one_nan)


def _named(steps: tuple[Step, ...], schema: pa.Schema) -> tuple[Step, ...]:
    """Return steps of which the last gives its columns the names of its stage, as blocks on disk have them."""
    match steps:
        case (*others, AggregateStep() as last):
            return (*others, last.named(schema))
        case (*others, StreamStep() as last):
            return (*others, replace(last, schema=schema))
        case (*others, OrderedStep() as last):
            return (*others, replace(last, fallback=replace(last.fallback, schema=schema)))
    return steps
