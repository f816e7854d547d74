"""Commit protocol of object stores: all of a result, or none of it, without a rename.

    prepare   lock the destination; recover stale runs; check; allow tasks to write (open.json)
    (tasks    write files in local temporary space, and upload them into _mmflow/RUN/, hidden)
    commit    1 write the names to be added and deleted (intent-N.json)
              2 copy the staged objects to their final names, within the store; no other driver of the run has them
              3 check that all are there, and that the lock is still ours
              4 write the manifest, one PUT: from here on the new state counts
              5 record it in the journal, then finish the intents: delete the objects that they name and the
                manifest doesn't; delete staging; unlock
    abort     finish the intents, but keep staging if the run may be resumed; unlock

To append, the manifest names the old files too. A destination of one file has no manifest: step 2 copies it over the
old one, which is atomic.

To *finish the intents* of a run, dead or alive: if the manifest is the run's, delete the old objects, else the new.
This can be repeated after a crash at any point.

A driver that hung may go on after another one has resumed its run. So each writes an intent of its own, which is
created only if it doesn't exist, and its final names have a part of its lock's nonce in them: it overwrites nothing of
its successor's, and without the lock it deletes only what it has copied itself.

Why staged objects are copied: uploading to the final names would save one request a file (a copy within the store
moves no bytes through the driver; above 5 GB it is done in parts). But a reader that only lists the folder would see
a growing part of the result during the whole run, results of attempts that don't count, and all of them after a
crash. With the copy:

- A reader of the manifest sees the old state or the new one. If it holds the old manifest while the old files are
  deleted, it finds files missing: an error, not a mix.
- A reader that lists sees old and new files together from step 2 to step 5, which is short; after a crash between
  them, until the `prepare` of the resumed or the next run.

Invariant: an object is deleted only if it is not named by the manifest, and either we have copied it or it was named by
the intent of a run whose lock we hold.
"""

from __future__ import annotations

import dataclasses
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
        self._intent: dict[str, Any] = {"new": [], "old": []}
        self._intent_name = ""

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
            self._finish_intents(run)

    def _prepare_staging(self, sources: Iterable[str]) -> None:
        check_objects(self._store, self._paths, self.spec, self._read_intents(self.run))
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
        files = [self._named(file) for file in files]
        found = self._manifest()
        there = {} if found is None else {f["path"]: f["bytes"] for f in found["files"]}
        there |= destination_objects(self._store, self._paths)  # a listing may be older than the manifest
        # Of this run, before it died.
        announced = {name for intent in self._read_intents(self.run) for name in intent["new"]}
        old = there.keys() - announced
        if old and self.spec.if_exists == "error":
            raise already_exists(self.spec.path, self.spec.path)
        before: list[dict[str, Any]] = []
        if self.spec.keeps_files:
            theirs = {name: there[name] for name in old}
            replaced = self.spec.replaced_folders(files)
            before = manifest.entries(theirs) if found is None else found["files"]
            before = [entry for entry in before if posixpath.dirname(entry["path"]) not in replaced]
            old = {name for name in old if posixpath.dirname(name) in replaced}
        # The manifest itself is replaced, not deleted.
        self._write_intent(new=[f.path for f in files], old=old - {self._paths.manifest})
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

    def _named(self, file: StagedFile) -> StagedFile:
        """Return a staged file under a final name that no other driver has."""
        attempt = file.staged.removesuffix(f"/{file.path}.staged").rpartition("-")[2]
        before, _, after = file.path.rpartition(f"-{attempt}")
        return dataclasses.replace(file, path=f"{before}-{self._held.nonce[:8]}{after}")

    def _publish_file(self, file: StagedFile) -> None:
        intents = self._read_intents(self.run)
        there = bool(destination_objects(self._store, self._paths))
        if self.spec.if_exists == "error" and there and not is_published(self._store, self._paths, intents):
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

    @property
    def _held(self) -> ObjectLock:
        assert self._lock is not None, "prepare comes first"
        return self._lock

    def _check_lock(self) -> None:
        self._held.check()
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
        self._intent = {"new": sorted(new), "old": sorted(old), "lock": self._held.nonce, **facts}
        data = json.dumps(self._intent, ensure_ascii=False).encode()
        number = len(self._read_intents(self.run))
        while not self._store.create(self._paths.intent(self.run, number), data):
            self._check_lock()  # else a driver that hung was faster by a moment
            number += 1
        self._intent_name = self._paths.intent(self.run, number)
        failpoint("intended")

    def _read_intents(self, run: str) -> list[dict[str, Any]]:
        """Return the intents of all drivers of a run, in the order in which they were written."""
        found: list[dict[str, Any]] = []
        while (text := self._store.read(self._paths.intent(run, len(found)))) is not None:
            found.append(json.loads(text))
        return found

    def _published_intent(self) -> dict[str, Any] | None:
        """Return the intent whose file is at the destination.

        Known only where the store identifies equal objects; else the file is published once more, which changes
        nothing.
        """
        known = [intent for intent in self._read_intents(self.run) if intent.get("etag") is not None]
        return next((i for i in known if is_published(self._store, self._paths, [i])), None)

    def _is_file_committed(self) -> bool:
        return self._published_intent() is not None

    def _published_size(self) -> tuple[int, int]:
        intent = self._published_intent()
        if intent is None:
            raise SinkError(
                f"{self.spec.path} was replaced by another process after this run published it",
                path=self.spec.path,
            )
        return intent["rows"], intent["bytes"]

    def _finish_intents(self, run: str, *, keep: bool = False) -> None:
        if self.spec.is_folder:
            # A run that breaks our lock deletes our intent, perhaps while a copy is under way.
            intents = [*self._read_intents(run), *([self._intent] if run == self.run else ())]
            new, old = ({name for intent in intents for name in intent[kind]} for kind in ("new", "old"))
            if new or old:
                found = self._manifest()
                committed = found is not None and manifest.holds_run(found, run)
                self._delete_unnamed(found, new | (old if committed else set()))
        if keep:  # tasks that still run must not write any more
            self._store.delete([self._paths.open(run)])
        else:
            self._store.delete_folder(self._paths.staging(run))
        failpoint("settled")

    def _delete_unnamed(self, found: dict[str, Any] | None, names: set[str]) -> None:
        """Delete objects that a manifest doesn't name."""
        named = {self._paths.manifest} | {f["path"] for f in (found or {"files": []})["files"]}
        self._store.delete(sorted(names - named))
        failpoint("cleared")

    def _withdraw(self) -> None:
        """Delete what this driver has copied, and its intent: the lock is lost, and all else is its holder's."""
        if self._intent_name:
            if self.spec.is_folder:
                self._delete_unnamed(self._manifest(), set(self._intent["new"]))
            self._store.delete([self._intent_name])

    def _clean_up(self, *, keep: bool = False) -> None:
        """Finish this run's intents (keep staging if `keep`), and unlock."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            try:
                if lock.is_held():
                    self._finish_intents(self.run, keep=keep)
                else:
                    self._withdraw()
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
