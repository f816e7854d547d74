"""Arrow types of plans: the type that mmflow computes with for each Arrow type, and the one that users get back.

    given                                         in plans             given back
    string, large_string, string_view             string_view          string
    dictionary, run-end encoded, extension        its values           its values
    decimal32, decimal64, float16                 decimal128, float32  as in plans
    list_view, large_list_view                    list, large_list     as in plans
    fixed_size_list                               list                 fixed_size_list
    union, calendar interval, struct<>            null, and a reason   nothing: refused where it is asked for
    all others                                    as given             as given

Lists of a fixed size and refused columns are known by their field's metadata, which DataFusion 55 passes on with a
column wherever its values pass through unchanged, and drops where a function makes new ones.

Invariant: a column of an unsupported type hinders no query that does not read it.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError, PlanError
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.schemas.schema import (
    GIVEN,
    canonical_type,
    public_schema,
    public_type,
    type_text,
    unsupported_type,
)
from mmflow.lazy import array_types as npt

__all__ = [
    "any_type",
    "check_wanted",
    "convert_array",
    "declared_text",
    "is_supported",
    "plan_field",
    "plan_schema",
    "plan_table",
    "plan_type",
    "public_batch",
    "tags",
]

I64 = npt.NDArray[np.int64]

_REFUSED = b"mmflow.refused"
#: Texts for which a cast, which imports pyarrow.compute (45 ms), does not pay.
_FEW_TEXTS = 1000
#: Values that a list with 32-bit offsets may hold.
_MOST_VALUES = (1 << 31) - 1


def plan_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that mmflow computes with for a type that is not refused.

    >>> plan_type(pa.list_(pa.float32(), 3)), plan_type(pa.dictionary(pa.int8(), pa.string()))
    (ListType(list<item: float>), DataType(string_view))
    """
    return _mapped(kind, pa.string_view(), sizes=False)


def _mapped(kind: pa.DataType, text: pa.DataType, *, sizes: bool) -> pa.DataType:
    """Return a type with all that plans don't know replaced, at every depth; lists keep their sizes where `sizes`."""
    types = pa.types

    def inner(child: pa.DataType) -> pa.DataType:
        return _mapped(child, text, sizes=sizes)

    if isinstance(kind, pa.BaseExtensionType):
        return inner(kind.storage_type)
    if types.is_run_end_encoded(kind) or types.is_dictionary(kind):
        return inner(kind.value_type)
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_float16(kind):
        return pa.float32()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return text
    if types.is_binary_view(kind):
        return kind if text == pa.string_view() else pa.binary()
    if types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_type), kind.list_size if sizes else -1)
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(inner(kind.value_type))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(inner(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(f.name, inner(f.type)) for f in kind])
    if types.is_map(kind):
        # Keys of text are no views: DataFusion 55 compares a literal with them as it is (column['key']).
        return pa.map_(_mapped(kind.key_type, pa.string(), sizes=sizes), inner(kind.item_type))
    return kind


def _refusal(kind: pa.DataType) -> str | None:
    """Return why a type is not supported; None where it is."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _refusal(kind.storage_type)
    if types.is_union(kind):
        return "mmflow does not compute with unions"
    if types.is_interval(kind):
        return "mmflow does not compute with calendar intervals"
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _refusal(kind.value_type)
    if types.is_struct(kind):
        if not kind.num_fields:
            return "a struct without fields has no values"
        if len({f.name for f in kind}) < kind.num_fields:
            return "two fields of a struct have the same name"
    if types.is_nested(kind):
        return _first(_refusal(kind.field(i).type) for i in range(kind.num_fields))
    return None


def _first(reasons: Iterable[str | None]) -> str | None:
    return next((why for why in reasons if why is not None), None)


# ---- schemas ------------------------------------------------------------------------------------


def plan_field(field: pa.Field) -> pa.Field:
    """Return the field that plans see: nullable, with no metadata but what `public_schema` needs."""
    why = _refusal(field.type) or unsupported_type(field.type)
    if why is not None:
        shown = {_given(field.type): "", _REFUSED: f"{type_text(field.type)}: {why}"}
        return pa.field(field.name, pa.null(), metadata=shown)
    kind, given = plan_type(field.type), _mapped(field.type, pa.string(), sizes=True)
    if given == public_type(kind):
        return pa.field(field.name, kind)
    return pa.field(field.name, kind, metadata={_given(given): ""})


def _given(kind: pa.DataType) -> bytes:
    """Return the key that says a public type. The type is in the key: where columns meet, DataFusion keeps both."""
    return GIVEN + base64.b64encode(pa.schema([pa.field("", kind)]).serialize().to_pybytes())


def plan_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that plans see."""
    return pa.schema([plan_field(f) for f in schema])


def declared_text(schema: pa.Schema, what: str) -> pa.Schema:
    """Return the types that values of a text format are converted to, for declared ones.

    Args:
        schema: Schema as it was declared.
        what: Name of the format.

    Raises:
        ConfigError: A type can't be had from text.
    """
    fields = []
    for field in schema:
        kind, why = field.type, _refusal(field.type)
        if why is None and any_type(kind, pa.types.is_fixed_size_list):
            why = "lists in text have no fixed size, declare them as list<...>"
        if why is not None:
            raise ConfigError(f"column {field.name!r}: {what} can't be read as {kind}: {why}")
        # Half floats stay: text is rounded to what was declared.
        odd = (
            pa.types.is_decimal32,
            pa.types.is_decimal64,
            pa.types.is_run_end_encoded,
            _is_extension,
            _is_list_view,
        )
        carried = plan_type(kind) if any(any_type(kind, test) for test in odd) else canonical_type(kind)
        fields.append(pa.field(field.name, carried))
    return pa.schema(fields)


def any_type(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a test holds for a type, or for one inside it."""
    nested = pa.types.is_nested(kind) and not isinstance(kind, pa.BaseExtensionType)
    return test(kind) or (nested and any(any_type(kind.field(i).type, test) for i in range(kind.num_fields)))


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def tags(field: pa.Field) -> dict[bytes, bytes] | None:
    """Return what of a field's metadata is ours."""
    metadata = field.metadata
    if metadata is None:
        return None
    return {k: v for k, v in metadata.items() if k == _REFUSED or k.startswith(GIVEN)} or None


def is_supported(field: pa.Field) -> bool:
    """Return whether a column of this field, which `plan_field` gave, can be read."""
    return _REFUSED not in (field.metadata or {})


def check_wanted(fields: Iterable[pa.Field], where: str = "") -> None:
    """Check that all these columns, which a query reads, have supported types.

    Raises:
        PlanError: One can't; says which, its type and why.
    """
    for field in fields:
        why = (field.metadata or {}).get(_REFUSED)
        if why is not None:
            raise PlanError(
                f"{where}column {field.name!r} has type {why.decode()}; name the columns that you want, without this "
                "one, or cast it before it comes here",
                column=field.name,
            )


# ---- arrays -------------------------------------------------------------------------------------


def plan_table(table: pa.Table) -> pa.Table:
    """Return a table with the types that plans know; refused columns are null, and marked.

    Raises:
        pa.ArrowInvalid: A value does not fit its type.
    """
    schema = plan_schema(table.schema)
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        if not is_supported(field):
            columns.append(pa.chunked_array([pa.nulls(len(column))]))
        else:
            chunks = [convert_array(part, field.type) for chunk in column.chunks for part in _short(chunk)]
            columns.append(pa.chunked_array(chunks, field.type))
    if not columns:
        return table
    return pa.Table.from_arrays(columns, schema=schema)


def _short(array: pa.Array) -> Iterable[pa.Array]:
    """Cut an array of lists of a fixed size, so that 32-bit offsets can count the values of each part."""
    if not pa.types.is_fixed_size_list(array.type) or len(array) * array.type.list_size <= _MOST_VALUES:
        return [array]
    rows = max(1, _MOST_VALUES // array.type.list_size)
    return [array.slice(at, rows) for at in range(0, len(array), rows)]


def public_batch(batch: pa.RecordBatch, schema: pa.Schema | None = None) -> pa.RecordBatch:
    """Return a batch with public types; what has them already is not copied.

    Args:
        batch: Batch with the types of plans.
        schema: Schema from `public_schema`; None: that of the batch's own fields.

    Raises:
        PlanError: A list has not the size that its column's type says.
    """
    schema = public_schema(batch.schema) if schema is None else schema
    if not batch.num_columns or schema.equals(batch.schema):
        return batch
    arrays = []
    for array, field in zip(batch.columns, schema, strict=True):
        try:
            arrays.append(convert_array(array, field.type))
        except pa.ArrowInvalid as error:
            raise PlanError(
                f"column {field.name!r} is {field.type}: {error}; wrap what changes it in nullif(..., NULL), "
                "which makes it a list of any size",
                column=field.name,
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def convert_array(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return the values as another type of the same kind: from the given to the plan's, or back.

    pyarrow 26 casts neither dictionaries nor run ends to views, nor lists with nulls to such of a fixed size, and reads
    list views out of bounds.

    Raises:
        pa.ArrowInvalid: A value does not fit the type.
    """
    types, kind = pa.types, array.type
    if kind == wanted:
        return array
    if isinstance(array, pa.ExtensionArray):
        return convert_array(array.storage, wanted)
    if types.is_null(kind):
        return pa.nulls(len(array), wanted)
    if types.is_dictionary(kind):
        return _taken(array.dictionary, array.indices, wanted)
    if types.is_run_end_encoded(kind):
        ends = np.asarray(array.run_ends).astype(np.int64)
        rows = np.arange(array.offset, array.offset + len(array))
        return _taken(array.values, pa.array(np.searchsorted(ends, rows, side="right")), wanted)
    if (
        _is_text(kind)
        and _is_text(wanted)
        and len(array) <= _FEW_TEXTS
        and "pyarrow.compute" not in sys.modules
    ):
        with suppress(UnicodeDecodeError):
            return pa.array(array.to_pylist(), wanted)
    if _plain(kind) and _plain(wanted):
        return array.cast(wanted)
    if types.is_struct(kind) and types.is_struct(wanted) and kind.num_fields == wanted.num_fields:
        children = [convert_array(array.field(i), wanted.field(i).type) for i in range(wanted.num_fields)]
        return pa.Array.from_buffers(wanted, len(array), [_validity(array)], children=children)
    if types.is_map(kind) and types.is_map(wanted):
        return _map(array, wanted)
    if _is_list(kind) and _is_list(wanted):
        return _list(array, wanted)
    return array.cast(wanted)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.string_view())


def _plain(kind: pa.DataType) -> bool:
    """Return whether pyarrow can cast the type."""
    types = pa.types
    odd: tuple[Callable[[pa.DataType], bool], ...] = (
        types.is_dictionary, types.is_run_end_encoded, types.is_fixed_size_list, types.is_list_view,
        types.is_large_list_view,
    )  # fmt: skip
    if isinstance(kind, pa.BaseExtensionType) or any(test(kind) for test in odd):
        return False
    return not types.is_nested(kind) or all(_plain(kind.field(i).type) for i in range(kind.num_fields))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(views or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _validity(array: pa.Array) -> pa.Buffer | None:
    """Return the bits of what is not null, from the first value on."""
    if not array.null_count:
        return None
    return pa.array(numpy_values(array.is_valid())).buffers()[1]


def _taken(values: pa.Array, indices: pa.Array, wanted: pa.DataType) -> pa.Array:
    # By way of plain text: pyarrow 26 can't take from views.
    return convert_array(convert_array(values, public_type(wanted)).take(indices), wanted)


def _map(array: pa.MapArray, wanted: pa.MapType) -> pa.Array:
    offsets = numpy_values(array.offsets).astype(np.int32)
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys = convert_array(array.keys.slice(first, count), wanted.key_type)
    items = convert_array(array.items.slice(first, count), wanted.item_type)
    pairs = pa.StructArray.from_arrays([keys, items], fields=[wanted.key_field, wanted.item_field])
    buffers = [_validity(array), pa.py_buffer(offsets - first)]
    return pa.Array.from_buffers(wanted, len(array), buffers, children=[pairs])


def _list(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return lists of any layout as lists, large lists or such of a fixed size."""
    count, types = len(array), pa.types
    if types.is_fixed_size_list(array.type):
        ends = (np.arange(count + 1, dtype=np.int64) + array.offset) * array.type.list_size
        starts, lengths = ends[:-1], np.diff(ends)
    elif types.is_list(array.type) or types.is_large_list(array.type):
        ends = numpy_values(array.offsets).astype(np.int64)
        starts, lengths = ends[:-1], np.diff(ends)
    else:
        starts = numpy_values(array.offsets)[:count].astype(np.int64)
        lengths = numpy_values(array.sizes)[:count].astype(np.int64)
    missing = None if not array.null_count else ~numpy_values(array.is_valid())
    if types.is_fixed_size_list(wanted):
        values = _sized(array.values, starts, lengths, missing, wanted)
        return pa.Array.from_buffers(wanted, count, [_validity(array)], children=[values])
    joined = count == 0 or bool((starts[1:] == starts[:-1] + lengths[:-1]).all())
    if joined:
        first, total = (int(starts[0]), int(lengths.sum())) if count else (0, 0)
        values = convert_array(array.values.slice(first, total), wanted.value_type)
    else:
        if missing is not None:
            lengths = np.where(missing, 0, lengths)
        values = _taken(array.values, pa.array(_ranges(starts, lengths)), wanted.value_type)
    width: type[np.int32 | np.int64] = np.int64 if types.is_large_list(wanted) else np.int32
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if ends[-1] > _MOST_VALUES and width is np.int32:
        raise pa.ArrowInvalid(f"{count:,} lists with {ends[-1]:,} values are too many for one batch")
    buffers = [_validity(array), pa.py_buffer(ends.astype(width))]
    return pa.Array.from_buffers(wanted, count, buffers, children=[values])


def _ranges(starts: I64, lengths: I64) -> I64:
    """Return the numbers of all ranges, one behind the other.

    >>> _ranges(np.array([5, 0]), np.array([2, 1])).tolist()
    [5, 6, 0]
    """
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(total)


def _sized(
    values: pa.Array, starts: I64, lengths: I64, missing: npt.NDArray[np.bool_] | None, wanted: pa.DataType
) -> pa.Array:
    """Return the values of lists that must be of one size, with nulls in those that are missing."""
    size = wanted.list_size
    wrong = lengths != size
    off = wrong if missing is None else wrong & ~missing
    if off.any():
        raise pa.ArrowInvalid(f"a list has {int(lengths[off][0]):,} values and not {size:,}")
    if not wrong.any() and (len(starts) == 0 or bool((np.diff(starts) == size).all())):
        return convert_array(
            values.slice(int(starts[0]) if len(starts) else 0, size * len(starts)), wanted.value_type
        )
    numbers = (starts[:, None] + np.arange(size)).reshape(-1)
    gaps = None if missing is None else np.repeat(missing, size)
    return _taken(
        values,
        pa.array(np.where(gaps, 0, numbers) if gaps is not None else numbers, mask=gaps),
        wanted.value_type,
    )
