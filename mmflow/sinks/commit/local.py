"""Commit protocol of local file systems: all of a result, or none of it. (For URLs: `sinks/commit/object_commit.py`.)

    prepare   lock the destination; recover stale runs; check; create the staging folder
    (tasks    write and fsync files into staging/attempts/...)
    commit    1 build the whole new folder in staging/result: the files are renamed into it
              2 write its manifest, fsync, rename; fsync all folders
              3 publish it in one step:
                  new destination          rename(result, destination)
                  replace, append          swap(result, destination): they exchange names atomically
                  ... where there is no    rename(destination, old_destination); rename(result, destination)
                      such call (NFS)
              4 delete staging, and the old destination; unlock
    abort     delete staging; unlock

To append, step 1 first gives the old files second names (hard links) in the new folder: appending is
replacing by a folder that holds the old files too. A destination that is one file has no manifest, and is
published by rename.

Invariant: a reader of the destination sees the old state or the new one, also after a crash at any point. The
exception are file systems without swap: there a reader may find nothing for a moment, and after a crash in that
moment until the next run's `prepare` has restored the old state.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmflow.errors import SinkError
from mmflow.mapping.answering import is_silent
from mmflow.sinks.base import SinkSpec, StagedFile
from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.atomic import fsync_folder, fsync_tree, link_tree, rename_new, swap, walk
from mmflow.sinks.commit.destination import (
    check_destination,
    check_sources,
    holds_something,
    refuse_link,
    remove_tree,
    repair,
)
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.sinks.commit.lock import lock_destination
from mmflow.sinks.commit.protocol import Commit, Lock, already_exists
from mmflow.sinks.commit.staging import (
    attempts_folder,
    destination,
    lock_file,
    note_placed,
    old_destination,
    read_placed,
    staging_folder,
)
from mmflow.storage import disk
from mmflow.storage.os_errors import write_errors

__all__ = ["LocalCommit"]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}


class LocalCommit(Commit):
    """Commit to a local path."""

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        super().__init__(spec, run, resumable=resumable)
        self._path = destination(spec)
        self._staging = staging_folder(spec, run)
        self._created_folders: list[Path] = []

    # ---- before ---------------------------------------------------------------------------------

    def _sink_errors(self) -> contextlib.AbstractContextManager[None]:
        return write_errors(self.spec.path)

    def _make_parents(self) -> None:
        missing = [p for p in (self._path.parent, *self._path.parent.parents) if not p.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                disk.mkdir(folder)
                self._created_folders.append(folder)
                fsync_folder(folder.parent)  # the commit syncs only the folder that holds the destination

    def _take_lock(self) -> None:
        self._lock = lock_destination(lock_file(self.spec), destination=self.spec.path, run=self.run)

    def _recover_stale_runs(self) -> None:
        repair(self.spec, self.run)
        refuse_link(self._path.parent, f"{self._staging.name}/attempts/x", self.spec.path)

    def _prepare_staging(self, sources: Iterable[str]) -> None:
        check_destination(self.spec)
        check_sources(self.spec, sources)
        disk.makedirs(attempts_folder(self.spec, self.run), exist_ok=True)

    # ---- steps ----------------------------------------------------------------------------------

    def _build(self, files: Sequence[StagedFile], schema: pa.Schema) -> Path:
        """Build the new folder, complete and durable, in staging."""
        result = self._staging / "result"
        begun = result.exists()
        disk.make_folder(result)
        before: list[dict[str, Any]] = []
        if self.spec.keeps_files and holds_something(self._path):
            found = self._manifest()
            replaced = self.spec.replaced_folders(files)
            before = manifest.data_files(self._path) if found is None else found["files"]
            before = [entry for entry in before if posixpath.dirname(entry["path"]) not in replaced]
            self._link_old(result)
            _drop_old(result, replaced, {f.path for f in files})
            failpoint("linked")
        placed = read_placed(self.spec, self.run)
        note_placed(self.spec, self.run, [f for f in files if os.path.exists(f.staged)])
        for file in files:
            self._place(file, result, moved=placed.get(file.path) == file.staged)
            failpoint("placed")
        if begun:
            _drop_strays(result, {f.path for f in files}, self._path if self.spec.keeps_files else None)
        manifest.write(result, manifest.make(self.spec, self.run, files, schema, before))
        failpoint("manifest")
        fsync_tree(result)
        fsync_folder(self._staging)
        failpoint("synced")
        return result

    def _place(self, file: StagedFile, result: Path, *, moved: bool) -> None:
        """Move a staged file to its place; it may be there if an earlier driver of the run `moved` it."""
        target = result / file.path
        refuse_link(result, file.path, self.spec.path, known_as=self._path)
        disk.makedirs(target.parent, exist_ok=True)
        try:
            disk.rename(file.staged, target)
        except FileNotFoundError:
            if not (moved and target.exists()):
                raise _missing_staged_file(Path(file.staged)) from None

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
            raise already_exists(str(self._path), self.spec.path)
        elif not swap(result, self._path):
            old = old_destination(self.spec, self.run)
            disk.rename(self._path, old)
            failpoint("old_destination")
            disk.rename(result, self._path)
            failpoint("renamed")
            fsync_folder(self._path.parent)  # before the old one is deleted
            remove_tree(old)
        failpoint("published")
        fsync_folder(self._path.parent)

    def _publish_file(self, file: StagedFile) -> None:
        staged = Path(file.staged)
        if not staged.exists():
            raise _missing_staged_file(staged)
        # A rename keeps the inode, by which a resumed run recognizes the destination as its own.
        inode = staged.stat()
        mark = json.dumps([inode.st_dev, inode.st_ino, file.rows, file.nbytes])
        disk.write_file(self._publish_mark, mark.encode())
        failpoint("marked")
        if self.spec.if_exists == "replace":
            disk.replace(staged, self._path)
        else:
            self._rename_new(staged)
        failpoint("published")
        fsync_folder(self._path.parent)

    def _sync_published(self) -> None:
        fsync_folder(self._path.parent)

    def _rename_new(self, result: Path) -> None:
        try:
            rename_new(result, self._path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise already_exists(str(self._path), self.spec.path) from error
            raise

    @property
    def _publish_mark(self) -> Path:
        return self._staging / "publishing.json"

    def _manifest(self) -> dict[str, Any] | None:
        return manifest.read(self._path)

    def _is_file_committed(self) -> bool:
        try:
            device, inode, *_ = json.loads(self._publish_mark.read_text())
            there = self._path.stat()
        except (FileNotFoundError, ValueError):  # not marked, or only half: then not renamed either
            return False
        return (there.st_dev, there.st_ino) == (device, inode)

    def _published_size(self) -> tuple[int, int]:
        rows, nbytes = json.loads(self._publish_mark.read_text())[2:]
        return rows, nbytes

    def _clean_up(self, *, keep: bool = False) -> None:
        """Delete staging (unless `keep`) and the parent folders created for nothing; unlock."""
        lock, self._lock = self._lock, None
        folders, self._created_folders = self._created_folders, []
        if lock is not None and is_silent(self.spec.path):
            # The error that ends the run must not wait for a file server, nor should its folders stay locked.
            threading.Thread(target=self._delete, args=(lock, folders, keep), daemon=True).start()
        else:
            self._delete(lock, folders, keep)

    def _delete(self, lock: Lock | None, folders: Sequence[Path], keep: bool) -> None:
        if lock is not None:  # without the lock, staging of this name is not ours
            if not keep:
                disk.remove_tree(self._staging)
            lock.release()
        for folder in reversed(folders):
            with contextlib.suppress(OSError):  # not empty: it holds the output, or other files
                disk.rmdir(folder)


def _drop_old(result: Path, replaced: Iterable[str], new: Collection[str]) -> None:
    """Delete the second names of old files in folders that are replaced."""
    for folder in replaced:
        for file in (result / folder).glob("*"):
            if f"{folder}/{file.name}" not in new:
                disk.unlink(file)


def _drop_strays(result: Path, named: Collection[str], old: Path | None) -> None:
    """Delete what an earlier driver of the run placed there and the result does not hold.

    The job may have been corrected since, and have other tasks, or other partitions.

    Args:
        result: The new folder.
        named: Paths of its files, but for old ones.
        old: Destination whose files it holds, too.
    """
    for here, _, names in walk(result, topdown=False):
        for name in names:
            path = Path(here, name)
            relative = path.relative_to(result)
            if relative.as_posix() not in named and (old is None or not os.path.lexists(old / relative)):
                disk.unlink(path)
        if Path(here) != result:
            with contextlib.suppress(OSError):  # it is not empty
                disk.rmdir(here)


def _missing_staged_file(staged: Path) -> SinkError:
    return SinkError(
        f"the staged file {staged} is missing; something deleted it, run again", path=str(staged)
    )
