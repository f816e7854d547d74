"""The type `json`: a value of any kind, as text of JSON.

Plans and users have it as text; schemas of formats mark it by Arrow's extension type `arrow.json`, at any depth.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

__all__ = ["JSON", "holds_json", "is_json", "keep_json", "plain_type"]

JSON = pa.json_(pa.string())


def is_json(kind: pa.DataType) -> bool:
    """Return whether a type is `json`."""
    return isinstance(kind, pa.JsonType)


def holds_json(kind: pa.DataType) -> bool:
    """Return whether a type is `json`, or holds it at some depth."""
    if is_json(kind):
        return True
    return pa.types.is_nested(kind) and any(holds_json(kind.field(i).type) for i in range(kind.num_fields))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that plans see: text instead of `json`, at every depth."""
    return _mapped(kind, kind, lambda _: pa.string_view()) if holds_json(kind) else kind


def keep_json(given: pa.DataType, made: pa.DataType) -> pa.DataType:
    """Return type `made`, which was derived from `given`, with `json` where that has it."""
    return _mapped(given, made, lambda _: JSON) if holds_json(given) else made


def _mapped(
    given: pa.DataType, made: pa.DataType, change: Callable[[pa.DataType], pa.DataType]
) -> pa.DataType:
    types = pa.types
    if is_json(given):
        return change(made)
    if types.is_struct(given):
        pairs = zip(given, made, strict=True)
        return pa.struct([pa.field(g.name, _mapped(g.type, m.type, change)) for g, m in pairs])
    if types.is_map(given):
        return pa.map_(made.key_type, _mapped(given.item_type, made.item_type, change))
    if types.is_list(given):
        return pa.list_(_mapped(given.value_type, made.value_type, change))
    if types.is_large_list(given):
        return pa.large_list(_mapped(given.value_type, made.value_type, change))
    return made
