"""Manifest (`_mmflow_manifest.json`) of a committed folder: its files, and which run wrote each.

    {"mmflow_manifest": 1, "run": "...", "format": "parquet", "partition_by": ["k"],
     "schema": [{"name": "v", "type": "int64"}, ...], "rows": 3, "bytes": 812,
     "files": [{"path": "k=a/part-00000.parquet", "rows": 3, "bytes": 812, "run": "..."}]}

`rows` of a file is null where mmflow did not write it (appending to a folder of other files).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mmflow.errors import SinkError, SourceError
from mmflow.formats.schemas.schema import parse_type, public_schema, type_text
from mmflow.remote.opening import open_file
from mmflow.sinks.base import SUFFIXES, SinkSpec, StagedFile
from mmflow.sinks.commit.atomic import walk
from mmflow.storage import disk, format_versions
from mmflow.storage.facts import check_shape, optional, parse_object
from mmflow.storage.globs import is_hidden

__all__ = [
    "NAME",
    "data_files",
    "encode",
    "entries",
    "foreign_file",
    "foreign_name",
    "holds_run",
    "make",
    "parse",
    "partition_types",
    "read",
    "write",
]

NAME = "_mmflow_manifest.json"


def _is_below(path: Any) -> bool:
    """Return whether a path stays in the folder: files of a manifest may be deleted, and anybody may write one."""
    return (
        isinstance(path, str)
        and path != ""
        and not path.startswith("/")
        and "\0" not in path
        and ".." not in path.split("/")
    )


_COLUMN = {"name": str, "type": str}
_FILE = {"path": _is_below, "rows": optional(int), "bytes": int, "run": optional(str)}
_SHAPE = {"run": optional(str), "partition_by": [str], "schema": [_COLUMN], "files": [_FILE]}
_DATA = tuple(s for every in SUFFIXES.values() for s in every)


def make(
    spec: SinkSpec, run: str, files: Sequence[StagedFile], schema: pa.Schema, before: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the manifest of a commit: the files `before` it, then its own."""
    own = [{"path": f.path, "rows": f.rows, "bytes": f.nbytes, "run": run} for f in files]
    every = [*before, *own]
    rows = [f.get("rows") for f in every]
    return {
        "mmflow_manifest": format_versions.MANIFEST.version,
        "run": run,
        "format": spec.format,
        "partition_by": list(spec.partition_by),
        "schema": [{"name": f.name, "type": type_text(f.type)} for f in public_schema(schema)],
        "rows": None if None in rows else sum(rows),
        "bytes": sum(f["bytes"] for f in every),
        "files": every,
    }


def encode(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as the bytes of its file."""
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest durably and atomically.

    Raises:
        OSError: The system refuses.
    """
    temporary = folder / f"{NAME}.tmp"
    # One that a dead run left, or a link: it must not be written through.
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(temporary)
    disk.write_file(temporary, encode(manifest), flags=os.O_EXCL, sync=True)
    disk.replace(temporary, folder / NAME)


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder, None if there is none.

    Raises:
        SinkError: It is damaged, or written by another version of mmflow.
    """
    path = folder / NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse(text, str(path))


def parse(text: bytes, path: str) -> dict[str, Any]:
    """Parse a manifest from the bytes of its file.

    Raises:
        SinkError: It is damaged, or written by another version of mmflow.
    """
    try:
        found = parse_object(text, {})
        format_versions.MANIFEST.check(found.get("mmflow_manifest"), SinkError, path)
        return check_shape(found, _SHAPE)
    except ValueError as error:
        raise SinkError(f"{path} is damaged ({error}); delete it if the folder's files are right") from error


def holds_run(manifest: dict[str, Any], run: str) -> bool:
    """Return whether a run has committed to the folder, and what it wrote is still there, or was written last.

    Another run may have appended since, before the driver that died was resumed.
    """
    return manifest.get("run") == run or any(file.get("run") == run for file in manifest["files"])


def partition_types(paths: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the types with which mmflow wrote the `name=value` folder columns of these files.

    A column is left out where not all of the files lie in folders whose manifest names it, and with the same type.

    Raises:
        SinkError: A manifest is damaged, or written by another version of mmflow.
    """
    known: dict[str, dict[str, pa.DataType]] = {}
    every: list[dict[str, pa.DataType]] = []
    for folder in dict.fromkeys(os.path.dirname(path) for path in paths):
        found: dict[str, pa.DataType] = {}
        parts = folder.split("/")
        for number, part in enumerate(parts):
            name = part.partition("=")[0]
            if "=" in part and unquote(name) not in found:
                root = "/".join(parts[:number])
                if root not in known:
                    known[root] = _written_types(root)
                found |= known[root]
        if found not in every:
            every.append(found)
    first, *others = every
    return {name: kind for name, kind in first.items() if all(types.get(name) == kind for types in others)}


def _written_types(root: str) -> dict[str, pa.DataType]:
    """Return the types of a folder's partition columns; none where mmflow did not write it."""
    try:
        with open_file(f"{root}/{NAME}" if root else NAME) as file:
            text = file.window(0, file.size).buffer.to_pybytes()
    except SourceError:  # there is none
        return {}
    found = parse(text, f"{root}/{NAME}")
    types = {column["name"]: column["type"] for column in found["schema"]}
    return {name: parse_type(types[name]) for name in found["partition_by"] if name in types}


def data_files(folder: Path) -> list[dict[str, Any]]:
    """Return manifest entries for the files of a folder that has no manifest, sorted by path."""
    found = []
    for here, folders, names in walk(folder):
        folders.sort()
        for name in sorted(names):
            if not is_hidden(name):
                path = Path(here, name)
                relative = path.relative_to(folder).as_posix()
                found.append({"path": relative, "rows": None, "bytes": path.stat().st_size, "run": None})
    return found


def entries(sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return manifest entries for objects that no manifest names, without hidden ones and those in hidden folders."""
    shown = [name for name in sorted(sizes) if not any(map(is_hidden, name.split("/")))]
    return [{"path": name, "rows": None, "bytes": sizes[name], "run": None} for name in shown]


def foreign_name(names: Iterable[str]) -> str | None:
    """Return an object's name that no writer of data sets would have made; None if there is none."""
    for name in sorted(names):
        *folders, last = name.split("/")
        if any(f.startswith(".") and not f.startswith("._") for f in folders):
            return name
        if not is_hidden(last) and not last.lower().endswith(_DATA):
            return name
    return None


def foreign_file(folder: Path) -> str | None:
    """Return a file that no writer of data sets would have made; None if the folder holds none.

    Replacing a folder deletes everything in it, so it must look like an output, not like a home directory.
    """
    for here, folders, names in walk(folder):
        for name in sorted(names):
            if not is_hidden(name) and not name.lower().endswith(_DATA):
                return os.path.join(here, name)
        hidden = [f for f in folders if f.startswith(".") and not f.startswith("._")]
        if hidden:
            return os.path.join(here, min(hidden))
    return None
