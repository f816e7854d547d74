"""Kernels end a call once its columns hold enough; all calls together give what a single one gives."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from mmflow.formats.csv.decoder import CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.decoding.decoder import Decoded
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.text.kernel import text_decoder
from mmflow.formats.text.lines import TextDecoder

_CHUNK = 64 << 10  # bytes of text between two looks: kChunk
_MOST = 100_000
_ROWS = 30_000


def _csv() -> tuple[bytes, Any]:
    types = CsvTypes(("n", "s"), {"n": pa.int64(), "s": pa.string_view()}, ("",))
    text = "".join(f'{i},"say ""{i}"""\n' if i % 7 == 0 else f"{i},text {i}\n" for i in range(_ROWS))
    return text.encode(), csv_decoder(("n", "s"), types, Dialect(), "error")


def _ndjson() -> tuple[bytes, Any]:
    schema = pa.schema([("n", pa.int64()), ("l", pa.list_(pa.int32())), ("s", pa.string_view())])
    text = "".join(f'{{"n":{i},"l":[1,{i}],"s":"a\\n{i}"}}\n' for i in range(_ROWS))
    return text.encode(), ndjson_decoder(("n", "l", "s"), schema, "error", closed=False)


def _lines() -> tuple[bytes, Any]:
    text = "".join(f"line {i}\n" for i in range(_ROWS))
    return text.encode(), text_decoder(TextDecoder(("line",), "error"), ())


def _calls(decoder: Any, text: bytes) -> list[Decoded]:
    data = pa.py_buffer(text)
    made: list[Decoded] = []
    at = 0
    while at < len(text):
        made.append(decoder.decode(data.slice(at), len(text) - at, final=True, located=False))
        assert made[-1].consumed
        at += made[-1].consumed
    return made


@pytest.mark.parametrize("make", [_csv, _ndjson, _lines])
def test_calls_end_once_columns_hold_enough(make: Any, simd: str) -> None:
    del simd
    text, decoder = make()
    (whole,) = _calls(decoder, text)
    decoder.most_bytes = _MOST
    parts = _calls(decoder, text)
    assert len(parts) > 3
    assert pa.Table.from_batches([p.batch for p in parts]).equals(pa.Table.from_batches([whole.batch]))
    assert (sum(p.records for p in parts), sum(p.lines for p in parts)) == (whole.records, whole.lines)
    for part in parts:
        # Each row takes 16 bytes at least, and each line as many as 7 of text.
        assert part.batch.num_rows * 16 <= _MOST + _CHUNK // 7 * 16


def test_a_call_without_columns_reads_all(simd: str) -> None:
    del simd
    text, _ = _lines()
    decoder: Any = text_decoder(TextDecoder((), "error"), ())
    decoder.most_bytes = 1
    (whole,) = _calls(decoder, text * 20)
    assert whole.batch.num_rows == 20 * _ROWS


def test_rows_end_a_call_that_has_read_enough(simd: str) -> None:
    del simd
    text = b"a line of some length\n" * 400_000
    decoder: Any = text_decoder(TextDecoder(("line",), "error"), ())
    decoder.most_bytes = 1 << 30
    first, *_ = _calls(decoder, text)
    assert 4 << 20 <= first.consumed < (4 << 20) + 2 * _CHUNK
