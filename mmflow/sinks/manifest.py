"""`_mmflow_manifest.json`: what a committed folder holds, and which run wrote it.

    {"mmflow_manifest": 1, "run": "...", "format": "parquet", "partition_by": ["k"],
     "schema": [{"name": "v", "type": "int64"}, ...], "rows": 3, "bytes": 812,
     "files": [{"path": "k=a/part-00000.parquet", "rows": 3, "bytes": 812, "run": "..."}]}

`rows` of a file is null where mmflow did not write it (appending to a folder of other files).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.formats.schema import public_schema
from mmflow.sinks.base import SUFFIXES, SinkSpec, StagedFile

__all__ = ["NAME", "data_files", "foreign_file", "make", "read", "write"]

NAME = "_mmflow_manifest.json"
_VERSION = 1


def make(
    spec: SinkSpec, run: str, files: Sequence[StagedFile], schema: pa.Schema, before: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The manifest of a commit: the files `before` it, then its own."""
    own = [{"path": f.path, "rows": f.rows, "bytes": f.nbytes, "run": run} for f in files]
    every = [*before, *own]
    rows = [f["rows"] for f in every]
    return {
        "mmflow_manifest": _VERSION,
        "run": run,
        "format": spec.format,
        "partition_by": list(spec.partition_by),
        "schema": [{"name": f.name, "type": str(f.type)} for f in public_schema(schema)],
        "rows": None if None in rows else sum(rows),
        "bytes": sum(f["bytes"] for f in every),
        "files": every,
    }


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write it durably and in one step.

    Raises:
        OSError: As the system says.
    """
    temporary = folder / f"{NAME}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / NAME)


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None if there is none.

    Raises:
        SinkError: It is damaged, or of a later mmflow.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise SinkError(f"{path} is damaged ({error}); delete it if the folder's files are right") from error
    if not isinstance(found, dict) or found.get("mmflow_manifest") != _VERSION:
        raise SinkError(f"{path} was written by another version of mmflow; write to another folder")
    return found


def data_files(folder: Path) -> list[dict[str, Any]]:
    """Entries for the files of a folder that has no manifest, sorted by path."""
    found = []
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not _is_hidden(name):
                path = Path(here, name)
                relative = path.relative_to(folder).as_posix()
                found.append({"path": relative, "rows": None, "bytes": path.stat().st_size, "run": None})
    return found


def foreign_file(folder: Path) -> str | None:
    """A file that no writer of data sets would have made, if the folder holds one.

    Replacing a folder deletes all that is in it: it must look like an output, not like somebody's home.
    """
    suffixes = tuple(s for every in SUFFIXES.values() for s in every)
    for here, folders, names in os.walk(folder):
        for name in sorted(names):
            if not _is_hidden(name) and not name.lower().endswith(suffixes):
                return os.path.join(here, name)
        hidden = [f for f in folders if f.startswith(".") and not f.startswith("._")]
        if hidden:
            return os.path.join(here, min(hidden))
    return None


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))
