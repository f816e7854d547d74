"""Substrait relations as protobuf messages: reading, building and typing them.

Invariant: relations are values. Every function returns a new message; none changes its
arguments. DataFusion is the only judge of types: `RelationBuilder.schema` asks it.

Column references in Substrait are positions in the input's output, so replacing an input by one of the
same layout leaves every expression above it valid: the property that cutting plans rests on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import pyarrow as pa
from datafusion import LogicalPlan, SessionConfig, SessionContext
from datafusion.substrait import Consumer, Producer, Serde
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from substrait.algebra_pb2 import Expression, JoinRel, Rel
from substrait.extensions.extensions_pb2 import SimpleExtensionDeclaration
from substrait.plan_pb2 import Plan as SubstraitPlan
from substrait.type_pb2 import NamedStruct, Type

from mmflow.plan.catalog import planning
from mmflow.plan.stages import Function, Functions

__all__ = [
    "INPUT_FIELDS",
    "ONE_SIDED",
    "TWO_SIDED",
    "RelationBuilder",
    "add_functions",
    "declared_functions",
    "field",
    "field_index",
    "function_names",
    "has_window",
    "inputs_of",
    "int_literal",
    "join_type",
    "kind",
    "messages",
    "parts_of",
    "read_of",
    "references",
    "shifted",
    "subqueries",
    "table_name",
    "wanted_columns",
    "width_of_relation",
    "with_inputs",
]

# Relations by the fields that hold their inputs; other kinds are gathered whole.
INPUT_FIELDS: dict[str, tuple[str, ...]] = {
    "read": (),
    "filter": ("input",),
    "project": ("input",),
    "aggregate": ("input",),
    "sort": ("input",),
    "fetch": ("input",),
    "window": ("input",),
    "join": ("left", "right"),
    "cross": ("left", "right"),
    "set": ("inputs",),
}


#: Joins whose columns are those of one side, and of which; and those of both.
ONE_SIDED = {"LEFT_SEMI": 0, "LEFT_ANTI": 0, "RIGHT_SEMI": 1, "RIGHT_ANTI": 1}
TWO_SIDED = frozenset({"INNER", "LEFT", "RIGHT", "OUTER"})


def kind(rel: Rel) -> str:
    """Return the kind of a relation: read, filter, project, ..."""
    return str(rel.WhichOneof("rel_type"))


def read_of(name: str) -> Rel:
    """Return a bare read of a named table, for the planner's own use. DataFusion never sees it."""
    made = Rel()
    made.read.named_table.names.append(name)
    return made


def inputs_of(rel: Rel) -> tuple[Rel, ...]:
    """Return the input relations, in order."""
    name = kind(rel)
    body = getattr(rel, name)
    if name == "set":
        return tuple(body.inputs)
    return tuple(getattr(body, field_name) for field_name in INPUT_FIELDS[name])


def with_inputs(rel: Rel, *inputs: Rel) -> Rel:
    """Return the relation on other inputs of the same layout."""
    name = kind(rel)
    made = Rel()
    # The inputs may be deep trees: copy the other fields only.
    source, target = getattr(rel, name), getattr(made, name)
    target.SetInParent()
    fields = INPUT_FIELDS[name]
    for descriptor, value in source.ListFields():
        if descriptor.name in fields:
            continue
        if descriptor.is_repeated:
            getattr(target, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(target, descriptor.name).CopyFrom(value)
        else:
            setattr(target, descriptor.name, value)
    if name == "set":
        target.inputs.extend(inputs)
    else:
        for field_name, value in zip(fields, inputs, strict=True):
            getattr(target, field_name).CopyFrom(value)
    return made


def messages(message: Message, stop: Callable[[Message], bool] = lambda _: False) -> Iterator[Message]:
    """Yield a message and all messages in it, depth first, except those for which `stop` holds."""
    waiting = [message]
    while waiting:  # without recursion: a wide plan has 100,000 messages
        message = waiting.pop()
        yield message
        waiting += reversed([part for part in parts_of(message) if not stop(part)])


def parts_of(message: Message) -> list[Message]:
    """Return the messages directly in a message."""
    parts: list[Message] = []
    for descriptor, value in message.ListFields():
        match _holds_messages(descriptor):
            case "one":
                parts.append(value)
            case "several":
                parts += value
    return parts


@functools.cache
def _holds_messages(descriptor: FieldDescriptor) -> Literal["", "one", "several"]:
    """Return how many messages a field holds; none: its values are no messages, or entries of a map."""
    if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
        return ""
    return "several" if descriptor.is_repeated else "one"


def _own_expressions(rel: Rel) -> Iterator[Expression]:
    """Yield the expressions of one relation, but those of its inputs and plain columns."""
    for message in messages(getattr(rel, kind(rel)), _is_elsewhere):
        if isinstance(message, Expression):
            yield message


def _is_elsewhere(message: Message) -> bool:
    """Return whether a message is an input, a type, or a plain column: of these there may be 20,000."""
    if isinstance(message, Expression):
        return bool(message.HasField("selection") and message.selection.HasField("root_reference"))
    return isinstance(message, Rel | NamedStruct | Type)


def has_window(rel: Rel) -> bool:
    """Return whether the relation itself computes window functions."""
    return any(e.WhichOneof("rex_type") == "window_function" for e in _own_expressions(rel))


def subqueries(rel: Rel) -> list[Expression]:
    """Return the subqueries among the relation's own expressions, in order: parts of `rel`, not copies."""
    return [e for e in _own_expressions(rel) if e.WhichOneof("rex_type") == "subquery"]


def field(index: int) -> Expression:
    """Return a reference to column `index` of the input."""
    made = Expression()
    made.selection.direct_reference.struct_field.field = index
    made.selection.root_reference.SetInParent()
    return made


def field_index(expression: Expression) -> int | None:
    """Return the column to which an expression is a plain reference; None: it is another."""
    if expression.WhichOneof("rex_type") != "selection":
        return None
    selection = expression.selection
    if selection.WhichOneof("root_type") != "root_reference":
        return None
    if selection.WhichOneof("reference_type") != "direct_reference":
        return None
    reference = selection.direct_reference
    if reference.WhichOneof("reference_type") != "struct_field" or reference.struct_field.HasField("child"):
        return None
    return int(reference.struct_field.field)


def references(expression: Expression) -> set[int]:
    """Return the columns of the input that an expression reads."""
    found = set()
    for message in messages(expression):
        if isinstance(message, Expression.FieldReference) and message.HasField("root_reference"):
            found.add(int(message.direct_reference.struct_field.field))
    return found


def shifted(expression: Expression, by: int) -> Expression:
    """Return the expression with every column reference moved by `by`."""
    made = Expression()
    made.CopyFrom(expression)
    for message in messages(made):
        if isinstance(message, Expression.FieldReference) and message.HasField("root_reference"):
            message.direct_reference.struct_field.field += by
    return made


def int_literal(value: int) -> Expression:
    """Return a 64-bit integer literal."""
    made = Expression()
    made.literal.i64 = value
    return made


def table_name(rel: Rel) -> str | None:
    """Return the name of the table of a read relation; None for VALUES."""
    if kind(rel) == "read" and rel.read.WhichOneof("read_type") == "named_table":
        return str(rel.read.named_table.names[-1])
    return None


def wanted_columns(rel: Rel, width: int) -> list[int]:
    """Return the columns that a read relation takes of a table of `width` columns, in order."""
    if rel.read.HasField("projection"):
        return [item.field for item in rel.read.projection.select.struct_items]
    return list(range(width))


def join_type(rel: Rel) -> str:
    """Return the type of a join or cross relation: INNER, LEFT_SEMI, ..."""
    if kind(rel) == "cross":
        return "INNER"
    return str(JoinRel.JoinType.Name(rel.join.type)).removeprefix("JOIN_TYPE_")


def width_of_relation(rel: Rel) -> int | None:
    """Return the number of a relation's columns; None: not known."""
    name = kind(rel)
    body = getattr(rel, name)
    if body.common.HasField("emit"):
        return len(body.common.emit.output_mapping)
    match name:
        case "read":
            if body.HasField("projection"):
                return len(body.projection.select.struct_items)
            return len(body.base_schema.struct.types)
        case "filter" | "sort" | "fetch":
            return width_of_relation(body.input)
        case "project":
            width = width_of_relation(body.input)
            return None if width is None else width + len(body.expressions)
        case "aggregate":
            one = len(body.groupings) <= 1
            return len(body.grouping_expressions) + len(body.measures) if one else None
        case "join" | "cross":
            widths = [width_of_relation(side) for side in inputs_of(rel)]
            how = join_type(rel)
            if how in ONE_SIDED:
                return widths[ONE_SIDED[how]]
            return sum(w or 0 for w in widths) if how in TWO_SIDED and None not in widths else None
    return None


def declared_functions(plan: SubstraitPlan) -> list[SimpleExtensionDeclaration.ExtensionFunction]:
    """Return the functions that a plan declares: parts of it, not copies.

    Other declarations are of types, as that of a null of no type, and look like a function without a name, number 0.
    """
    return [e.extension_function for e in plan.extensions if e.HasField("extension_function")]


def function_names(plan: SubstraitPlan) -> dict[int, str]:
    """Return the functions that a plan declares, by their anchors."""
    return {f.function_anchor: f.name for f in declared_functions(plan)}


def add_functions(plan: SubstraitPlan, names: Iterable[str]) -> tuple[SubstraitPlan, dict[str, int]]:
    """Return the plan with these functions declared, and the anchor of each."""
    made = SubstraitPlan()
    made.CopyFrom(plan)
    functions = declared_functions(made)
    anchors = {f.name: f.function_anchor for f in functions}
    urn = max((f.extension_urn_reference for f in functions), default=2**32 - 1)
    for name in names:
        if name not in anchors:
            anchors[name] = max(anchors.values(), default=-1) + 1
            declared = made.extensions.add().extension_function
            declared.name, declared.function_anchor = name, anchors[name]
            declared.extension_urn_reference = urn
    # DataFusion declares them in the order of a hash map: sorted, equal queries have equal plans in every process.
    made.extensions.sort(key=lambda e: e.extension_function.function_anchor)
    return made, anchors


# Functions that the planner itself puts into plans.
_OWN_FUNCTIONS = (
    *(
        "sum",
        "count",
        "first_value",
        "add",
        "subtract",
        "multiply",
        "divide",
        "modulus",
        "equal",
        "and",
        "or",
    ),
    *("is_not_null", "nullif", "nanvl", "bitwise_and", "bitwise_shift_right"),
    *("make_array", "array_element", "replace"),
)


#: Substrait types by Arrow types that are not nested. They are the same in all contexts.
_FLAT_TYPES: dict[pa.DataType, Type] = {}


def _register_table(name: str, stored: pa.Schema, context: SessionContext) -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in stored], schema=stored)
    context.register_record_batches(name, [[batch]])


class RelationBuilder:
    """Builder of typed relations in the function space of one query.

    Args:
        query: The query's whole plan; its function declarations hold for every relation made here.
        functions: Python UDFs, so that DataFusion can type expressions that call them.
    """

    def __init__(self, query: SubstraitPlan, register: Callable[[SessionContext], None]) -> None:
        plan, self.anchors = add_functions(query, _OWN_FUNCTIONS)
        self._shell = SubstraitPlan()
        self._shell.CopyFrom(plan)
        self._shell.ClearField("relations")
        self._made = 0
        #: Relations whose schemas were asked for.
        self._seen: list[Rel] = []
        self._types: dict[pa.DataType, Type] = {}
        self._asked: SessionContext | None = None
        #: Functions that tell the context of tables and functions which it does not know yet.
        self._pending = [register]

    @property
    def _context(self) -> SessionContext:
        """Context of all tables and functions, made once DataFusion is asked for something."""
        if self._asked is None:
            self._asked = SessionContext(SessionConfig().with_target_partitions(1))
        for register in self._pending:
            register(self._asked)
        self._pending.clear()
        return self._asked

    @property
    def names(self) -> dict[int, str]:
        """Functions by their anchors."""
        return {anchor: name for name, anchor in self.anchors.items()}

    def use(self, function: Function) -> int:
        """Declare a function in this query, and return its anchor."""
        if function.name not in self.anchors:
            self._pending.append(Functions((function,)).register)
            self._shell, self.anchors = add_functions(self._shell, (function.name,))
        return self.anchors[function.name]

    def continue_from(self, other: RelationBuilder) -> None:
        """Count names on from those of `other`."""
        self._made = max(self._made, other._made)

    def name(self) -> str:
        """Return a table name that is new in this query."""
        self._made += 1
        return f"t{self._made}"

    def table(self, name: str, types: Sequence[pa.DataType]) -> tuple[Rel, pa.Schema]:
        """Return a read of a new named table, and the schema under which workers register its batches.

        Columns are named by position, `<name>_<i>`, so that no join ever sees a name twice. A table
        without columns gets a dummy one, that the read leaves out: DataFusion then counts rows.
        """
        schema = pa.schema([pa.field(f"{name}_{i}", t) for i, t in enumerate(types)])
        stored = schema if len(types) else pa.schema([pa.field(f"{name}_rows", pa.bool_())])
        self._pending.append(functools.partial(_register_table, name, stored))
        rel = Rel()
        if all(t in _FLAT_TYPES for t in stored.types):
            rel.read.base_schema.names.extend(stored.names)
            rel.read.base_schema.struct.types.extend(_FLAT_TYPES[t] for t in stored.types)
            rel.read.base_schema.struct.nullability = Type.NULLABILITY_REQUIRED
            rel.read.named_table.names.append(name)
        else:
            rel.CopyFrom(self.encode(self._context.table(name).logical_plan()).relations[0].root.input)
            # Without a projection a read gives all columns; DataFusion 55 decodes one of n columns in n squared steps.
            rel.read.ClearField("projection")
            for t, made in zip(stored.types, rel.read.base_schema.struct.types, strict=True):
                if not pa.types.is_nested(t) and t not in _FLAT_TYPES:
                    known = Type()
                    known.CopyFrom(made)  # a part of a message holds all of it
                    _FLAT_TYPES[t] = known
        if not len(types):
            rel.read.projection.SetInParent()
            rel.read.projection.select.SetInParent()
        return rel, stored

    def encode(self, logical_plan: LogicalPlan) -> SubstraitPlan:
        """Return a DataFusion logical plan as Substrait."""
        plan = SubstraitPlan()
        plan.ParseFromString(Producer.to_substrait_plan(logical_plan, self._context).encode())
        return plan

    def types_of(self, types: Sequence[pa.DataType]) -> list[Type]:
        """Return Arrow types as Substrait types."""
        unknown = [t for t in dict.fromkeys(types) if t not in self._types]
        if unknown:
            # Not a name of the query's tables: those don't depend on what was asked before.
            rel, _ = self.table(f"types{len(self._types)}", unknown)
            self._types.update(zip(unknown, rel.read.base_schema.struct.types, strict=True))
        return [self._types[t] for t in types]

    def plan(self, rel: Rel) -> bytes:
        """Return an encoded plan of one relation."""
        made = SubstraitPlan()
        made.CopyFrom(self._shell)
        made.relations.add().rel.CopyFrom(rel)
        return bytes(made.SerializeToString())

    def schema(self, rel: Rel) -> pa.Schema:
        """Return the names and types of a relation's output, as DataFusion sees them. All fields are nullable."""
        self._seen.append(rel)
        with planning("Substrait"):
            logical = Consumer.from_substrait_plan(self._context, Serde.deserialize_bytes(self.plan(rel)))
            schema = self._context.create_dataframe_from_logical_plan(logical).schema()
        return pa.schema([pa.field(f.name, f.type) for f in schema])

    def check(self, rel: Rel) -> None:
        """Check that DataFusion reads a relation, if it was not asked for the schema of this very one.

        Raises:
            PlanError: It does not.
        """
        if not any(rel is seen for seen in self._seen):
            self.schema(rel)

    def call(self, function: str, *arguments: Expression, returns: Type | None = None) -> Expression:
        """Return a call of a scalar function."""
        made = Expression()
        made.scalar_function.function_reference = self.anchors[function]
        for argument in arguments:
            made.scalar_function.arguments.add().value.CopyFrom(argument)
        if returns is not None:
            made.scalar_function.output_type.CopyFrom(returns)
        return made

    def project(self, rel: Rel, expressions: Sequence[Expression], *, width: int, keep: bool = False) -> Rel:
        """Return a project of expressions over `rel`, which has `width` columns.

        With `keep`, all input columns come before the expressions.
        """
        made = Rel()
        made.project.input.CopyFrom(rel)
        made.project.expressions.extend(expressions)
        first = 0 if keep else width
        made.project.common.emit.output_mapping.extend(range(first, width + len(expressions)))
        return made
