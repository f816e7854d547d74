"""Checks of a destination in an object store before anything is computed for it.

As for local destinations (`sinks/commit/destination.py`), all of it runs under the lock, after the recovery of
stale runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmflow.errors import SinkError
from mmflow.sinks.base import SinkSpec
from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.destination_store import DestinationStore
from mmflow.sinks.commit.object_paths import ObjectPaths
from mmflow.storage.url import is_url

__all__ = [
    "check_no_object",
    "check_objects",
    "check_url_sources",
    "content_hash",
    "destination_objects",
    "is_published",
]


def destination_objects(store: DestinationStore, paths: ObjectPaths) -> dict[str, int]:
    """Return the objects at the destination, without lock and staging, with their sizes in bytes."""
    if paths.file:
        info = store.info(paths.file)
        return {} if info is None else {paths.file: int(info["size"] or 0)}
    return {name: size for name, size in store.sizes().items() if not paths.is_internal(name)}


def content_hash(info: Mapping[str, Any]) -> str | None:
    """Return the hash of an object's bytes where the store gives one (an ETag without parts); else None."""
    etag = str(info.get("ETag") or "").strip('"')
    return etag if etag and "-" not in etag else None


def is_published(store: DestinationStore, paths: ObjectPaths, intents: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the object at the destination is a file that this run was about to publish, as far as known."""
    info = store.info(paths.file) if intents else None
    if info is None:
        return False
    there = content_hash(info)
    return any(
        info["size"] == intent.get("bytes")
        and (None in (intent.get("etag"), there) or there == intent["etag"])
        for intent in intents
    )


def check_no_object(store: DestinationStore, spec: SinkSpec) -> None:
    """Check, before the lock is taken below it, that no object has the name of the output folder.

    Raises:
        SinkError: There is an object of that name.
    """
    if spec.is_folder and store.info() is not None:
        path = spec.path.rstrip("/")
        raise _refused(
            path,
            f"{path} is an object, and the output is a folder of {spec.format} files; choose another output",
        )


def check_objects(
    store: DestinationStore, paths: ObjectPaths, spec: SinkSpec, intents: Sequence[Mapping[str, Any]]
) -> None:
    """Check that the commit will be allowed to put its result at the destination.

    Args:
        intents: Intents of this run, if it is resumed.

    Raises:
        SinkError: Something is there that must stay, or that is of the wrong kind; says what to do.
    """
    path = spec.path.rstrip("/")
    if not spec.is_folder and store.sizes(paths.file):
        raise _refused(
            path,
            f"{path} is a folder, and the output is one file; write to {path}/ for a folder of {spec.format} files",
        )
    there = destination_objects(store, paths)
    for intent in intents:
        for name in intent["new"]:
            there.pop(name, None)
    if not there or (paths.file and is_published(store, paths, intents)):
        return
    if spec.if_exists == "error":
        choices = "replace or append" if spec.is_folder else "replace"
        raise _refused(
            path,
            f"{path} exists; choose another output, or say --if-exists {choices} (in Python: if_exists=…)",
            code="MMF-OUT-002",
        )
    if spec.keeps_files and not spec.is_folder:
        raise _refused(path, f"can't append to {path}: files are written whole; append to a folder of files")
    foreign = manifest.foreign_name(there) if spec.is_folder and spec.if_exists == "replace" else None
    if foreign is not None:
        raise _refused(
            path,
            f"won't replace {path}: it holds {foreign}, which is no output of a data set; "
            "move it away, or choose another output",
        )


def check_url_sources(
    store: DestinationStore, paths: ObjectPaths, spec: SinkSpec, sources: Iterable[str]
) -> None:
    """Check that the output is not written over, into or around an input; local inputs never clash.

    Raises:
        SinkError: The output would be.
    """
    for source in sources:
        if not is_url(source):
            continue
        where = store.relation_to(source)
        if paths.file:  # the store is the folder that the file lies in
            base = source.rstrip("/").removesuffix(f"/{paths.file}")
            over = where == "inside" and store.relation_to(base) == "same"
            inside = where in ("same", "around")
        else:
            over, inside = where in ("same", "inside"), where == "around"
        if over:
            raise _refused(
                spec.path,
                f"{spec.path} would be written while it is read ({source} is an input); choose another output",
                code="MMF-OUT-004",
            )
        if inside:
            raise _refused(
                spec.path,
                f"{spec.path} lies inside {source}, which is an input: the next run would read it; "
                "choose another output",
            )


def _refused(path: str, message: str, **context: str) -> SinkError:
    return SinkError(message, path=path, **context)
