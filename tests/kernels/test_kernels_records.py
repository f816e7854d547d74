"""Fixed-width records: the kernel equals its numpy reference, and touches no byte beyond its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow import _kernels
from mmflow.api.results import BadRecordsWarning
from mmflow.errors import BadRecordError
from mmflow.formats.decoding.kernel_types import import_batch
from mmflow.formats.records.gathering import gather, kernel_field
from mmflow.formats.records.layout import Field

from .draining import plain
from .guarded import guarded

TYPES = [
    pa.bool_(), pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.time32("ms"),
    pa.timestamp("us", "UTC"), pa.decimal128(20, 3), pa.binary(1), pa.binary(3), pa.binary(40), pa.string_view(),
]  # fmt: skip


def width_of(kind: pa.DataType, chars: int) -> int:
    if pa.types.is_string_view(kind):
        return chars
    return 1 if pa.types.is_boolean(kind) else kind.bit_width // 8


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[Field], int]:
    fields, end = [], draw(st.integers(0, 3))
    for i, kind in enumerate(draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=5))):
        width = width_of(kind, draw(st.integers(1, 30)))
        fields.append(Field(f"f{i}", kind, end, width, draw(st.booleans())))
        end += width + draw(st.integers(0, 3))
    return fields, end


@given(
    layout=layouts(),
    count=st.sampled_from([0, 1, 2, 511, 512, 513, 1030]),
    seed=st.integers(0, 5),
    text=st.booleans(),
    side=st.sampled_from(["front", "back"]),
)
def test_fields_are_gathered_like_the_reference(
    layout: tuple[list[Field], int], count: int, seed: int, text: bool, side: Literal["front", "back"]
) -> None:
    fields, size = layout
    letters = (b"ab \x00\xc3\xa9 zz" if text else bytes(range(256))) * 3
    stream = bytes(letters[(i * 7 + seed + i // 13) % len(letters)] for i in range(count * size))
    data = guarded(stream, side)
    kernel = _kernels.RecordsReader([kernel_field(f) for f in fields], size)
    status, consumed, records, rows, _, capsule, _ = kernel.decode(data.address, count, data)
    judged = [gather(data, f, size, count) if count else (pa.nulls(0, f.type), []) for f in fields]
    if any(wrong for _, wrong in judged):
        assert status
        return
    assert (status, consumed, records, rows) == (0, count * size, count, count)
    batch = import_batch(pa.schema([(f.name, f.type) for f in fields]), capsule, rows)
    for column, (array, _) in zip(batch.columns, judged, strict=True):
        # Not every number is a time of day, or a decimal of 20 digits: records are believed.
        column.validate(full=pa.types.is_string_view(column.type))
        assert bits(column) == bits(array)


def bits(column: pa.Array) -> list[object]:
    if pa.types.is_decimal(column.type):
        column = column.view(pa.binary(16))
    if pa.types.is_floating(column.type):  # every bit of a NaN
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return plain(column)


LAYOUT = [
    {"name": "i", "type": "int32", "offset": 0, "order": "big"},
    {"name": "s", "type": "char[4]", "offset": 4},
]


@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        ("null", [(0, "a"), (1, None), (2, "é")]),
        ("skip", [(0, "a"), (2, "é")]),
        ("quarantine", [(0, "a"), (2, "é")]),
    ],
)
def test_text_that_is_not_utf8_is_a_bad_record(
    tmp_path: Path, policy: Any, rows: list[tuple[int, Any]]
) -> None:
    path = tmp_path / "r.bin"
    texts = (b"a   ", b"\xffbc ", "é".encode() + b"\x00\x00")
    path.write_bytes(b"".join(i.to_bytes(4, "big") + text for i, text in enumerate(texts)))
    with mf.Session(workers=1, runs_dir=str(tmp_path / "runs")) as session:
        options: dict[str, Any] = {"layout": LAYOUT, "record_size": 8}
        with pytest.warns(BadRecordsWarning):
            got = session.read_records(str(path), on_bad_record=policy, **options).to_arrow()
        assert [tuple(r.values()) for r in got.to_pylist()] == rows
        assert session.last_run is not None
        assert session.last_run.bad_records == 1
        with pytest.raises(BadRecordError, match=r"byte offset 8.*not valid UTF-8"):
            session.read_records(str(path), **options).to_arrow()
