"""Values at a path of texts of JSON by the kernel equal the definition, on every instruction set."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.errors import PlanError
from mmflow.plan.functions.json_extraction import extract
from mmflow.plan.functions.json_values import JSON_FUNCTIONS, JsonFunction, parse_value_path, value_of

from .guarded import guarded

FUNCTIONS = [name for name in JSON_FUNCTIONS if name != "json_keys"]
PATHS = ["$", "$.a", "$[0]", "$[-1]", "$[-2].a", "$.a[1]", "$.a.b", '$["é \\"b"]', "$.a[0][0]", "$[99]"]
#: Texts that the kernel reads itself.
PLAIN = [
    "{}", "[]", " [ 1 , -2.5e3,\t0 ] ", '{"a": 1}', '{"a":"x"}', '{"a": "' + "long " * 30 + '"}', '{"a": [1, [2, {"b": 3}]]}',
    '{\n  "a": {\n    "b": "two\\nlines and \\"quotes\\""\n  }\n}', '"text"', '"\\ud83d\\ude00 é"', "true", "false", "null", "0", "-0",
    "12345678901234567", "1.50", '{"a": 1, "a": {"b": 2}}', '{"a": {"b": 2}, "a": 1}', '[{"a": null}, {"a": [true, false]}]',
    '{"b": {"a": 1}, "é": 2}', '{"a": [[7], "]", "}"], "z": "{[,:"}', "[" * 50 + "]" * 50, '[{"a": 1}, 2, {"a": "three"}, 4]',
]  # fmt: skip
#: Texts that it leaves: no JSON, or rare.
LEFT = [
    "", " ", "{", "{x", '{"a": 1,}', "[1,]", "[1 2]", "01", "1.", "nul", "{} {}", '"open', '"a\nb"', '"\\x"', '"\\u12"', "[1]]",
    '{"a" 1}', "{1: 2}", "\ufeff{}", "NaN", "[" * 70 + "]" * 70, "1" * 400, '{"\\u0061": 1}', '{"é \\"b": 5}', "\0", "[\f1]", "'a'",
]  # fmt: skip


def texts_of(values: Sequence[str | None]) -> pa.Array:
    """Return views over bytes that end at a page that may not be touched."""
    plain = pa.array(values, pa.string())
    bits, offsets, data = plain.buffers()
    text = guarded(b"" if data is None else data.to_pybytes(), "back")
    return pa.Array.from_buffers(pa.string(), len(plain), [bits, offsets, text]).cast(pa.string_view())


def same(name: str, values: Sequence[str | None], path: str) -> None:
    texts = texts_of(values)
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        found = extract(name, texts, parse_value_path(path))
        if found is None:
            assert not values
            continue
        made, left = found
        made.validate(full=True)
        results = made.to_pylist()
        for number, value in enumerate(values):
            if number in left:
                assert results[number] is None
            else:
                assert results[number] == value_of(name, value, path), (isa, name, value, path)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_text_and_path(name: str) -> None:
    for path in PATHS:
        same(name, [*PLAIN, None, *LEFT], path)
        same(name, [text for text in PLAIN for _ in range(2)][1:], path)


def test_plain_texts_are_read_by_the_kernel_and_no_other_text_is() -> None:
    found = extract("json_extract", texts_of(PLAIN), ())
    assert found is not None
    assert found[1].tolist() == []
    found = extract("json_extract", texts_of(LEFT), ())
    assert found is not None
    assert found[1].tolist() == list(range(len(LEFT)))


@given(
    st.lists(
        st.none() | st.sampled_from(PLAIN) | st.lists(st.sampled_from([*PLAIN, *LEFT, *'{}[],:"\\ \n']), max_size=6).map("".join),
        max_size=12,
    ),
    st.sampled_from(FUNCTIONS),
    st.sampled_from(PATHS),
)  # fmt: skip
def test_any_texts(values: list[str | None], name: str, path: str) -> None:
    same(name, values, path)


def test_slices_and_several_paths() -> None:
    docs = pa.array([None, *(json.dumps({"a": n, "text": "x" * n}) for n in range(40))], pa.string_view())[3:]
    found = extract("json_extract_string", docs, ("text",))
    assert found is not None
    assert found[0].to_pylist() == ["x" * n for n in range(2, 40)]
    function = JsonFunction("json_extract").call
    paths = pa.array(["$.a", "$.text"], pa.string_view())
    assert function(docs[:2], paths).to_pylist() == ["2", '"xxx"']
    with pytest.raises(PlanError, match="no path of JSON"):
        function(docs[:1], pa.array(["$."], pa.string_view()))
