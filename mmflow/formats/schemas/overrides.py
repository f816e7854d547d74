"""Types that a user gives to some columns of a schema, the others as they are."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from mmflow.errors import ConfigError, suggest

__all__ = ["override_hint", "overriding", "with_overrides"]


def with_overrides(schema: pa.Schema, overrides: pa.Schema | None) -> pa.Schema:
    """Return a schema in which some columns have other types.

    Raises:
        ConfigError: There is no such column.

    >>> found = pa.schema([("a", pa.int64()), ("v", pa.int64())])
    >>> with_overrides(found, pa.schema([("v", pa.string())])).types
    [DataType(int64), DataType(string)]
    """
    if overrides is None:
        return schema
    names = set(schema.names)
    for name in overrides.names:
        if name not in names:
            hint = suggest(name, schema.names[:50], "columns")
            raise ConfigError(f"schema_overrides: there is no column {name!r}; {hint}")
    fields = {field.name: field for field in overrides}
    return pa.schema([fields.get(field.name, field) for field in schema])


def overriding(
    infer: Callable[[str, int], pa.Schema], overrides: pa.Schema | None
) -> Callable[[str, int], pa.Schema]:
    """Return a function that infers the columns of a file, and gives some other types, as far as it has them."""
    if overrides is None:
        return infer
    kinds = {field.name: field for field in overrides}

    def inferred(path: str, piece: int) -> pa.Schema:
        return pa.schema([kinds.get(field.name, field) for field in infer(path, piece)])

    return inferred


def override_hint(column: str) -> str:
    """Return the advice to read a column as text."""
    return f"schema_overrides={{{column!r}: 'string'}} reads this column as text, and the others as they are"
