"""mmflow's own functions in plans: on slices, with nulls, and after a trip to a worker."""

from __future__ import annotations

import math
import pickle
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from datafusion import SessionContext
from hypothesis import given

from mmflow.plan.functions.checked_arithmetic import CheckedFunction
from mmflow.plan.functions.float_codes import FloatCode
from mmflow.plan.functions.nested_floats import NestedFloats, with_one_nan_and_zero
from mmflow.plan.functions.patterns import PatternCheck

NEGATIVE_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8 << 48))[0]
floats = st.one_of(st.none(), st.sampled_from([NEGATIVE_NAN, math.nan, 0.0, -0.0, 1.5, -math.inf]))
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), floats),
    (pa.float32(), floats),
    (pa.float16(), floats),
    (pa.list_(pa.float64()), st.one_of(st.none(), st.lists(floats, max_size=3))),
    (
        pa.large_list(pa.list_(pa.float32())),
        st.one_of(st.none(), st.lists(st.lists(floats, max_size=2), max_size=2)),
    ),
    (
        pa.struct({"a": pa.float64(), "b": pa.list_(pa.float64()), "c": pa.string()}),
        st.one_of(
            st.none(),
            st.fixed_dictionaries({"a": floats, "b": st.lists(floats, max_size=2), "c": st.just("x")}),
        ),
    ),
]


def _told(value: Any) -> Any:
    """Sign and kind of floats, at any depth."""
    if isinstance(value, float):
        return str(math.copysign(1, value)) + str(value)
    if isinstance(value, dict):
        return {k: _told(v) for k, v in value.items()}
    return [_told(v) for v in value] if isinstance(value, list) else value


def _expected(value: Any) -> Any:
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value + 0.0
    if isinstance(value, dict):
        return {k: _expected(v) for k, v in value.items()}
    return [_expected(v) for v in value] if isinstance(value, list) else value


@given(
    data=st.data(), which=st.sampled_from(range(len(KINDS))), begin=st.integers(0, 3), end=st.integers(0, 8)
)
def test_floats_get_one_nan_and_zero_at_any_depth(
    data: st.DataObject, which: int, begin: int, end: int
) -> None:
    kind, values = KINDS[which]
    array = pa.array(data.draw(st.lists(values, max_size=8)), kind)
    array = array.slice(min(begin, len(array)), end)
    made = with_one_nan_and_zero(array)
    made.validate(full=True)
    assert made.type == kind
    assert _told(made.to_pylist()) == _told(_expected(array.to_pylist()))


def test_codes_of_floats_keep_their_order() -> None:
    context = _context(FloatCode(back=False), FloatCode(back=True))
    values = [-math.inf, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, 1e300, math.inf, math.nan]
    table = pa.table({"x": [*values, NEGATIVE_NAN, -0.0, None]})
    context.register_record_batches("t", [table.to_batches()])
    made = context.sql(
        "select mmflow_code_of_float(x) c, mmflow_float_of_code(mmflow_code_of_float(x)) x from t"
    )
    codes, back = (made.to_pydict()[n] for n in "cx")
    assert codes[: len(values)] == sorted(set(codes[: len(values)]))
    assert codes[len(values) :] == [codes[9], codes[4], None]
    assert np.array_equal(np.array(back[:-1], float), np.array([*values, math.nan, 0.0]), equal_nan=True)


def test_plan_functions_can_be_pickled() -> None:
    functions: list[Any] = [
        *(CheckedFunction("add", pa.int64()), CheckedFunction("sum", pa.decimal128(38, 2)), PatternCheck()),
        *(FloatCode(back=True), NestedFloats(pa.list_(pa.float64()))),
    ]
    for function in functions:
        assert pickle.loads(pickle.dumps(function)).name == function.name


def _context(*functions: Any) -> Any:
    context = SessionContext()
    for function in functions:
        context.register_udf(function.made)
    return context
