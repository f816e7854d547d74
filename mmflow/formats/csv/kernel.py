"""The CSV kernel behind `RecordDecoder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes, column_positions
from mmflow.formats.csv.kernel_styles import kernel_style
from mmflow.formats.csv.normalising import NULL_TEXT, NormalisingDecoder, canonical_dialect
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.kernel_types import KernelDecoder, kernel_filters, kernel_type
from mmflow.kernels import kernels

__all__ = ["csv_decoder"]


def csv_decoder(
    columns: tuple[str, ...],
    types: CsvTypes,
    dialect: Dialect,
    policy: BadRecordPolicy,
    *,
    check_all: bool = False,
    prune: Sequence[Comparison] = (),
    extra: str | None = None,
) -> RecordDecoder:
    """Return the fastest decoder for the given file: the kernel, except for types that it does not know.

    Files of odd structure are made canonical first, by another kernel.

    Args:
        columns: Wanted columns.
        types: Types of the columns of the file.
        dialect: Dialect of the file.
        policy: Policy for bad records.
        check_all: Convert every column, so that a bad value is found whatever columns are wanted.
        prune: Rows that don't meet these conditions may be left out; where `check_all` or the policy ask for
            every record's values, none are.
        extra: Column of surplus fields, which is none of the file's.
    """
    if not dialect.plain or dialect.escape is not None:
        wanted = (extra, types.types[extra]) if extra is not None and extra in columns else None
        inner = csv_decoder(
            columns,
            _canonical_types(types, dialect, policy, extra, wanted=wanted is not None),
            canonical_dialect(dialect),
            policy,
            check_all=check_all,
            prune=prune,
        )
        return NormalisingDecoder(inner, dialect, types.names, wanted, policy)
    reference = CsvDecoder(columns, types, dialect, policy, check_all=check_all)
    converted = tuple(types.types) if check_all else columns
    kinds = [kernel_type(types.types[c], exact=types.exact) for c in converted]
    if None in kinds or _is_beyond_kernel(types, converted, dialect):
        return reference
    kinds = [_with_style(kind, c, types) for c, kind in zip(converted, kinds, strict=True)]
    if check_all or policy != "error":
        prune = ()
    number = column_positions(types.names)
    targets = [(number[c], kind) for c, kind in zip(converted, kinds, strict=True)]
    filters: list[tuple[Any, ...]] = []
    if prune:
        schema = pa.schema(list(types.types.items()))
        filters = [
            (number[name], _with_style(kind, name, types), *rest)
            for name, kind, *rest in kernel_filters(prune, schema, exact=types.exact)
            if name not in types.styles or kernel_style(types.styles[name]) is not None
        ]
    nulls = [n.encode() for n in types.nulls]
    quote = dialect.quote[0] if dialect.quote else -1

    def reader(located: bool) -> Any:
        return kernels().CsvReader(
            len(types.names), dialect.delimiter[0], quote, targets, filters, nulls, located, types.quoted_null
        )

    return KernelDecoder(reference, pa.schema([(c, types.types[c]) for c in converted]), reader)


def _is_beyond_kernel(types: CsvTypes, columns: Sequence[str], dialect: Dialect) -> bool:
    """Return whether columns are spelled in a way that only the reference reads."""
    styles = [types.styles[c] for c in columns if c in types.styles]
    if any(kernel_style(style) is None for style in styles):
        return True
    # The kernel compares texts as they are written, with doubled quotes.
    nulls = {*types.nulls, *(text for style in styles for text in style.nulls or ())}
    return (
        types.quoted_null
        and dialect.quote is not None
        and any(dialect.quote.decode() in text for text in nulls)
    )


def _with_style(kind: Any, name: str, types: CsvTypes) -> Any:
    style = types.styles.get(name)
    return kind if style is None else (*kind, kernel_style(style))


def _canonical_types(
    types: CsvTypes, dialect: Dialect, policy: BadRecordPolicy, extra: str | None, *, wanted: bool
) -> CsvTypes:
    """Return the types of canonical text, in which surplus fields are JSON, and missing ones a text that means null."""
    kinds = {name: kind for name, kind in types.types.items() if name != extra}
    names = types.names
    if extra is not None and wanted:
        kinds[extra] = pa.string_view()
        names = (*names, extra)
    made = replace(types, names=names, types=kinds)
    if dialect.ragged == "error" and not dialect.lenient and policy != "null":
        return made
    styles = {
        name: style if style.nulls is None else replace(style, nulls=(*style.nulls, NULL_TEXT))
        for name, style in types.styles.items()
    }
    return replace(made, nulls=(*types.nulls, NULL_TEXT), styles=styles)
