"""The commit protocol of object stores: all of a result, or none of it, without a rename.

    prepare   lock the destination; settle what dead runs left; check; say that tasks may write (open.json)
    (tasks    write files in local temporary space, and upload them into _mmflow/RUN/, hidden)
    commit    1 write what is about to be added and deleted (intent.json)
              2 copy the staged objects to their final names, inside of the store
              3 look whether all are there, and the lock is still ours
              4 write the manifest, one PUT: from here on the new state counts
              5 let the run note it, then settle: delete what the manifest doesn't name and the intent does;
                delete staging; unlock
    abort     settle, but keep staging if the run may go on with it; unlock

To append, the manifest names the old files too. One file has no manifest: step 2 copies it over the old one, which is
itself one step.

To *settle* a run, dead or alive, is to finish what its intent says: if the manifest is the run's, the old objects go,
else the new ones. It can be done again after a crash at any point.

Why staged objects are copied: uploading to the final names would cost one request less for each file (a copy
inside of the store moves no bytes through us; above 5 GB it is done in parts), but whoever only lists the folder
would see a growing part of the result for as long as the run takes, results of attempts that don't count, and
all of it after a crash. As it is:

- A reader of the manifest sees the old state or the new one. If it holds the old manifest while the old files are
  deleted, it finds files missing: an error, not a mix.
- A reader that lists sees old and new files together from step 2 to step 5, which is short, or, after a crash in
  there, until a next run's `prepare` or the resumed one's.

Invariant: an object is deleted only if it was named by the intent of a run whose lock we hold, and is not named by
the manifest.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks import manifest
from mmflow.sinks.base import SinkSpec, StagedFile
from mmflow.sinks.checkpoints import checkpoint
from mmflow.sinks.committing import Commit, appeared
from mmflow.sinks.object_checks import (
    check_kind,
    check_objects,
    check_url_sources,
    content,
    is_published,
    objects_of,
)
from mmflow.sinks.object_lock import ObjectLock
from mmflow.sinks.object_places import Places
from mmflow.sinks.object_store import ObjectStore

__all__ = ["ObjectCommit", "staged_sizes"]

#: Copies that go on at once; what a crash between two of them leaves is the same.
_COPIES = 64


class ObjectCommit(Commit):
    """The commit to an object store."""

    _lock: ObjectLock | None

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        super().__init__(spec, run, resumable=resumable)
        self._places = Places.of(spec)
        self._opened: ObjectStore | None = None
        self._intended: list[str] = []

    # ---- before ---------------------------------------------------------------------------------

    def _make_parents(self) -> None:
        """There are no folders."""

    def _take_lock(self) -> None:
        self._opened = ObjectStore(self._places.base)
        check_kind(self._store, self.spec)
        self._lock = ObjectLock.acquire(
            self._store, self._places.lock, destination=self.spec.path, run=self.run
        )

    def _settle_others(self) -> None:
        checkpoint("locked")
        names = self._store.sizes(self._places.runs)
        runs = {name.removeprefix(self._places.runs + "/").split("/")[0] for name in names}
        for run in sorted(runs - {self.run}):
            self._settle(run)

    def _make_room(self, sources: Iterable[str]) -> None:
        check_objects(self._store, self._places, self.spec, self._intent(self.run))
        check_url_sources(self._store, self._places, self.spec, sources)
        started = json.dumps({"run": self.run, "since": time.time()})
        self._store.put(self._places.open(self.run), started.encode())
        checkpoint("opened")

    # ---- publishing -----------------------------------------------------------------------------

    @property
    def _store(self) -> ObjectStore:
        assert self._opened is not None, "prepare comes first"
        return self._opened

    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None:
        there = objects_of(self._store, self._places)
        begun = self._intent(self.run)["new"]  # by this run, before it died
        old = there.keys() - set(begun)
        if old and self.spec.if_exists == "error":
            raise appeared(self.spec.path, self.spec.path)
        before: list[dict[str, Any]] = []
        if self.spec.if_exists == "append":
            found = self._manifest()
            theirs = {name: there[name] for name in old}
            before = manifest.entries(theirs) if found is None else found["files"]
            old = set()
        new = [f.path for f in files]
        # The manifest itself is replaced, not deleted.
        self._intend(new={*begun, *new}, old=old - {self._places.manifest})
        for start in range(0, len(files), _COPIES):
            self._copy(files[start : start + _COPIES])
            checkpoint("copied")
        self._check_copies(files, self._store.sizes())
        self._check_lock()
        made = manifest.make(self.spec, self.run, files, schema, before)
        try:
            self._store.put(self._places.manifest, manifest.encode(made))
        except SinkError:  # maybe only the answer was lost
            if not self._was_committed():
                raise
        checkpoint("published")

    def _publish_file(self, file: StagedFile) -> None:
        intent = self._intent(self.run)
        there = bool(objects_of(self._store, self._places))
        if self.spec.if_exists == "error" and there and not is_published(self._store, self._places, intent):
            raise appeared(self.spec.path, self.spec.path)
        staged = self._store.info(file.staged)
        if staged is None:
            raise self._gone(file.staged)
        self._intend(rows=file.rows, bytes=file.nbytes, etag=content(staged))
        self._check_lock()
        self._copy([file])
        self._check_copies([file], objects_of(self._store, self._places))
        checkpoint("published")

    def _check_lock(self) -> None:
        assert self._lock is not None, "prepare comes first"
        self._lock.check()
        checkpoint("checked")

    def _copy(self, files: Sequence[StagedFile]) -> None:
        try:
            self._store.copy([(f.staged, f.path) for f in files])
        except SinkError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                missing = next((f.staged for f in files if self._store.info(f.staged) is None), None)
                if missing is not None:
                    raise self._gone(missing) from error
            raise

    def _check_copies(self, files: Sequence[StagedFile], there: dict[str, int]) -> None:
        for file in files:
            if there.get(file.path) != file.nbytes:
                raise SinkError(
                    f"{self._store.url}/{file.path} should have {file.nbytes:,} bytes, and has "
                    f"{there.get(file.path, 'none')}: the store lost or changed it; run again",
                    path=self.spec.path,
                )

    def _gone(self, staged: str) -> SinkError:
        return SinkError(
            f"the staged object {self._store.url}/{staged} is gone; something deleted it, run again",
            path=self.spec.path,
        )

    # ---- what runs said they would do -----------------------------------------------------------

    def _manifest(self) -> dict[str, Any] | None:
        text = self._store.read(self._places.manifest)
        where = f"{self._store.url}/{self._places.manifest}"
        return None if text is None else manifest.parse(text, where)

    def _intend(self, *, new: Iterable[str] = (), old: Iterable[str] = (), **facts: Any) -> None:
        intent = {"new": sorted(new), "old": sorted(old), **facts}
        # Who broke our lock deletes the note, maybe while a copy is under way.
        self._intended = intent["new"]
        self._store.put(self._places.intent(self.run), json.dumps(intent, ensure_ascii=False).encode())
        checkpoint("intended")

    def _intent(self, run: str) -> dict[str, Any]:
        text = self._store.read(self._places.intent(run))
        return {"new": [], "old": []} if text is None else json.loads(text)

    def _file_was_committed(self) -> bool:
        # Only where the store says of equal objects that they are; else the file is published once more, which
        # changes nothing.
        intent = self._intent(self.run)
        return intent.get("etag") is not None and is_published(self._store, self._places, intent)

    def _file_before(self) -> tuple[int, int]:
        intent = self._intent(self.run)
        return intent["rows"], intent["bytes"]

    def _settle(self, run: str, *, keep: bool = False) -> None:
        if self.spec.is_folder:
            intent = self._intent(run)
            new = {*intent["new"], *(self._intended if run == self.run else ())}
            if new or intent["old"]:
                found = self._manifest()
                kept = {self._places.manifest} | {f["path"] for f in (found or {"files": []})["files"]}
                committed = found is not None and found["run"] == run
                doomed = {*new, *(intent["old"] if committed else ())} - kept
                self._store.delete(sorted(doomed))
                checkpoint("cleared")
        if keep:  # but tasks that still run must not write any more
            self._store.delete([self._places.open(run)])
        else:
            self._store.delete_folder(self._places.staging(run))
        checkpoint("settled")

    def _leave(self, *, keep: bool = False) -> None:
        """Settle our own run (or keep what is staged), and unlock."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            try:
                self._settle(self.run, keep=keep)
            finally:
                lock.release()
        except SinkError as error:
            # What was published counts, what was not does not; the next run there settles the rest.
            warnings.warn(
                f"run {self.run} leaves objects below {self._store.url}/{self._places.runs}: {error}",
                stacklevel=3,
            )


def staged_sizes(spec: SinkSpec, run: str) -> dict[str, int]:
    """What tasks of a run staged, with sizes, by the names that `StagedFile.staged` has."""
    places = Places.of(spec)
    return ObjectStore(places.base).sizes(places.staging(run))
