"""Programs of `mmflow/kernels/program` as plain data. The numbers are those of program.h.

columns --> nodes, of columns and earlier nodes --> conjuncts: rows that are left
                                                --> outputs: columns of these rows
"""

from __future__ import annotations

from enum import IntEnum

import pyarrow as pa

from mmflow.lazy.dataclasses import dataclass

__all__ = ["Column", "Conjunct", "Form", "Layout", "Node", "Op", "Output", "Program", "form_of", "layout_of"]


class Form(IntEnum):
    """Physical type of a value."""

    BOOL = 0
    I8 = 1
    I16 = 2
    I32 = 3
    I64 = 4
    U8 = 5
    U16 = 6
    U32 = 7
    U64 = 8
    F32 = 9
    F64 = 10
    I128 = 11
    TEXT = 12


class Op(IntEnum):
    """Operation of a node."""

    COLUMN = 0
    CONSTANT = 1
    EQUAL = 2
    NOT_EQUAL = 3
    LESS = 4
    LESS_EQUAL = 5
    DISTINCT = 6
    NOT_DISTINCT = 7
    AND = 8
    OR = 9
    NOT = 10
    IS_NULL = 11
    IS_NOT_NULL = 12
    IS_TRUE = 13
    IS_FALSE = 14
    ADD = 15
    SUBTRACT = 16
    MULTIPLY = 17
    ADD_CHECKED = 18
    SUBTRACT_CHECKED = 19
    MULTIPLY_CHECKED = 20
    DIVIDE = 21
    MODULO = 22
    NEGATE = 23
    NEGATE_CHECKED = 24
    NANVL = 25
    IF = 26
    IN = 27
    LIKE = 28
    CAST = 29
    SCALE_UP = 30
    SCALE_DOWN = 31
    TRUNCATE = 32
    FROM_REAL = 33
    TO_REAL = 34


class Layout(IntEnum):
    """Layout of the values of a column in a batch."""

    BITS = 0
    FIXED = 1
    VIEWS = 2
    OFFSETS32 = 3
    OFFSETS64 = 4


Column = tuple[int, int]  # layout, bytes of a value
Node = tuple[int, int, list[int], int, int, bool, bytes]  # Node in program.h
Conjunct = tuple[int, bool]  # node, whether it may fail
Output = tuple[int, int]  # node or -1, column or -1


@dataclass(frozen=True, slots=True)
class Program:
    """Filter and projection of batches.

    Attributes:
        columns: Columns of the batches.
        nodes: Values, each of earlier ones.
        conjuncts: Boolean nodes that are true for the rows of the result; empty: all rows are.
        outputs: Columns of the result.
    """

    columns: tuple[Column, ...]
    nodes: tuple[Node, ...]
    conjuncts: tuple[Conjunct, ...]
    outputs: tuple[Output, ...]


_FORMS = {
    pa.bool_(): Form.BOOL,
    pa.int8(): Form.I8,
    pa.int16(): Form.I16,
    pa.int32(): Form.I32,
    pa.int64(): Form.I64,
    pa.uint8(): Form.U8,
    pa.uint16(): Form.U16,
    pa.uint32(): Form.U32,
    pa.uint64(): Form.U64,
    pa.float32(): Form.F32,
    pa.float64(): Form.F64,
    pa.date32(): Form.I32,
    pa.date64(): Form.I64,
    pa.string(): Form.TEXT,
    pa.large_string(): Form.TEXT,
    pa.string_view(): Form.TEXT,
}
_WIDTHS = frozenset({8, 16, 32, 64, 128, 256})


def form_of(kind: pa.DataType) -> Form | None:
    """Return the physical type of values that programs compute with; None: they don't."""
    types = pa.types
    if types.is_decimal128(kind):
        return Form.I128
    if types.is_time32(kind):
        return Form.I32
    if types.is_time64(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return Form.I64
    return _FORMS.get(kind)


def layout_of(kind: pa.DataType) -> Column | None:
    """Return the layout of a column whose rows programs can choose; None: they can't."""
    types = pa.types
    if types.is_boolean(kind):
        return (Layout.BITS, 0)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return (Layout.VIEWS, 16)
    if types.is_nested(kind) or types.is_dictionary(kind) or types.is_null(kind):
        return None
    try:
        bits = int(kind.bit_width)
    except ValueError:
        return None
    return (Layout.FIXED, bits // 8) if bits in _WIDTHS else None
