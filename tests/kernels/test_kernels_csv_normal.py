"""The kernel that makes odd CSV canonical does what `csv.normal` says, at every instruction set and place of the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.formats.csv.normal import cut_record, skip_blank
from mmflow.formats.csv.normalising import NULL_TEXT, canonical_dialect, kernel_arguments
from mmflow.formats.csv.structure import BLANKS, Dialect
from mmflow.kernels import kernels

_NULL = NULL_TEXT.encode()


@dataclass
class Normal:
    """Canonical text, and what the tables of the kernel say."""

    text: bytes = b""
    consumed: int = 0
    records: int = 0
    places: list[tuple[int, int]] = field(
        default_factory=list
    )  # offsets of a canonical record and of the raw one
    broken: list[list[int]] = field(default_factory=list)
    repairs: list[list[int]] = field(default_factory=list)


def _emitted(value: bytes, quoted: bool, first: bool, made: Dialect) -> bytes:
    delimiter, quote = made.delimiter, made.quote or b""
    odd = value.startswith(quote) or any(b in value for b in (delimiter, b"\n", b"\r"))
    if quoted or (value and (odd or value == _NULL or (first and value[0] == 0))):
        return quote + value.replace(quote, quote * 2) + quote
    return value


def reference(
    data: bytes, stop: int, dialect: Dialect, fields: int, *, final: bool, extra: bool, policy: Any
) -> Normal:
    """Return what the kernel should, one record after the other."""
    made, found = canonical_dialect(dialect), Normal()
    fills = dialect.ragged != "error" or dialect.lenient
    cuts = dialect.ragged in ("truncate", "extra") or dialect.lenient
    at, stop = 0, min(stop, len(data))
    while at < stop:
        at, more = skip_blank(data, at, stop, dialect, final=final)
        if more or at >= stop:
            break
        cut = cut_record(data, at, dialect, fields, final=final)
        if cut is None:
            break
        if cut.blank:
            at = cut.following
            continue
        kept = list(cut.fields)
        if dialect.trailing and len(kept) == fields + 1 and kept[-1] == (b"", False):
            kept.pop()
        code = 0 if dialect.lenient else cut.broken
        if not code and ((len(kept) < fields and not fills) or (len(kept) > fields and not cuts)):
            code = 4
        if code:
            found.broken.append([at, cut.end, code, len(cut.fields), found.records])
        else:
            notes = list(cut.repairs)
            notes += [(len(kept), 6)] if len(kept) < fields else []
            notes += [(fields, 8 if extra else 7)] if len(kept) > fields else []
            found.repairs += [[at, cut.end, found.records, n, kind, len(cut.fields)] for n, kind in notes]
        if not code or policy == "null":
            texts = [_NULL] * fields
            for number, (value, quoted) in enumerate([] if code else kept[:fields]):
                texts[number] = _emitted(value, quoted, number == 0, made)
            if fields == 1 and not extra and not texts[0]:
                texts[0] = _NULL
            if extra:
                surplus = [] if code else kept[fields:]
                texts.append(_emitted(_json(surplus), False, False, made) if surplus else _NULL)
            found.places.append((len(found.text), at))
            found.text += made.delimiter.join(texts) + b"\n"
        found.records += 1
        at = cut.following
        if code and policy == "error":
            break
    found.consumed = at
    return found


def _json(surplus: list[tuple[bytes, bool]]) -> bytes:
    items = [None if not v and not q else v.decode("latin-1") for v, q in surplus]
    text = json.dumps(items, ensure_ascii=False, separators=(",", ":"))
    for short, code in (("\\n", 10), ("\\r", 13), ("\\t", 9)):
        text = text.replace(short, f"\\u{code:04x}")
    return text.encode("latin-1")


def by_kernel(
    data: bytes, stop: int, dialect: Dialect, fields: int, *, final: bool, extra: bool, policy: Any
) -> tuple[Normal, np.ndarray[Any, Any], int]:
    normaliser = kernels().CsvNormaliser(*kernel_arguments(dialect, fields, extra=extra, policy=policy))
    raw, capacity = pa.py_buffer(data), 1 << 16
    out = pa.allocate_buffer(capacity)
    consumed, size, records, lines, needed, *tables = normaliser.normalise(
        raw.address, raw.size, stop, final, out.address, capacity
    )
    assert not needed
    pieces, broken, repairs = (
        np.frombuffer(t, np.int64).reshape(-1, n) for t, n in zip(tables, (4, 5, 6), strict=True)
    )
    text = out.slice(0, size).to_pybytes()
    return Normal(text, consumed, records, [], broken.tolist(), repairs.tolist()), pieces, lines


def _records(text: bytes, dialect: Dialect) -> list[list[tuple[bytes, bool]]]:
    """Return the fields of canonical text, which the decoder of plain CSV reads."""
    made, found, at = canonical_dialect(dialect), [], 0
    while at < len(text):
        cut = cut_record(text, at, made, None, final=True)
        assert cut is not None
        assert not cut.broken
        if not cut.blank:
            found.append(cut.fields)
        at = cut.following
    return found


_TEXT = st.lists(
    st.sampled_from([b"a", b"1", b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b'"', b" ", b"\t", b"#", b"::", b":",
                     b"\\", b"\0", b"\x1d", b"\x1e", b"\x1f", b"abc", b'"x,y"', b"1,2\n", b"x" * 70]),
    max_size=24,
).map(b"".join)  # fmt: skip
#: Mostly regular lines, so that the kernel writes many of them, over several of its blocks of 64 bytes.
_LINES = st.lists(
    st.sampled_from([b"a,b,c\n", b"a,b,c\n", b"a,b,c\n", b"1,2\n", b"1,2,3,4\n", b"a,b,\n", b"a,b,c,\n", b",,\n", b",\n", b"\n", b"a,b,c\r\n",
                     b"a,b,c\r", b'"x,y",b,c\n', b'"q""q",2,"3"\n', b'"two\nlines",b,"c\r"\n', b'"x","y"\n', b'a"b,c,d\n', b'"a" ,b, "c"\n',
                     b" a , b\t,c \r\n", b'# of "x\n', b"  # x\n", b"##\n", b"a\\,b,c\\\\,d\n", b'\\"a,b\\\n,c\n', b'"a\\"b",c,d\n', b"a::b::c\n",
                     b"::::\n", b"a:::b::c\n", b"a::b\n", b"\0a,b,c\n", b"\x1d,b,c\n", b"x" * 70 + b",b,c\n", b"a,b," + b"y" * 40 + b"\n"]),
    min_size=8, max_size=40,
).map(b"".join)  # fmt: skip
_DIALECTS = st.builds(
    Dialect,
    st.sampled_from([b",", b",", b"::", b"\t", BLANKS]),
    st.sampled_from([b'"', b'"', None]),
    st.sampled_from([None, None, b"\\"]),
    st.sampled_from([b"", b"#", b"##"]),
    st.booleans(),
    st.sampled_from(["error", "null", "truncate", "extra"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@pytest.mark.parametrize("simd", kernels().simd_available())
@given(
    data=st.one_of(_TEXT, _LINES), dialect=_DIALECTS, fields=st.integers(1, 3), final=st.booleans(), share=st.floats(0, 1),
    policy=st.sampled_from(["error", "null", "skip"]), extra=st.booleans(),
)  # fmt: skip
def test_canonical_text_is_that_of_the_definition(
    simd: str, data: bytes, dialect: Dialect, fields: int, final: bool, share: float, policy: Any, extra: bool
) -> None:
    kernels().simd_use(simd)
    extra = extra and dialect.ragged == "extra"
    stop = len(data) if share > 0.5 else int(share * 2 * len(data))
    expected = reference(data, stop, dialect, fields, final=final, extra=extra, policy=policy)
    found, pieces, lines = by_kernel(data, stop, dialect, fields, final=final, extra=extra, policy=policy)
    assert found.broken == expected.broken
    assert found.repairs == expected.repairs
    assert (found.consumed, found.records) == (expected.consumed, expected.records)
    assert _records(found.text, dialect) == _records(expected.text, dialect)
    ends = data[: found.consumed]
    assert lines == (ends.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if dialect.returns else ends).count(
        b"\n"
    )
    for out, begin, end, same in pieces.tolist():
        if same:
            raw = data[begin:end].replace(b"\r", b"\n") if dialect.returns else data[begin:end]
            assert found.text[out : out + end - begin] == raw
        else:
            assert begin in {raw for _, raw in expected.places}
