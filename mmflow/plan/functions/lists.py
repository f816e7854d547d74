"""Functions of lists that DataFusion 55 lacks, or computes otherwise: over the items of each list, in one pass.

[[3, null], [], null]     values 3, null; lengths 2, 0, 0; the last list is missing
  unique, sum, slice ...  places of items in the values, or one value for each list
a list, or an array, with the same lists missing
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import without_views
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.errors import build_refusal
from mmflow.plan.functions.base import PlanFunction
from mmflow.plan.functions.float_codes import encode_floats

__all__ = ["ListFunction", "Lists", "list_array", "type_digest"]

_I64 = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def type_digest(*values: object) -> str:
    """Return a name for types and options, for the name of a function in plans."""
    import hashlib  # noqa: PLC0415  (slow: OpenSSL)

    return hashlib.blake2b(repr(values).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists as the values of all, without views, and where the items of each stand among them.

    Attributes:
        values: Values, some of which may be items of no list.
        starts, lengths: Place of the first item, and number of items, of each list.
        missing: Whether a list is null; it has no items then.
    """

    values: pa.Array
    starts: _I64
    lengths: _I64
    missing: _Flags

    @classmethod
    def of(cls, array: pa.Array) -> Lists:
        """Return the lists of an array of lists."""
        array = without_views(array)
        offsets = numpy_values(array.offsets.cast(pa.int64()))
        missing = null_places(array)
        lengths = np.where(missing, 0, offsets[1:] - offsets[:-1])
        return cls(array.values, offsets[:-1], lengths, missing)

    @property
    def parents(self) -> _I64:
        """Number of the list of each item, in the order of lists and items."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def within(self) -> _I64:
        """Place of each item in its list."""
        before = np.cumsum(self.lengths) - self.lengths
        return np.arange(self.lengths.sum()) - np.repeat(before, self.lengths)

    @property
    def places(self) -> _I64:
        """Place of each item among the values."""
        return np.repeat(self.starts, self.lengths) + self.within

    def items(self) -> pa.Array:
        """Return the items of all lists, one list behind the other."""
        return self.values.take(pa.array(self.places))

    def known(self) -> tuple[pa.Array, _I64]:
        """Return the items that are not null, and how many each list has."""
        items = self.items()
        valid = ~null_places(items)
        return items.filter(pa.array(valid)), np.bincount(self.parents[valid], minlength=len(self.lengths))


def list_array(kind: pa.DataType, items: pa.Array, lengths: _I64, missing: _Flags) -> pa.Array:
    """Return lists of a type, made of the items of one behind those of the other."""
    large = pa.types.is_large_list(kind)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if not large and offsets[-1] > np.iinfo(np.int32).max:
        raise build_refusal("a batch of lists would have more than 2,147,483,647 items")
    array = pa.LargeListArray if large else pa.ListArray
    ends = pa.array(offsets, pa.int64() if large else pa.int32())
    made = array.from_arrays(ends, items, mask=pa.array(missing))
    return made if made.type == kind else convert_array(made, kind)


class ListFunction(PlanFunction):
    """Function of lists, and of what else it takes.

    Args:
        operation: Name in `_COMPUTE`.
        arguments: Types of the arguments; the first is the lists'.
        result: Type of the result.
        options: Further arguments, which are the same for all rows.
    """

    def __init__(
        self,
        operation: str,
        arguments: tuple[pa.DataType, ...],
        result: pa.DataType,
        options: tuple[Any, ...] = (),
    ) -> None:
        compute = _COMPUTE[operation]

        def call(*arrays: pa.Array) -> pa.Array:
            made = compute(result, Lists.of(arrays[0]), *arrays[1:], *options)
            return made if made.type == result else convert_array(without_views(made), result)

        name = f"mmflow_list_{operation}_{type_digest(arguments, result, options)}"
        super().__init__(name, call, arguments, result, (operation, arguments, result, options))


# ---- other lists of the same items ----------------------------------------------------------------------------


def _part(kind: pa.DataType, lists: Lists, offset: int, length: int | None) -> pa.Array:
    counts = lists.lengths
    start = np.full(len(counts), offset) if offset >= 0 else offset + counts
    end = counts if length is None else start + length
    start, end = np.clip(start, 0, counts), np.clip(end, 0, counts)
    return _picked(kind, Lists(lists.values, lists.starts + start, np.maximum(0, end - start), lists.missing))


def _picked(kind: pa.DataType, lists: Lists) -> pa.Array:
    return list_array(kind, lists.items(), lists.lengths, lists.missing)


def _reverse(kind: pa.DataType, lists: Lists) -> pa.Array:
    places = np.repeat(lists.starts + lists.lengths - 1, lists.lengths) - lists.within
    return list_array(kind, lists.values.take(pa.array(places)), lists.lengths, lists.missing)


def _sort(kind: pa.DataType, lists: Lists, descending: bool, nulls_last: bool) -> pa.Array:
    items = lists.items()
    made = items.take(_order(items, lists.parents, descending=descending, nulls_last=nulls_last))
    return list_array(kind, made, lists.lengths, lists.missing)


def _order(items: pa.Array, parents: _I64, *, descending: bool = False, nulls_last: bool = True) -> pa.Array:
    """Return places of items in the order of their lists and, in each of them, of the values."""
    table = pa.table({"list": pa.array(parents), "item": _comparable(items)})
    nulls = "at_end" if nulls_last else "at_start"
    keys = [("list", "ascending", nulls), ("item", "descending" if descending else "ascending", nulls)]
    return pc.sort_indices(table, sort_keys=keys)


def _comparable(items: pa.Array) -> pa.Array:
    """Return values in the order of others, in which pyarrow can sort them and tells which are equal."""
    kind = items.type
    if pa.types.is_floating(kind):
        return encode_floats(items.cast(pa.float64()))
    return items.cast(pa.int8()) if pa.types.is_boolean(kind) else items


def _first_of_each(lists: Lists, items: pa.Array) -> _I64:
    """Return the places of items that no equal one stands before in its list; null equals null, and NaN NaN."""
    codes = numpy_values(_comparable(items).dictionary_encode(null_encoding="encode").indices)
    keys = lists.parents * (int(codes.max(initial=0)) + 1) + codes
    _, first = np.unique(keys, return_index=True)
    return np.sort(first)


def _unique(kind: pa.DataType, lists: Lists) -> pa.Array:
    items = lists.items()
    first = _first_of_each(lists, items)
    lengths = np.bincount(lists.parents[first], minlength=len(lists.lengths))
    return list_array(kind, items.take(pa.array(first)), lengths, lists.missing)


def _concat(kind: pa.DataType, lists: Lists, *others: pa.Array) -> pa.Array:
    parts = [lists, *map(Lists.of, others)]
    missing = np.any([p.missing for p in parts], axis=0)
    parts = [Lists(p.values, p.starts, np.where(missing, 0, p.lengths), missing) for p in parts]
    total = np.sum([p.lengths for p in parts], axis=0)
    places = np.empty(total.sum(), np.int64)
    at, before = np.cumsum(total) - total, 0
    for part in parts:
        places[np.repeat(at, part.lengths) + part.within] = part.places + before
        at, before = at + part.lengths, before + len(part.values)
    items = pa.concat_arrays([p.values for p in parts]).take(pa.array(places))
    return list_array(kind, items, total, missing)


# ---- one value for each list --------------------------------------------------------------------------------


def _get(kind: pa.DataType, lists: Lists, index: pa.Array, null_on_oob: bool) -> pa.Array:
    missing = lists.missing | null_places(index)
    wanted = np.where(missing, 0, numpy_values(index))
    place = np.where(wanted < 0, wanted + lists.lengths, wanted)
    outside = ~missing & ((place < 0) | (place >= lists.lengths))
    if outside.any() and not null_on_oob:
        row = int(np.flatnonzero(outside)[0])
        raise build_refusal(
            f"list.get({wanted[row]}): a list has {lists.lengths[row]} items; null_on_oob=True gives null there"
        )
    places = lists.starts + place
    return lists.values.take(pa.array(np.where(outside | missing, 0, places), mask=outside | missing))


def _n_unique(kind: pa.DataType, lists: Lists) -> pa.Array:
    first = _first_of_each(lists, lists.items())
    counts = np.bincount(lists.parents[first], minlength=len(lists.lengths))
    return pa.array(counts, kind, mask=lists.missing)


def _extreme(kind: pa.DataType, lists: Lists, greatest: bool) -> pa.Array:
    items, counts = lists.known()
    order = numpy_values(_order(items, np.repeat(np.arange(len(counts)), counts)))
    ends = np.cumsum(counts)
    at = ends - 1 if greatest else ends - counts
    nothing = counts == 0
    places = order[at[~nothing]]
    picked = np.zeros(len(counts), np.int64)
    picked[~nothing] = places
    return items.take(pa.array(picked, mask=nothing))


def _sum(kind: pa.DataType, lists: Lists) -> pa.Array:
    items, counts = lists.known()
    if pa.types.is_decimal(kind):
        return _decimal_sums(kind, items, counts, lists.missing)
    if pa.types.is_duration(kind):
        return _sum(pa.int64(), _with_values(lists, lists.values.cast(pa.int64()))).cast(kind)
    values = numpy_values(items.cast(kind))
    if pa.types.is_integer(kind) and len(values):
        most = max(abs(int(values.max())), abs(int(values.min()))) * int(counts.max())
        if most > np.iinfo(values.dtype).max:
            return _integer_sums(kind, values, counts, lists.missing)
    return pa.array(_reduced(np.add, values, counts, 0), kind, mask=lists.missing)


def _with_values(lists: Lists, values: pa.Array) -> Lists:
    return Lists(values, lists.starts, lists.lengths, lists.missing)


def _reduced(operation: Any, values: npt.NDArray[Any], counts: _I64, nothing: Any) -> npt.NDArray[Any]:
    """Return one value for each list of what an operation makes of its values; `nothing` where it has none."""
    made = np.full(len(counts), nothing, values.dtype)
    some = counts > 0
    if some.any():
        made[some] = operation.reduceat(values, (np.cumsum(counts) - counts)[some])
    return made


def _integer_sums(kind: pa.DataType, values: npt.NDArray[Any], counts: _I64, missing: _Flags) -> pa.Array:
    sums = [sum(part.tolist()) for part in np.split(values, np.cumsum(counts)[:-1])]
    try:
        return pa.array(sums, kind, mask=missing)
    except (pa.ArrowInvalid, OverflowError):
        worst = max(sums, key=abs)
        raise build_refusal(f"overflow: the sum of a list does not fit {kind}: {worst}") from None


def _decimal_sums(kind: pa.DataType, items: pa.Array, counts: _I64, missing: _Flags) -> pa.Array:
    values, at, sums = items.to_pylist(), 0, []
    for count in counts.tolist():
        sums.append(sum(values[at : at + count], Decimal(0)))
        at += count
    try:
        return pa.array(sums, kind, mask=missing)
    except pa.ArrowInvalid:
        raise build_refusal(f"overflow: the sum of a list does not fit {kind}") from None


def _mean(kind: pa.DataType, lists: Lists) -> pa.Array:
    items, counts = lists.known()
    sums = _reduced(np.add, numpy_values(items.cast(kind, safe=False)), counts, 0.0)
    return pa.array(sums / np.maximum(1, counts), kind, mask=counts == 0)


def _any(kind: pa.DataType, lists: Lists) -> pa.Array:
    items, counts = lists.known()
    return pa.array(_reduced(np.logical_or, numpy_values(items), counts, False), kind, mask=lists.missing)


def _all(kind: pa.DataType, lists: Lists) -> pa.Array:
    items, counts = lists.known()
    return pa.array(_reduced(np.logical_and, numpy_values(items), counts, True), kind, mask=lists.missing)


_COMPUTE: dict[str, Callable[..., pa.Array]] = {
    "part": _part, "reverse": _reverse, "sort": _sort, "unique": _unique, "concat": _concat, "get": _get,
    "n_unique": _n_unique, "extreme": _extreme, "sum": _sum, "mean": _mean, "any": _any, "all": _all,
}  # fmt: skip
