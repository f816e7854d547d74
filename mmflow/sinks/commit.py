"""The commit protocol of local file systems: all of a result, or none of it. (Of URLs: `sinks/object_commit.py`.)

    prepare   lock the destination; mend and sweep what dead runs left; check; make the staging folder
    (tasks    write and fsync files into staging/attempts/...)
    commit    1 build the whole new folder in staging/result: the files are renamed into it
              2 write its manifest, fsync, rename; fsync all folders
              3 publish it in one step:
                  new destination          rename(result, destination)
                  replace, append          swap(result, destination): they trade names at once
                  ... where there is no    rename(destination, aside); rename(result, destination)
                      such call (NFS)
              4 delete staging, and the old destination; unlock
    abort     delete staging; unlock

To append, step 1 first gives the old files second names (hard links) in the new folder: appending is
replacing by a folder that holds the old files too. A destination that is one file has no manifest, and is
published by rename.

Invariant: a reader of the destination sees the old state or the new one; so does whoever comes after a
crash at any point, except on file systems without swap, where a reader may find nothing for a moment, and
after a crash there until the next run's `prepare` has put the old state back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.sinks import manifest
from mmflow.sinks.atomic import fsync_folder, fsync_tree, link_tree, rename_new, swap
from mmflow.sinks.base import SinkSpec, StagedFile
from mmflow.sinks.checkpoints import checkpoint
from mmflow.sinks.committing import Commit, appeared
from mmflow.sinks.destination import (
    check_destination,
    check_sources,
    holds_something,
    mend,
    refuse_link,
    remove_tree,
)
from mmflow.sinks.failures import writing
from mmflow.sinks.lock import DestinationLock
from mmflow.sinks.staging import aside, attempts_folder, destination, lock_file, staging_folder

__all__ = ["LocalCommit"]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}


class LocalCommit(Commit):
    """The commit to a local path."""

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        super().__init__(spec, run, resumable=resumable)
        self._path = destination(spec)
        self._staging = staging_folder(spec, run)
        self._made: list[Path] = []

    # ---- before ---------------------------------------------------------------------------------

    def _failing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self.spec.path)

    def _make_parents(self) -> None:
        missing = [p for p in (self._path.parent, *self._path.parent.parents) if not p.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                self._made.append(folder)

    def _take_lock(self) -> None:
        self._lock = DestinationLock.acquire(lock_file(self.spec), destination=self.spec.path, run=self.run)

    def _settle_others(self) -> None:
        mend(self.spec, self.run)
        refuse_link(self._path.parent, f"{self._staging.name}/attempts/x", self.spec.path)

    def _make_room(self, sources: Iterable[str]) -> None:
        check_destination(self.spec)
        check_sources(self.spec, sources)
        attempts_folder(self.spec, self.run).mkdir(parents=True, exist_ok=True)

    # ---- steps ----------------------------------------------------------------------------------

    def _build(self, files: Sequence[StagedFile], schema: pa.Schema) -> Path:
        """The new folder, complete and durable, in staging."""
        result = self._staging / "result"
        result.mkdir(exist_ok=True)
        before: list[dict[str, Any]] = []
        if self.spec.if_exists == "append" and holds_something(self._path):
            found = self._manifest()
            before = manifest.data_files(self._path) if found is None else found["files"]
            self._link_old(result)
            checkpoint("linked")
        for file in files:
            self._place(Path(file.staged), result, file.path)
            checkpoint("placed")
        manifest.write(result, manifest.make(self.spec, self.run, files, schema, before))
        checkpoint("manifest")
        fsync_tree(result)
        fsync_folder(self._staging)
        checkpoint("synced")
        return result

    def _place(self, staged: Path, result: Path, path: str) -> None:
        """Move a staged file to its place; done already if a resumed run got that far."""
        target = result / path
        refuse_link(result, path, self.spec.path, known_as=self._path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(staged, target)
        except FileNotFoundError:
            if not target.exists():
                raise _gone(staged) from None

    def _link_old(self, result: Path) -> None:
        try:
            link_tree(self._path, result)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise SinkError(
                f"can't append to {self._path}: its file system has no hard links ({error.strerror}); "
                "write to a new folder",
                path=self.spec.path,
            ) from error

    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None:
        result = self._build(files, schema)
        if not holds_something(self._path):
            self._rename_new(result)
        elif self.spec.if_exists == "error":
            raise appeared(str(self._path), self.spec.path)
        elif not swap(result, self._path):
            old = aside(self.spec, self.run)
            os.rename(self._path, old)
            checkpoint("aside")
            os.rename(result, self._path)
            checkpoint("renamed")
            fsync_folder(self._path.parent)  # before the old one goes
            remove_tree(old)
        checkpoint("published")
        fsync_folder(self._path.parent)

    def _publish_file(self, file: StagedFile) -> None:
        staged = Path(file.staged)
        if not staged.exists():
            raise _gone(staged)
        # A rename keeps the inode: a resumed run can tell that the destination is its own.
        inode = staged.stat()
        self._mark.write_text(json.dumps([inode.st_dev, inode.st_ino, file.rows, file.nbytes]))
        checkpoint("marked")
        if self.spec.if_exists == "replace":
            os.replace(staged, self._path)
        else:
            self._rename_new(staged)
        checkpoint("published")
        fsync_folder(self._path.parent)

    def _rename_new(self, result: Path) -> None:
        try:
            rename_new(result, self._path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise appeared(str(self._path), self.spec.path) from error
            raise

    @property
    def _mark(self) -> Path:
        return self._staging / "publishing.json"

    def _manifest(self) -> dict[str, Any] | None:
        return manifest.read(self._path)

    def _file_was_committed(self) -> bool:
        try:
            device, inode, *_ = json.loads(self._mark.read_text())
            there = self._path.stat()
        except (FileNotFoundError, ValueError):  # not marked, or only half: then not renamed either
            return False
        return (there.st_dev, there.st_ino) == (device, inode)

    def _file_before(self) -> tuple[int, int]:
        rows, nbytes = json.loads(self._mark.read_text())[2:]
        return rows, nbytes

    def _leave(self, *, keep: bool = False) -> None:
        """Delete staging (or keep it) and the parents that were made for nothing; unlock."""
        if self._lock is not None:  # without it, staging of this name is not ours
            if not keep:
                shutil.rmtree(self._staging, ignore_errors=True)
            self._lock.release()
            self._lock = None
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: the output is in it, or somebody else's
                folder.rmdir()
        self._made.clear()


def _gone(staged: Path) -> SinkError:
    return SinkError(f"the staged file {staged} is gone; something deleted it, run again", path=str(staged))
