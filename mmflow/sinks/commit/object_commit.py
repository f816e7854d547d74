"""Commit protocol of object stores: all of a result, or none of it, without a rename.

    prepare   lock the destination; recover stale runs; check; allow tasks to write (open.json)
    (tasks    write files in local temporary space, and upload them into _mmflow/RUN/, hidden)
    commit    1 write the names to be added and deleted (intent.json)
              2 copy the staged objects to their final names, within the store; no other execution of a task has them
              3 check that all are there, and that the lock is still ours
              4 write the manifest, one PUT: from here on the new state counts
              5 record it in the journal, then finish the intent: delete the objects that it names and the
                manifest doesn't; delete staging; unlock
    abort     finish the intent, but keep staging if the run may be resumed; unlock

To append, the manifest names the old files too. A destination of one file has no manifest: step 2 copies it over the
old one, which is atomic.

To *finish the intent* of a run, dead or alive: if the manifest is the run's, delete the old objects, else the new ones.
This can be repeated after a crash at any point.

Why staged objects are copied: uploading to the final names would save one request a file (a copy within the store
moves no bytes through the driver; above 5 GB it is done in parts). But a reader that only lists the folder would see
a growing part of the result during the whole run, results of attempts that don't count, and all of them after a
crash. With the copy:

- A reader of the manifest sees the old state or the new one. If it holds the old manifest while the old files are
  deleted, it finds files missing: an error, not a mix.
- A reader that lists sees old and new files together from step 2 to step 5, which is short; after a crash between
  them, until the `prepare` of the resumed or the next run.

Invariant: an object is deleted only if it was named by the intent of a run whose lock we hold, and is not named by
the manifest.
"""

from __future__ import annotations

import json
import posixpath
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks.base import SinkSpec, StagedFile
from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.destination_store import DestinationStore
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.sinks.commit.object_destination import (
    check_no_object,
    check_objects,
    check_url_sources,
    content_hash,
    destination_objects,
    is_published,
)
from mmflow.sinks.commit.object_lock import ObjectLock
from mmflow.sinks.commit.object_paths import ObjectPaths
from mmflow.sinks.commit.protocol import Commit, already_exists
from mmflow.storage import clock

__all__ = ["ObjectCommit", "staged_sizes"]

#: Concurrent copies.
_COPIES = 64


class ObjectCommit(Commit):
    """Commit to an object store."""

    _lock: ObjectLock | None

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        super().__init__(spec, run, resumable=resumable)
        self._paths = ObjectPaths.of(spec)
        self._opened: DestinationStore | None = None
        self._intended: list[str] = []

    # ---- before ---------------------------------------------------------------------------------

    def _make_parents(self) -> None:
        """Do nothing: object stores have no folders."""

    def _take_lock(self) -> None:
        self._opened = DestinationStore(self._paths.base, self.spec.storage)
        check_no_object(self._store, self.spec)
        self._lock = ObjectLock.acquire(
            self._store, self._paths.lock, destination=self.spec.path, run=self.run
        )

    def _recover_stale_runs(self) -> None:
        failpoint("locked")
        names = self._store.sizes(self._paths.runs)
        runs = {name.removeprefix(self._paths.runs + "/").split("/")[0] for name in names}
        for run in sorted(runs - {self.run}):
            self._finish_intent(run)

    def _prepare_staging(self, sources: Iterable[str]) -> None:
        check_objects(self._store, self._paths, self.spec, self._read_intent(self.run))
        check_url_sources(self._store, self._paths, self.spec, sources)
        started = json.dumps({"run": self.run, "since": clock.time()})
        self._store.put(self._paths.open(self.run), started.encode())
        failpoint("opened")

    # ---- publishing -----------------------------------------------------------------------------

    @property
    def _store(self) -> DestinationStore:
        assert self._opened is not None, "prepare comes first"
        return self._opened

    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None:
        found = self._manifest()
        there = {} if found is None else {f["path"]: f["bytes"] for f in found["files"]}
        there |= destination_objects(self._store, self._paths)  # a listing may be older than the manifest
        announced = self._read_intent(self.run)["new"]  # of this run, before it died
        old = there.keys() - set(announced)
        if old and self.spec.if_exists == "error":
            raise already_exists(self.spec.path, self.spec.path)
        before: list[dict[str, Any]] = []
        if self.spec.keeps_files:
            theirs = {name: there[name] for name in old}
            replaced = self.spec.replaced_folders(files)
            before = manifest.entries(theirs) if found is None else found["files"]
            before = [entry for entry in before if posixpath.dirname(entry["path"]) not in replaced]
            old = {name for name in old if posixpath.dirname(name) in replaced}
        new = [f.path for f in files]
        # The manifest itself is replaced, not deleted.
        self._write_intent(new={*announced, *new}, old=old - {self._paths.manifest})
        for start in range(0, len(files), _COPIES):
            self._copy(files[start : start + _COPIES])
            failpoint("copied")
        self._check_copies(files, self._store.sizes())
        self._check_lock()
        new_manifest = manifest.make(self.spec, self.run, files, schema, before)
        try:
            self._store.put(self._paths.manifest, manifest.encode(new_manifest))
        except SinkError:  # perhaps only the response was lost
            if not self._is_committed():
                raise
        failpoint("published")

    def _publish_file(self, file: StagedFile) -> None:
        intent = self._read_intent(self.run)
        there = bool(destination_objects(self._store, self._paths))
        if self.spec.if_exists == "error" and there and not is_published(self._store, self._paths, intent):
            raise already_exists(self.spec.path, self.spec.path)
        staged = self._store.info(file.staged)
        if staged is None:
            raise self._missing_staged_file(file.staged)
        self._write_intent(rows=file.rows, bytes=file.nbytes, etag=content_hash(staged))
        self._check_lock()
        self._copy([file])
        self._check_copies([file], destination_objects(self._store, self._paths))
        failpoint("published")

    def _sync_published(self) -> None:
        """Do nothing: what a store has answered is durable."""

    def _check_lock(self) -> None:
        assert self._lock is not None, "prepare comes first"
        self._lock.check()
        failpoint("checked")

    def _copy(self, files: Sequence[StagedFile]) -> None:
        try:
            self._store.copy([(f.staged, f.path) for f in files])
        except SinkError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                missing = next((f.staged for f in files if self._store.info(f.staged) is None), None)
                if missing is not None:
                    raise self._missing_staged_file(missing) from error
            raise

    def _check_copies(self, files: Sequence[StagedFile], there: dict[str, int]) -> None:
        for file in files:
            if there.get(file.path) != file.nbytes:
                raise SinkError(
                    f"{self._store.url}/{file.path} should have {file.nbytes:,} bytes, and has "
                    f"{there.get(file.path, 'none')}: the store lost or changed it; run again",
                    path=self.spec.path,
                )

    def _missing_staged_file(self, staged: str) -> SinkError:
        return SinkError(
            f"the staged object {self._store.url}/{staged} is missing; something deleted it, run again",
            path=self.spec.path,
        )

    # ---- manifest and intents -------------------------------------------------------------------

    def _manifest(self) -> dict[str, Any] | None:
        text = self._store.read(self._paths.manifest)
        where = f"{self._store.url}/{self._paths.manifest}"
        return None if text is None else manifest.parse(text, where)

    def _write_intent(self, *, new: Iterable[str] = (), old: Iterable[str] = (), **facts: Any) -> None:
        intent = {"new": sorted(new), "old": sorted(old), **facts}
        # A run that breaks our lock deletes the intent, perhaps while a copy is under way.
        self._intended = intent["new"]
        self._store.put(self._paths.intent(self.run), json.dumps(intent, ensure_ascii=False).encode())
        failpoint("intended")

    def _read_intent(self, run: str) -> dict[str, Any]:
        text = self._store.read(self._paths.intent(run))
        return {"new": [], "old": []} if text is None else json.loads(text)

    def _is_file_committed(self) -> bool:
        # Known only where the store identifies equal objects; else the file is published once more, which changes
        # nothing.
        intent = self._read_intent(self.run)
        return intent.get("etag") is not None and is_published(self._store, self._paths, intent)

    def _published_size(self) -> tuple[int, int]:
        intent = self._read_intent(self.run)
        return intent["rows"], intent["bytes"]

    def _finish_intent(self, run: str, *, keep: bool = False) -> None:
        if self.spec.is_folder:
            intent = self._read_intent(run)
            new = {*intent["new"], *(self._intended if run == self.run else ())}
            if new or intent["old"]:
                found = self._manifest()
                named = {self._paths.manifest} | {f["path"] for f in (found or {"files": []})["files"]}
                committed = found is not None and manifest.holds_run(found, run)
                obsolete = {*new, *(intent["old"] if committed else ())} - named
                self._store.delete(sorted(obsolete))
                failpoint("cleared")
        if keep:  # tasks that still run must not write any more
            self._store.delete([self._paths.open(run)])
        else:
            self._store.delete_folder(self._paths.staging(run))
        failpoint("settled")

    def _clean_up(self, *, keep: bool = False) -> None:
        """Finish this run's intent (keep staging if `keep`), and unlock."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            try:
                self._finish_intent(self.run, keep=keep)
            finally:
                lock.release()
        except SinkError as error:
            # The result is published or not; the next run at this destination recovers the rest.
            warnings.warn(
                f"run {self.run} leaves objects below {self._store.url}/{self._paths.runs}: {error}",
                stacklevel=3,
            )


def staged_sizes(spec: SinkSpec, run: str) -> dict[str, int]:
    """Return the sizes of the objects that a run staged, by `StagedFile.staged`."""
    paths = ObjectPaths.of(spec)
    return DestinationStore(paths.base, spec.storage).sizes(paths.staging(run))
