"""Values of the type `json` and the column `_extra`: the kernel equals the reference, on every instruction set."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.formats.ndjson.decoder import NdjsonDecoder
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.schemas.json_type import JSON

from .draining import agree
from .guarded import guarded

FIELDS = pa.schema(
    [
        ("a", pa.int64()),
        ("v", JSON),
        ("o", pa.struct([("x", JSON), ("y", pa.int64())])),
        ("l", pa.list_(JSON)),
    ]
)
VALUES = ["1", "-2.50", "null", "true", '"t"', '"\\u00e9\\n"', '"a longer text of bytes"', "[]", "[ 1 , 2 ]", "{}", '{"k" : [ {"z":1.0} ] }',
          '{"x": {"q":[1,\t2]}, "y": 3}', '{"x":1,"n":2}', '[1, "a, b", {"k":null}]', "nul", "[1", '"\\ud800"', "1e400", "9" * 40]  # fmt: skip
KEYS = ["a", "v", "o", "l", "z", "new field", "\\u0061", "é"]
records = st.lists(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=5).map(
        lambda pairs: "{" + " , ".join(f'"{k}" : {v}' for k, v in pairs) + "}"
    ),
    max_size=8,
).map(lambda lines: "\n".join(lines).encode())


@given(
    records,
    st.sampled_from([(), ("v",), ("l", "v"), ("o", "a"), ("_extra",), ("a", "_extra", "v")]),
    st.booleans(),
)
def test_any_records(text: bytes, columns: tuple[str, ...], closed: bool) -> None:
    extra = "_extra" in columns
    if not columns:
        columns = ("o", "v", "a")
        extra = closed
    agree(
        NdjsonDecoder(columns, FIELDS, "null", closed=closed and not extra, extra=extra),
        lambda: ndjson_decoder(columns, FIELDS, "null", closed=closed and not extra, extra=extra),
        guarded(text, "back"),
        len(text),
        final=True,
    )


@pytest.mark.parametrize("columns", [("v", "_extra"), ("_extra",)])
def test_plain_records_need_no_fallback(columns: tuple[str, ...]) -> None:
    lines = b"".join(
        b'{"a":%d,"v":{"k": [%d, "x"]},"new":%d,"more":[1, 2]}\n' % (i, i, i) for i in range(500)
    )
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        decoder = ndjson_decoder(columns, FIELDS, "error", closed=False, extra=True)
        assert isinstance(decoder, KernelDecoder)
        decoder._fallback._reference = None  # type: ignore[assignment]  # is not called
        made = decoder.decode(pa.py_buffer(lines), len(lines), final=True, located=False)
        assert made.records == 500
        assert made.batch.column("_extra")[7].as_py() == '{"new":7,"more":[1,2]}'
        if "v" in columns:
            assert made.batch.column("v")[7].as_py() == '{"k":[7,"x"]}'
