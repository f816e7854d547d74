"""What must hold of a destination in an object store before anything is computed for it.

As for local ones (`sinks/destination.py`): all of it runs under the lock, after what dead runs left was swept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmflow.errors import SinkError
from mmflow.remote.url import is_url
from mmflow.sinks import manifest
from mmflow.sinks.base import SinkSpec
from mmflow.sinks.object_places import Places
from mmflow.sinks.object_store import ObjectStore

__all__ = ["check_kind", "check_objects", "check_url_sources", "content", "is_published", "objects_of"]


def objects_of(store: ObjectStore, places: Places) -> dict[str, int]:
    """What is at the destination beside lock and staging, with sizes."""
    if places.file:
        info = store.info(places.file)
        return {} if info is None else {places.file: int(info["size"] or 0)}
    return {name: size for name, size in store.sizes().items() if not places.is_ours(name)}


def content(info: Mapping[str, Any]) -> str | None:
    """A hash of an object's bytes, where the store gives one: an ETag without parts."""
    etag = str(info.get("ETag") or "").strip('"')
    return etag if etag and "-" not in etag else None


def is_published(store: ObjectStore, places: Places, intent: Mapping[str, Any]) -> bool:
    """Is the one file that is there what this run was about to publish, as far as can be told?"""
    info = store.info(places.file)
    if info is None or info["size"] != intent.get("bytes"):
        return False
    return None in (intent.get("etag"), content(info)) or content(info) == intent["etag"]


def check_kind(store: ObjectStore, spec: SinkSpec) -> None:
    """Check that a folder is none; before the lock, which would lie in it.

    Raises:
        SinkError: There is an object of that name.
    """
    if spec.is_folder and store.info() is not None:
        path = spec.path.rstrip("/")
        raise _refused(
            path,
            f"{path} is an object, and the output is a folder of {spec.format} files; choose another output",
        )


def check_objects(store: ObjectStore, places: Places, spec: SinkSpec, intent: Mapping[str, Any]) -> None:
    """Check that the commit will be allowed to put its result there.

    Args:
        intent: What this run was about to publish, if it is resumed.

    Raises:
        SinkError: Something is there that must stay, or of the wrong kind; says what to do.
    """
    path = spec.path.rstrip("/")
    if not spec.is_folder and store.sizes(places.file):
        raise _refused(
            path,
            f"{path} is a folder, and the output is one file; write to {path}/ for a folder of {spec.format} files",
        )
    there = objects_of(store, places)
    for name in intent["new"]:
        there.pop(name, None)
    if not there or (places.file and is_published(store, places, intent)):
        return
    if spec.if_exists == "error":
        choices = "replace or append" if spec.is_folder else "replace"
        raise _refused(
            path,
            f"{path} exists; choose another output, or say --if-exists {choices} (in Python: if_exists=…)",
        )
    if spec.if_exists == "append" and not spec.is_folder:
        raise _refused(path, f"can't append to {path}: files are written whole; append to a folder of files")
    foreign = manifest.foreign_name(there) if spec.is_folder and spec.if_exists == "replace" else None
    if foreign is not None:
        raise _refused(
            path,
            f"won't replace {path}: it holds {foreign}, which is no output of a data set; "
            "move it away, or choose another output",
        )


def check_url_sources(store: ObjectStore, places: Places, spec: SinkSpec, sources: Iterable[str]) -> None:
    """Check that the output is not written over, into or around what is read; local sources never are.

    Raises:
        SinkError: It would be.
    """
    for source in sources:
        if not is_url(source):
            continue
        where = store.is_at(source)
        if places.file:  # the store is the folder that the file lies in
            base = source.rstrip("/").removesuffix(f"/{places.file}")
            over = where == "inside" and store.is_at(base) == "same" and base != source.rstrip("/")
            inside = where in ("same", "around")
        else:
            over, inside = where in ("same", "inside"), where == "around"
        if over:
            raise _refused(
                spec.path,
                f"{spec.path} would be written while it is read ({source} is an input); choose another output",
            )
        if inside:
            raise _refused(
                spec.path,
                f"{spec.path} lies inside {source}, which is an input: the next run would read it; "
                "choose another output",
            )


def _refused(path: str, message: str) -> SinkError:
    return SinkError(message, path=path)
