"""One column of every Arrow type, with nulls in it, and of those that mmflow refuses."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa

__all__ = ["CARRIED", "REFUSED", "column", "shown"]

_UTC = dt.datetime(2024, 7, 1, 12, 30, tzinfo=dt.UTC)
_NAIVE = dt.datetime(1969, 12, 31, 23, 59, 59)
_DAY, _TIME = dt.date(1900, 2, 28), dt.time(23, 59, 59)
_TEXT: list[Any] = ["", "ä", None, "longer than twelve bytes", "x", "x"]
_BYTES = [b"", b"\xff", None, b"longer than twelve bytes", b"\x00", b"\x00"]
_LISTS = [[1, 2], [], None, [None, 3], [4], [5, 6, 7]]
_TRIPLES = [[1.5, 2, 3], [4, 5, 6], None, [7, None, 9], [0, 0, 0], [1.5, 2, 3]]


def _six(*values: Any) -> list[Any]:
    """Six rows of these values, a null among them."""
    cycle = [*values, None]
    return [cycle[i % len(cycle)] for i in range(6)]


_DECIMALS = _six(Decimal("1.25"), Decimal("-3.00"))
#: Type and six values; the first one of a name is what pytest calls it.
CARRIED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "null": (pa.null(), [None] * 6),
    "bool": (pa.bool_(), _six(True, False)),
    **{str(t): (t, _six(0, 127)) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{
        str(t): (t, _six(0, (1 << t.bit_width) - 1))
        for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    **{str(t): (t, _six(1.5, -0.25)) for t in (pa.float16(), pa.float32(), pa.float64())},
    **{str(t): (t, _TEXT) for t in (pa.string(), pa.large_string(), pa.string_view())},
    **{str(t): (t, _BYTES) for t in (pa.binary(), pa.large_binary(), pa.binary_view())},
    "binary[4]": (pa.binary(4), _six(b"abcd", b"\xff\x00\x00\x00")),
    "date32": (pa.date32(), _six(_DAY)),
    "date64": (pa.date64(), _six(_DAY)),
    **{str(t): (t, _six(_TIME)) for t in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))},
    **{f"timestamp[{u}]": (pa.timestamp(u), _six(_NAIVE)) for u in ("s", "ms", "us", "ns")},
    "timestamp[us, UTC]": (pa.timestamp("us", "UTC"), _six(_UTC)),
    "timestamp[ms, Tokyo]": (pa.timestamp("ms", "Asia/Tokyo"), _six(_UTC)),
    **{f"duration[{u}]": (pa.duration(u), _six(dt.timedelta(days=-1))) for u in ("s", "ms", "us", "ns")},
    "decimal32": (pa.decimal32(7, 2), _DECIMALS),
    "decimal64": (pa.decimal64(15, 2), _DECIMALS),
    "decimal128": (pa.decimal128(38, 2), _DECIMALS),
    "decimal256": (pa.decimal256(76, 2), [*_DECIMALS[:5], Decimal(10) ** 70]),
    "list": (pa.list_(pa.int32()), _LISTS),
    "list of text": (pa.list_(pa.string()), [["a", None], [], None, ["longer than twelve bytes"], ["b"], []]),
    "large_list": (pa.large_list(pa.int32()), _LISTS),
    "fixed_size_list": (pa.list_(pa.float32(), 3), _TRIPLES),
    "fixed_size_list[0]": (pa.list_(pa.float32(), 0), _six([])),
    "fixed_size_list of text": (pa.list_(pa.string(), 1), _six(["a"], [None])),
    "list of fixed_size_list": (pa.list_(pa.list_(pa.float32(), 3)), _six([[1, 2, 3], None], [])),
    "struct of fixed_size_list": (pa.struct([("v", pa.list_(pa.float64(), 2))]), _six({"v": [1, 2]}, {"v": None})),
    "list_view": (pa.list_view(pa.int32()), _LISTS),
    "large_list_view": (pa.large_list_view(pa.string()), [["a"], [], None, ["b", None], ["c"], []]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.string())]), _six({"a": 1, "b": None}, {"a": None, "b": "x"})),
    "map": (pa.map_(pa.string(), pa.int32()), _six([("k", 1), ("l", None)], [])),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), _TEXT),
    "dictionary of views": (pa.dictionary(pa.uint32(), pa.string_view()), _TEXT),
    "dictionary of integers": (pa.dictionary(pa.int32(), pa.int64()), _six(5, 6)),
    "list of dictionary": (pa.list_(pa.dictionary(pa.int32(), pa.string())), _six(["a", None], ["b", "a"])),
    "struct of dictionary": (pa.struct([("d", pa.dictionary(pa.int32(), pa.string()))]), _six({"d": "x"})),
    "run_end_encoded": (pa.run_end_encoded(pa.int32(), pa.string()), _TEXT),
    "run_end_encoded of float16": (pa.run_end_encoded(pa.int16(), pa.float16()), _six(1.5, 1.5)),
    "list of float16": (pa.list_(pa.float16()), _six([1.5], [None])),
    "struct of decimal32": (pa.struct([("d", pa.decimal32(7, 2))]), _six({"d": Decimal("1.25")})),
    "extension": (pa.uuid(), _six(bytes(range(16)))),
    "list of extension": (pa.list_(pa.uuid()), _six([bytes(range(16)), None])),
}  # fmt: skip
_UNION = [pa.field("n", pa.int64()), pa.field("t", pa.string())]
REFUSED: dict[str, tuple[pa.DataType, str]] = {
    "dense_union": (pa.dense_union(_UNION), "unions"),
    "sparse_union": (pa.sparse_union(_UNION), "unions"),
    "list of union": (pa.list_(pa.sparse_union(_UNION)), "unions"),
    "calendar interval": (pa.month_day_nano_interval(), "calendar intervals"),
    "struct of interval": (pa.struct([("i", pa.month_day_nano_interval())]), "calendar intervals"),
    "empty struct": (pa.struct([]), "struct without fields"),
    "list of empty struct": (pa.list_(pa.struct([])), "struct without fields"),
    "struct with a name twice": (pa.struct([("a", pa.int8()), ("a", pa.int8())]), "the same name"),
}


def column(name: str) -> pa.Array:
    """Six values of a type of CARRIED or REFUSED."""
    if name in CARRIED:
        kind, values = CARRIED[name]
        if pa.types.is_run_end_encoded(kind):
            plain = pa.array(values, kind.value_type)
            ends = pa.array(range(1, 7), kind.run_end_type)
            return pa.RunEndEncodedArray.from_arrays(ends, plain)
        if pa.types.is_dictionary(kind):
            codes = pa.array(values, kind.value_type if kind.value_type != pa.string_view() else pa.string())
            coded = codes.dictionary_encode()
            return pa.DictionaryArray.from_arrays(
                coded.indices.cast(kind.index_type), coded.dictionary.cast(kind.value_type)
            )
        if name == "list of extension":
            inner = pa.array([v for value in values for v in value or ()], kind.value_type)
            sizes = [0, *(len(v or ()) for v in values)]
            offsets = pa.array([sum(sizes[: i + 1]) for i in range(7)], pa.int32())
            mask = pa.array([v is None for v in values])
            return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=mask)
        return pa.array(values, kind)
    kind = REFUSED[name][0]
    if "union" in name:
        children = [pa.array(range(6), pa.int64()), pa.array(list("abcdef"))]
        tags, offsets = pa.array([0, 1] * 3, pa.int8()), pa.array(range(6), pa.int32())
        if name == "dense_union":
            return pa.UnionArray.from_dense(tags, offsets, children, ["n", "t"])
        made = pa.UnionArray.from_sparse(tags, children, ["n", "t"])
        return (
            made if name == "sparse_union" else pa.ListArray.from_arrays(pa.array(range(7), pa.int32()), made)
        )
    if name == "struct with a name twice":
        return pa.StructArray.from_arrays([pa.array(range(6), pa.int8())] * 2, names=["a", "a"])
    return pa.array([None] * 6, kind)


def shown(kind: pa.DataType) -> pa.DataType:
    """The type that users get back, as docs/formats.md says it."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return shown(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return shown(kind.value_type)
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_fixed_size_list(kind):
        return pa.list_(shown(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(shown(kind.value_type))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(shown(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(f.name, shown(f.type)) for f in kind])
    plain = {
        pa.float16(): pa.float32(),
        pa.large_string(): pa.string(),
        pa.string_view(): pa.string(),
        pa.binary_view(): pa.binary(),
    }
    return plain.get(kind, kind)
