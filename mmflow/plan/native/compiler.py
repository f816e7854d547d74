"""Compiler of row-wise relations: filters and projections over one table, in any nest.

    project(filter(project(read)))  -->  conjuncts and outputs over the columns of the table

Projections are substituted into what stands above them, as DataFusion's optimizer does, so filters come first. What a
program does not know is left to DataFusion: the compiler gives no program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
from substrait.algebra_pb2 import Expression, FilterRel, Rel

from mmflow.plan.native.expressions import Expressions, UnknownExpressionError, Value
from mmflow.plan.native.program import Conjunct, Form, Layout, Output, Program, form_of, layout_of

__all__ = ["compile_prefilter", "compile_relation"]

#: Value of a column in a lazy context (see `Expressions`).
_Column = Callable[[int], Value]


def compile_relation(
    rel: Rel, table: pa.Schema, schema: pa.Schema, anchors: Mapping[str, int]
) -> Program | None:
    """Return the program of a relation; None where it is not row-wise, or has a part that programs don't know.

    Args:
        rel: Relation over one named table.
        table: Types of the table.
        schema: Types of the relation's output.
        anchors: Functions by name.
    """
    compiler = _Compiler(table, anchors)
    try:
        columns = compiler.relation(rel)
        return compiler.program(columns, schema)
    except UnknownExpressionError:
        return None


def compile_prefilter(rel: Rel, table: pa.Schema, anchors: Mapping[str, int]) -> tuple[Program, Rel] | None:
    """Return a program that drops rows of the table which the first filter of a relation drops, too.

    It is for relations that are no program, for a regular expression in the filter, say. What stands in the filter
    fails on no value, so that nobody can tell whether its parts saw the rows that are dropped.

    Args:
        rel: Relation over one named table.
        table: Types of the table.
        anchors: Functions by name.

    Returns:
        The program, and the relation that gives all rows of the table; None: there is no such program.
    """
    first = _first_filter(rel)
    if first is None:
        return None
    compiler = _Compiler(table, anchors)
    try:
        program = compiler.prefilter(first)
    except UnknownExpressionError:
        return None
    rows = Rel()
    rows.CopyFrom(first.input)
    rows.read.ClearField("projection")
    rows.read.common.Clear()
    rows.read.common.direct.SetInParent()
    return program, rows


def _first_filter(rel: Rel) -> FilterRel | None:
    """Return the filter that stands directly over the table of a relation with one input all the way."""
    while True:
        kind = str(rel.WhichOneof("rel_type"))
        body = getattr(rel, kind)
        if kind == "read" or "input" not in body.DESCRIPTOR.fields_by_name:
            return None
        if kind == "filter" and body.input.WhichOneof("rel_type") == "read":
            return rel.filter
        rel = body.input


class _Compiler:
    def __init__(self, table: pa.Schema, anchors: Mapping[str, int]) -> None:
        self._table = table
        self._expressions = Expressions(anchors)
        self._conjuncts: list[Value] = []

    def relation(self, rel: Rel) -> list[_Column]:
        """Return the columns of a relation, and keep the conjuncts of its filters."""
        match rel.WhichOneof("rel_type"):
            case "read":
                return self._read(rel)
            case "filter":
                columns = self.relation(rel.filter.input)
                self._filter(rel.filter.condition, columns)
                return _emitted(rel.filter, columns)
            case "project":
                columns = self.relation(rel.project.input)
                made = [self._computed(e, columns) for e in rel.project.expressions]
                return _emitted(rel.project, [*columns, *made])
        raise UnknownExpressionError

    def prefilter(self, first: FilterRel) -> Program:
        """Return the program of what a filter over a table requires, which gives all columns."""
        columns = self.relation(first.input)
        required = [
            self._expressions.required(c, columns) for c in self._expressions.conjuncts(first.condition)
        ]
        self._conjuncts = [value for value in required if value is not None]
        if not self._conjuncts:
            raise UnknownExpressionError
        return self.program([self._column(i) for i in range(len(self._table))], self._table)

    def _read(self, rel: Rel) -> list[_Column]:
        read = rel.read
        filtered = read.HasField("filter") or read.HasField("best_effort_filter")
        if read.WhichOneof("read_type") != "named_table" or filtered:
            raise UnknownExpressionError
        wanted = list(range(len(self._table)))
        if read.HasField("projection"):
            wanted = [item.field for item in read.projection.select.struct_items]
        return _emitted(read, [self._column(i) for i in wanted])

    def _column(self, number: int) -> _Column:
        kind = self._table.field(number).type
        return lambda context: self._expressions.column(number, kind, context)

    def _computed(self, e: Expression, columns: Sequence[_Column]) -> _Column:
        return lambda context: self._expressions.value(e, columns, context)

    def _filter(self, condition: Expression, columns: Sequence[_Column]) -> None:
        for part in self._expressions.conjuncts(condition):
            value = self._expressions.value(part, columns, 0)
            if value.constant or value.kind != pa.bool_():
                raise UnknownExpressionError
            self._conjuncts.append(value)

    def program(self, columns: Sequence[_Column], schema: pa.Schema) -> Program:
        if len(columns) != len(schema):
            raise UnknownExpressionError
        conjuncts: dict[Conjunct, None] = {}
        for value in self._conjuncts:
            conjuncts[(self._expressions.node(value), value.fallible)] = None
        outputs = [
            self._output(c(0), f.type, filtered=bool(conjuncts)) for c, f in zip(columns, schema, strict=True)
        ]
        layouts = tuple(_layout(f.type) for f in self._table)
        return Program(layouts, self._expressions.nodes, tuple(conjuncts), tuple(outputs))

    def _output(self, value: Value, kind: pa.DataType, *, filtered: bool) -> Output:
        text = form_of(kind) is Form.TEXT and form_of(value.kind) is Form.TEXT
        if value.kind != kind and not text:
            raise UnknownExpressionError
        if value.column is not None:
            if value.kind != kind:
                raise UnknownExpressionError
            if filtered and layout_of(kind) is None:
                raise UnknownExpressionError
            return (-1, value.column)
        return (self._expressions.node(value), -1)


def _layout(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_string(kind):
        return (Layout.OFFSETS32, 0)
    if pa.types.is_large_string(kind):
        return (Layout.OFFSETS64, 0)
    return layout_of(kind) or (Layout.FIXED, 0)  # of a column whose values no node reads


def _emitted(body: object, columns: Sequence[_Column]) -> list[_Column]:
    common = body.common  # type: ignore[attr-defined]  # every relation has it
    if common.HasField("emit"):
        return [columns[i] for i in common.emit.output_mapping]
    return list(columns)
