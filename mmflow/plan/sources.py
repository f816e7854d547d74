"""Sources: files with a format and options, the columns of the files and those in their paths.

    schema= names       what it is
    columns of files    found in the first, and in a few others, which must have the same ones
    folders name=value  a column each, if no column of the files is called so (`formats.schemas.hive`)

With `schema=` the source has exactly the columns that it names, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats import Format, open_format, proposing, with_dialect
from mmflow.formats.row_groups import declared_schema
from mmflow.formats.schemas.file_columns import UNION
from mmflow.formats.schemas.hive import HiveColumns, hive_names, hive_types
from mmflow.formats.schemas.schema import canonical_type
from mmflow.plan.stages import BadFile, Source
from mmflow.remote.opening import open_file
from mmflow.storage.url import is_url

__all__ = ["is_true", "open_source"]

#: Options about paths, which no format has.
_PATHS = ("hive", "hive_types")

#: Files whose columns are looked at before anything runs; the others' when they are read.
_LOOKED_AT = 8


def open_source(
    files: tuple[str, ...],
    name: str,
    label: str,
    storage: str,
    options: Mapping[str, object],
    skipped: Sequence[BadFile] = (),
) -> Source:
    """Open files as one source.

    Args:
        files: Paths or URLs in reading order; at least one.
        name: Name of the format.
        label: Name of the source for people.
        storage: Options of the file system (see `Source`).
        options: Options of the format; also `schema`, `hive` (true): folders `name=value` of the paths are columns, and
            `hive_types`: types of these; `skip_bad_files` (false): files that can't be read are left out.
        skipped: Files that were left out before.

    Raises:
        SourceError: A file can't be read, is not of the format, or has other columns than the first; or lies in other
            folders.
        ConfigError: An unknown format, option or type, or a value that does not fit.
        SinkError: The manifest of an output of mmflow is damaged.
    """
    given = dict(options)
    try:
        skipped = tuple(skipped)
        if is_true("skip_bad_files", given.pop("skip_bad_files", False)):
            from mmflow.plan.bad_files import without_bad_files  # noqa: PLC0415  (slow)

            files, found = without_bad_files(files, name, {k: v for k, v in given.items() if k not in _PATHS})
            skipped += found
        return replace(_open(files, name, label, storage, given), skipped=skipped)
    except SourceError as error:
        raise proposing(error, name, options) from error.__cause__


def _open(files: tuple[str, ...], name: str, label: str, storage: str, given: dict[str, object]) -> Source:
    declared = given.pop("schema", None)
    folders = hive_names(files) if is_true("hive", given.pop("hive", True)) else ()
    typed = _hive_types(given.pop("hive_types", None), folders)
    given, sniffed = with_dialect(name, files, given)
    if not folders:
        made = open_format(name, files, declared, **given)
        _look(made, files)
        return Source(files, made, label, storage=storage, sniffed=sniffed)
    if declared is None or declared == UNION:
        made = open_format(name, files, declared, **given)
        names = tuple(n for n in folders if n not in made.schema.names)
        schema = made.schema
    else:
        schema = declared_schema(declared)
        schema = pa.schema([*schema, *(f for f in typed if f.name not in schema.names)])
        named = [n for n in schema.names if n in folders]
        inside = _columns(name, files, given) if named else ()
        names = tuple(n for n in named if n not in inside)
        made = open_format(name, files, pa.schema([f for f in schema if f.name not in names]), **given)
        schema = pa.schema([*schema, *(f for f in made.schema if f.name not in schema.names)])
    _look(made, files)
    if not names:
        return Source(files, made, label, storage=storage, sniffed=sniffed)
    if declared is None or declared == UNION:
        from mmflow.sinks.commit.manifest import partition_types  # noqa: PLC0415  (slow)

        found = hive_types(files, names) | partition_types(files)
        schema = pa.schema([*schema, *(pa.field(n, canonical_type(found[n])) for n in names)])
    schema = pa.schema(
        [typed.field(f.name) if f.name in names and f.name in typed.names else f for f in schema]
    )
    hive = HiveColumns(schema, names)
    hive.check(files)
    return Source(files, made, label, storage=storage, hive=hive, sniffed=sniffed)


def is_true(key: str, value: object) -> bool:
    """Return the value of an option that is true or false, which may be text.

    Raises:
        ConfigError: It is neither.
    """
    if str(value).lower() not in ("true", "false"):
        raise ConfigError(f"{key} = {value!r}: must be true or false")
    return str(value).lower() == "true"


def _hive_types(given: Any, folders: Sequence[str]) -> pa.Schema:
    """Return the types that the option `hive_types` gives to columns of folders.

    Raises:
        ConfigError: It is no schema, or names a folder that is not there.
    """
    if given is None:
        return pa.schema([])
    typed = declared_schema(given)
    for name in typed.names:
        if name not in folders:
            has = (
                f"the files lie in {', '.join(f'{n}=…' for n in folders)}"
                if folders
                else "the files lie in none"
            )
            raise ConfigError(f"hive_types names {name!r}, and no folder of the paths is {name}=…; {has}")
    return typed


def _columns(name: str, files: Sequence[str], options: Mapping[str, object]) -> Sequence[str]:
    """Return the columns in the first file, as far as it has their names."""
    try:
        return open_format(name, files[:1], **options).schema.names  # type: ignore[no-any-return]  # pyarrow has no types
    except SourceError:  # empty, say: with a declared schema that is all right
        return ()


def _look(made: Format, files: Sequence[str]) -> None:
    """Check the columns of a few files: the next, and the last ones."""
    half = _LOOKED_AT // 2
    others = files[1:]
    for path in dict.fromkeys((*others[:half], *others[-half:])):
        if not is_url(path):
            with open_file(path) as file:
                made.check(file)
