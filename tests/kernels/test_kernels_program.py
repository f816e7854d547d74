"""Operations of row-wise programs equal pyarrow's and Python's, on every instruction set, and read no byte too many."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.decoding.kernel_types import import_batch
from mmflow.plan.native.patterns import like_tokens, text_tokens
from mmflow.plan.native.program import Form, Layout, Node, Op, Program, form_of, layout_of
from mmflow.worker.row_program import RowProgram
from tests.kernels.guarded import guarded

few = settings(max_examples=25 if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci" else 2000, deadline=None)
SIDES = st.sampled_from(["front", "back"])
TEXTS = ["", "a", "ab", "abcdefghijkl", "abcdefghijklm", "a" * 40, "é", "日本語", "x%_\\"]


def node(op: Op, form: Form, *arguments: int, number: int = 0, value: bytes = b"") -> Node:
    return (int(op), int(form), list(arguments), number, 0, False, value)


def column_of(kind: pa.DataType) -> tuple[int, int]:
    texts = {pa.string(): (Layout.OFFSETS32, 0), pa.large_string(): (Layout.OFFSETS64, 0)}
    made = texts.get(kind) or layout_of(kind)
    assert made is not None
    return made


def computed(batch: pa.RecordBatch, nodes: list[Node], kind: pa.DataType) -> pa.Array | None:
    """Return the last node's values; None: they need the fallback."""
    columns = tuple(column_of(f.type) for f in batch.schema)
    program = Program(columns, tuple(nodes), (), ((len(nodes) - 1, -1),))
    made = RowProgram(program, batch.schema, pa.schema({"x": kind})).run(batch)
    if made is None:
        return None
    made.validate(full=True)
    return made.column(0)


def at_edge(array: pa.Array, side: Literal["front", "back"]) -> pa.Array:
    """Return the array with all of its buffers beside pages that may not be touched."""
    buffers = [None if b is None else guarded(b.to_pybytes(), side) for b in array.buffers()]
    return pa.Array.from_buffers(
        array.type, len(array), buffers, null_count=array.null_count, offset=array.offset
    )


def bits_used(array: pa.Array) -> pa.Array:
    """Return the array with buffers that end with its last value."""
    buffers = []
    for number, buffer in enumerate(array.buffers()):
        used = (array.offset + len(array) + 7) // 8
        if number == 1 and not pa.types.is_boolean(array.type):
            used = (array.offset + len(array)) * (
                16 if pa.types.is_string_view(array.type) else array.type.bit_width // 8
            )
        buffers.append(None if buffer is None else buffer if number > 1 else buffer.slice(0, used))
    return pa.Array.from_buffers(
        array.type, len(array), buffers, null_count=array.null_count, offset=array.offset
    )


NUMBERS = {
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3),
    pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1) | st.integers(0, 3),
    pa.float64(): st.floats(allow_nan=False),
    pa.float32(): st.floats(width=32, allow_nan=False),
}
COMPARISONS = {Op.EQUAL: pc.equal, Op.NOT_EQUAL: pc.not_equal, Op.LESS: pc.less, Op.LESS_EQUAL: pc.less_equal}


@few
@given(data=st.data(), skipped=st.integers(0, 17), side=SIDES)
@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_comparisons_are_pyarrows(
    kind: pa.DataType, data: st.DataObject, skipped: int, side: Literal["front", "back"]
) -> None:
    values = data.draw(st.lists(st.none() | NUMBERS[kind], min_size=skipped, max_size=60))
    others = data.draw(st.lists(st.none() | NUMBERS[kind], min_size=len(values), max_size=len(values)))
    arrays = [at_edge(bits_used(pa.array(v, kind)[skipped:]), side) for v in (values, others)]
    batch = pa.record_batch(dict(zip("ab", arrays, strict=True)))
    form = form_of(kind)
    assert form is not None
    columns = [node(Op.COLUMN, form), node(Op.COLUMN, form, number=1)]
    for op, reference in COMPARISONS.items():
        made = computed(batch, [*columns, node(op, Form.BOOL, 0, 1)], pa.bool_())
        assert made == reference(*arrays)


def _exact(values: list[Any], others: list[Any], apply: Callable[[int, int], int]) -> list[int | None]:
    return [None if a is None or b is None else apply(a, b) for a, b in zip(values, others, strict=True)]


@few
@given(data=st.data())
@pytest.mark.parametrize(
    "op", [Op.ADD_CHECKED, Op.SUBTRACT_CHECKED, Op.MULTIPLY_CHECKED, Op.DIVIDE, Op.MODULO]
)
@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
def test_checked_arithmetic_is_exact_or_needs_the_fallback(
    kind: pa.DataType, op: Op, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | NUMBERS[kind], max_size=20))
    others = data.draw(st.lists(st.none() | NUMBERS[kind], min_size=len(values), max_size=len(values)))

    def quotient(a: int, b: int) -> int:
        if b == 0:
            return 1 << 80  # beyond any type
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)

    def rest(a: int, b: int) -> int:
        # The remainder of the least value by -1 is left to DataFusion.
        return (
            a - b * quotient(a, b)
            if b and quotient(a, b) < 1 << (kind.bit_width - 1 + (kind == pa.uint64()))
            else 1 << 80
        )

    exact = {
        Op.ADD_CHECKED: lambda a, b: a + b,
        Op.SUBTRACT_CHECKED: lambda a, b: a - b,
        Op.MULTIPLY_CHECKED: lambda a, b: a * b,
        Op.DIVIDE: quotient,
        Op.MODULO: rest,
    }
    wanted = _exact(values, others, exact[op])
    batch = pa.record_batch({"a": pa.array(values, kind), "b": pa.array(others, kind)})
    form = form_of(kind)
    assert form is not None
    made = computed(
        batch, [node(Op.COLUMN, form), node(Op.COLUMN, form, number=1), node(op, form, 0, 1)], kind
    )
    low, high = (
        (0, 2**64 - 1)
        if kind == pa.uint64()
        else (-(1 << (kind.bit_width - 1)), (1 << (kind.bit_width - 1)) - 1)
    )
    if all(w is None or low <= w <= high for w in wanted):
        assert made is not None
        assert made.to_pylist() == wanted
    else:
        assert made is None


TRUTHS = st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 2), max_size=40)


@few
@given(pairs=TRUTHS, skipped=st.integers(0, 9), side=SIDES)
def test_logic_is_of_three_values(
    pairs: list[tuple[bool | None, bool | None]], skipped: int, side: Literal["front", "back"]
) -> None:
    arrays = [
        at_edge(bits_used(pa.array(list(v), pa.bool_())[skipped:]), side) for v in zip(*pairs, strict=True)
    ]
    if not arrays or not len(arrays[0]):
        return
    batch = pa.record_batch(dict(zip("ab", arrays, strict=True)))
    columns = [node(Op.COLUMN, Form.BOOL), node(Op.COLUMN, Form.BOOL, number=1)]
    for op, reference in ((Op.AND, pc.and_kleene), (Op.OR, pc.or_kleene)):
        assert computed(batch, [*columns, node(op, Form.BOOL, 0, 1)], pa.bool_()) == reference(*arrays)
    for op, one in ((Op.NOT, pc.invert), (Op.IS_NULL, pc.is_null), (Op.IS_NOT_NULL, pc.is_valid)):
        assert computed(batch, [*columns, node(op, Form.BOOL, 0)], pa.bool_()) == one(arrays[0])
    chosen = computed(batch, [*columns, node(Op.IF, Form.BOOL, 0, 1, 0)], pa.bool_())
    assert chosen == pc.if_else(arrays[0].fill_null(pa.scalar(False)), arrays[1], arrays[0])


@few
@given(
    texts=st.lists(st.none() | st.sampled_from(TEXTS) | st.text(max_size=16), max_size=40),
    pattern=st.text("ab%_\\é日", max_size=6),
    skipped=st.integers(0, 9),
    kind=st.sampled_from([pa.string_view(), pa.string(), pa.large_string()]),
)
def test_like_is_a_regular_expression(
    texts: list[str | None], pattern: str, skipped: int, kind: pa.DataType
) -> None:
    array = pa.array(texts, pa.string()).cast(kind)[skipped:]
    made = computed(
        pa.record_batch({"s": array}),
        [node(Op.COLUMN, Form.TEXT), node(Op.LIKE, Form.BOOL, 0, value=like_tokens(pattern))],
        pa.bool_(),
    )
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    expression = "".join(
        {"%": ".*", "_": "."}.get(p) or re.escape(p[1:] if p[0] == "\\" and len(p) == 2 else p) for p in parts
    )
    assert made is not None
    assert made.to_pylist() == [
        None if t is None else re.fullmatch(expression, t, re.DOTALL) is not None for t in array.to_pylist()
    ]


@few
@given(
    texts=st.lists(st.text("ab", max_size=70), min_size=1, max_size=40),
    parts=st.lists(st.text("ab", min_size=1, max_size=20), min_size=1, max_size=2),
    side=SIDES,
)
def test_like_finds_texts_in_longer_ones(
    texts: list[str], parts: list[str], side: Literal["front", "back"]
) -> None:
    array = at_edge(pa.array(texts, pa.string()), side)
    pattern = "%" + "%".join(parts) + "%"
    made = computed(
        pa.record_batch({"s": array}),
        [node(Op.COLUMN, Form.TEXT), node(Op.LIKE, Form.BOOL, 0, value=like_tokens(pattern))],
        pa.bool_(),
    )
    assert made is not None
    assert made.to_pylist() == [re.search(".*".join(parts), text) is not None for text in texts]


@few
@given(
    texts=st.lists(st.none() | st.sampled_from(TEXTS) | st.text(max_size=16), max_size=40),
    value=st.sampled_from(TEXTS),
    skipped=st.integers(0, 9),
    side=SIDES,
)
@pytest.mark.parametrize("simd", _kernels.simd_available())
def test_text_is_compared_by_its_bytes(
    simd: str, texts: list[str | None], value: str, skipped: int, side: Literal["front", "back"]
) -> None:
    _kernels.simd_use(simd)
    array = at_edge(bits_used(pa.array(texts, pa.string_view())[skipped:]), side)
    given_texts = [None if t is None else t.encode() for t in array.to_pylist()]
    batch = pa.record_batch({"s": array})
    constant = node(Op.CONSTANT, Form.TEXT, value=value.encode())
    wanted = value.encode()
    comparisons: dict[Op, Callable[[bytes], bool]] = {
        Op.EQUAL: lambda t: t == wanted,
        Op.NOT_EQUAL: lambda t: t != wanted,
        Op.LESS: lambda t: t < wanted,
        Op.LESS_EQUAL: lambda t: t <= wanted,
    }
    for op, compare in comparisons.items():
        made = computed(batch, [node(Op.COLUMN, Form.TEXT), constant, node(op, Form.BOOL, 0, 1)], pa.bool_())
        assert made is not None
        assert made.to_pylist() == [None if t is None else compare(t) for t in given_texts]
    for function, test in (
        ("starts_with", bytes.startswith),
        ("ends_with", bytes.endswith),
        ("contains", bytes.__contains__),
    ):
        tokens = text_tokens(function, value)
        made = computed(
            batch, [node(Op.COLUMN, Form.TEXT), node(Op.LIKE, Form.BOOL, 0, value=tokens)], pa.bool_()
        )
        assert made is not None
        assert made.to_pylist() == [None if t is None else test(t, wanted) for t in given_texts]


@few
@given(
    rows=st.sampled_from([0, 1, 63, 64, 8192, 20_001]),
    share=st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("simd", _kernels.simd_available())
def test_a_filter_takes_rows_of_every_layout(simd: str, rows: int, share: float, seed: int) -> None:
    _kernels.simd_use(simd)
    rng = np.random.default_rng(seed)
    chosen = rng.random(rows) < share
    missing = rng.random(rows) < 0.2
    numbers = rng.integers(0, 100, rows)
    columns = {
        "p": pa.array(chosen),
        "b": pa.array(numbers % 2 == 0, mask=missing),
        "i8": pa.array(numbers.astype(np.int8)),
        "i16": pa.array(numbers.astype(np.int16), mask=missing),
        "f64": pa.array(numbers / 4),
        "d": pa.array(numbers).cast(pa.decimal128(30, 2)),
        "d256": pa.array(numbers).cast(pa.decimal256(40, 2)),
        "s": pa.array(
            [None if m else "text " * (n % 5) for n, m in zip(numbers, missing, strict=True)],
            pa.string_view(),
        ),
    }
    batch = pa.record_batch(columns).slice(min(3, rows))
    program = Program(
        tuple(column_of(f.type) for f in batch.schema),
        (node(Op.COLUMN, Form.BOOL),),
        ((0, False),),
        tuple((-1, n) for n in range(batch.num_columns)),
    )
    made = RowProgram(program, batch.schema, batch.schema).run(batch)
    assert made is not None
    made.validate(full=True)
    keep = np.flatnonzero(chosen[min(3, rows) :])
    for name in batch.schema.names:
        wanted = batch.column(name)
        wanted = wanted.cast(pa.string()) if name == "s" else wanted
        got = made.column(name)
        assert (got.cast(pa.string()) if name == "s" else got) == wanted.take(pa.array(keep))


def test_views_of_a_result_keep_the_batch_alive() -> None:
    owner = pa.array(["a text that is longer than a view " + str(n) for n in range(1000)], pa.string_view())
    batch = pa.record_batch({"s": owner, "b": pa.array([n % 3 == 0 for n in range(1000)])})
    program = Program(
        (column_of(pa.string_view()), column_of(pa.bool_())),
        (node(Op.COLUMN, Form.BOOL, number=1),),
        ((0, False),),
        ((-1, 0),),
    )
    made = RowProgram(program, batch.schema, pa.schema({"s": pa.string_view()})).run(batch)
    assert made is not None
    before = pa.total_allocated_bytes()
    del owner, batch
    assert pa.total_allocated_bytes() < before  # the bits are gone, the text is not
    assert made.column(0).to_pylist() == [f"a text that is longer than a view {n}" for n in range(0, 1000, 3)]


def test_a_batch_of_other_types_is_refused() -> None:
    schema = pa.schema({"a": pa.int64()})
    program = Program((column_of(pa.int64()),), (node(Op.COLUMN, Form.I64),), (), ((0, -1),))
    with pytest.raises(pa.ArrowInvalid, match="int32"):
        RowProgram(program, schema, schema).run(pa.record_batch({"a": pa.array([1], pa.int32())}))
    nodes = (node(Op.COLUMN, Form.TEXT), node(Op.ADD, Form.TEXT, 0, 0))
    with pytest.raises(ValueError, match="no such operation"):
        RowProgram(Program((column_of(pa.int64()),), nodes, (), ()), schema, schema)


def test_constants_fill_columns_and_nothing_gives_rows() -> None:
    batch = pa.record_batch({"a": [1, 2, 3]})
    made = computed(batch, [node(Op.CONSTANT, Form.I64, value=struct.pack("<q", 7))], pa.int64())
    assert made == pa.array([7, 7, 7])
    assert computed(batch, [node(Op.CONSTANT, Form.TEXT, number=1)], pa.string_view()) == pa.nulls(
        3, pa.string_view()
    )
    empty = RowProgram(Program((column_of(pa.int64()),), (), (), ()), batch.schema, pa.schema([])).run(batch)
    assert empty is not None
    assert empty.num_rows == 3
    assert import_batch(pa.schema([]), None, 2).num_rows == 2
