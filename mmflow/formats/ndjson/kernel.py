"""The NDJSON kernel behind `RecordDecoder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.kernel_types import (
    EXTRA_TYPE,
    KernelDecoder,
    kernel_filters,
    nested_kernel_type,
)
from mmflow.formats.ndjson.decoder import NdjsonDecoder
from mmflow.formats.ndjson.values import EXTRA
from mmflow.formats.schemas.json_type import plain_type
from mmflow.kernels import kernels

__all__ = ["ndjson_decoder"]


def ndjson_decoder(
    columns: tuple[str, ...],
    schema: pa.Schema,
    policy: BadRecordPolicy,
    *,
    closed: bool,
    check_all: bool = False,
    exact: bool = False,
    extra: bool = False,
    prune: Sequence[Comparison] = (),
) -> RecordDecoder:
    """Return the fastest decoder for the given file: the kernel, except for types that it does not know.

    Args:
        columns: Wanted fields of the top level.
        schema: Schema of all fields.
        policy: Policy for bad records.
        closed: A field that is not in the schema makes a record bad.
        check_all: Fit every field to its type, whatever is wanted.
        exact: A whole number that a float would round does not fit.
        extra: What the schema has no place for is kept in the column `_extra`, and makes no record bad.
        prune: Rows that don't meet these conditions may be left out; where `check_all` or the policy ask for
            every record's values, none are.
    """
    reference = NdjsonDecoder(columns, schema, policy, closed=closed, check_all=check_all, exact=exact,
                              extra=extra)  # fmt: skip
    keeps = extra and EXTRA in columns
    closed = keeps if extra else closed
    converted = (
        tuple(schema.names) if check_all or keeps else tuple(c for c in columns if c != EXTRA or not extra)
    )
    types = {c: nested_kernel_type(schema.field(c).type, exact=exact, closed=closed) for c in converted}
    if any(t is None for t in types.values()):
        return reference
    if check_all or policy != "error":
        prune = ()
    conditions = kernel_filters(prune, schema, exact=exact)
    read = dict.fromkeys([*converted, *(name for name, *_ in conditions)])
    slots = {name: slot for slot, name in enumerate(read)}
    keys = [(name.encode(), slots.get(name, -1)) for name in (schema.names if closed else slots)]
    targets = [(slots[c], types[c]) for c in converted]
    fields = [pa.field(c, plain_type(schema.field(c).type)) for c in converted]
    if keeps:
        targets.append((len(slots), EXTRA_TYPE))
        fields.append(pa.field(EXTRA, pa.string_view()))
    filters = [(slots[name], *rest) for name, *rest in conditions]

    def reader(located: bool) -> Any:
        slot = len(slots) if keeps else -1
        return kernels().JsonReader(keys, closed, len(slots) + keeps, targets, filters, located, slot)

    return KernelDecoder(reference, pa.schema(fields), reader)
