"""One change of an array file by many workers: all of it counts or, whenever a process dies, nothing.

    data/a.npy                         the file
    data/.a.npy.mmflow-lock            held by the driver that changes it (`sinks.commit.lock`); free: the rest is old
    data/.a.npy.mmflow~change-RUN/     one change
        rows                           as large as the file, all hole: tasks are cut from it; it exists while the change
                                       is active, and without it a worker writes nothing
        undo-BEGIN                     in place: the old content of the region that begins there, durable, whole
        new                            else: the new file
        file                           in place: inode of the file that is changed; another file is left alone
        recorded                       the run can be resumed, with this change
    data/.a.npy.mmflow~changed-RUN/    the change counts; to be deleted
    data/.a.npy.mmflow~undone-RUN/     the change was undone; to be deleted

    in place   log regions, change them; fsync; rename change-RUN to changed-RUN
    else       write `new`; fsync; rename it to the file
    roll back  restore the content of all undo-…; rename change-RUN to undone-RUN

The renames are the points at which a change counts, or is gone. They are made under a lock on all of the file's
bytes (`arrays.locks`), and workers lock the bytes that they write while they check for `rows` and write. So late
workers, even of dead drivers, never write to a final file.

A worker writes whole pages, which no other one writes. It returns the rest of its bytes, where regions meet within a
page, and the driver writes them: two hosts that write to one page would each send all of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mmflow.arrays.holes import clone_file, write_at, write_sparsely
from mmflow.arrays.locks import lock_bytes
from mmflow.arrays.undo import has_live_writers, restore_content, roll_back_dead_writers
from mmflow.errors import SinkError
from mmflow.mapping.system import system
from mmflow.mapping.system.owner_lock import OwnerLock
from mmflow.sinks.commit.atomic import fsync_folder, rename_new
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.sinks.commit.lock import lock_destination
from mmflow.storage import disk
from mmflow.storage.os_errors import write_errors

__all__ = ["NEW", "ROWS", "UNDO", "Change", "is_being_changed", "recover_dead_changes"]

ROWS, NEW, UNDO, FILE, RECORDED = "rows", "new", "undo-", "file", "recorded"


def _beside(path: str, what: str) -> Path:
    absolute = Path(path).absolute()
    return absolute.parent / f".{absolute.name}.mmflow{what}"


def _folders(path: str, *kinds: str) -> list[Path]:
    prefixes = tuple(_beside(path, f"~{kind}-").name for kind in kinds)
    folder = Path(path).absolute().parent
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.startswith(prefixes)]
    except OSError:
        return []


def recover_dead_changes(path: str, own: str = "") -> None:
    """Undo the unfinished changes of dead writers and dead runs in a file, and delete their files beside it.

    The new file of a run that can be resumed stays, and so do all files of the run `own`, which goes on.

    Raises:
        SinkError: The old content can't be written.
    """
    roll_back_dead_writers(path)
    found = _folders(path, "change", "changed", "undone")
    if not found:
        return
    needed = any(name.startswith(UNDO) for folder in found for name in _names(folder))
    with write_errors(path, "restore the old content of") if needed else contextlib.suppress(OSError):
        lock = _free_lock(path)
        if lock is not None:
            try:
                _recover(path, own)
            finally:
                lock.release()


def is_being_changed(path: str) -> bool:
    """Return whether a change of the file is active."""
    if not _folders(path, "change"):
        return False
    with write_errors(path, "lock"):
        lock = _free_lock(path)
        if lock is not None:
            lock.release()
        return lock is None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _free_lock(path: str) -> OwnerLock | None:
    try:
        return lock_destination(_beside(path, "-lock"), destination=path, run="that opens it")
    except SinkError:  # the driver that changes the file lives
        return None


def _lock(path: str, run: str) -> OwnerLock:
    with write_errors(path, "lock"):
        return lock_destination(_beside(path, "-lock"), destination=path, run=run)


def _recover(path: str, own: str = "", *, readers: bool = True) -> None:
    """End the changes of dead runs, under the lock, except those of the run `own`."""
    for folder in _folders(path, "change"):
        keep = readers and (folder / NEW).exists() and (folder / RECORDED).exists()
        if folder.name != _beside(path, f"~change-{own}").name and not keep:
            _undo(path, folder)
    for folder in _folders(path, "undone"):
        disk.remove_tree(folder)
    for folder in _folders(path, "changed"):
        if folder != _beside(path, f"~changed-{own}"):
            # A resumed run must find that it has changed the file already.
            keep = (folder / RECORDED).exists()
            for name in _names(folder) if keep else ():
                if name != RECORDED:
                    disk.unlink(folder / name)
            if not keep:
                disk.remove_tree(folder)


def _undo(path: str, folder: Path) -> None:
    """Restore the old content, and delete the folder of the change."""
    new = folder / NEW
    # Under the lock no late worker writes, whatever it still logs.
    with write_errors(path, "restore the old content of"), _lock_file(str(new) if new.exists() else path):
        for name in sorted(os.listdir(folder)):
            if name.startswith(UNDO) and not name.endswith(".part"):
                log = disk.open(folder / name, os.O_RDONLY | system.open_flags)
                try:
                    restore_content(log, path)
                finally:
                    disk.close(log)
                failpoint("played back")
        undone = _beside(path, folder.name.replace(_beside(path, "~change-").name, "~undone-"))
        disk.rename(folder, undone)
        failpoint("undone")
        fsync_folder(folder.parent)
        disk.remove_tree(undone)


@contextlib.contextmanager
def _lock_file(path: str) -> Iterator[None]:
    """Lock all bytes of a file during the block, if it exists."""
    try:
        fd = disk.open(path, os.O_RDWR | system.open_flags)
    except FileNotFoundError:
        yield
        return
    try:
        with lock_bytes(fd, path):
            yield
    finally:
        disk.close(fd)


class Change:
    """The driver's side of one change; a context manager, which undoes the change unless it was committed.

    Args:
        path: File that is changed, or created.
        run: Name of the run, as part of file names; "": a new one.
        in_place: Whether to change the file itself; else a new one replaces it.
        recorded: Text that describes the change and its regions, for a run that can be resumed: it goes on only with a
            change of the same text, for which an unfinished new file is kept. "": the run can't be resumed.

    Attributes:
        folder: Folder of the change.
        done: Whether an earlier driver of this run committed it.
    """

    def __init__(self, path: str, run: str = "", *, in_place: bool, recorded: str = "") -> None:
        self.path = path
        self.run = run or f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.in_place = in_place
        self.folder = _beside(path, f"~change-{self.run}")
        self.done = False
        self._recorded = recorded
        self._changed = _beside(path, f"~changed-{self.run}")
        self._lock: OwnerLock | None = None
        self._overwrite = False

    @property
    def target(self) -> str:
        """File that workers write to."""
        return os.path.abspath(self.path) if self.in_place else str(self.folder / NEW)

    @property
    def rows(self) -> str:
        """File that tasks are cut from."""
        return str(self.folder / ROWS)

    # ---- before -----------------------------------------------------------------------------------------

    def begin(
        self,
        size: int,
        *,
        overwrite: bool = False,
        pieces: Mapping[int, bytes] | None = None,
        preallocate: bool = True,
        like: str | None = None,
    ) -> None:
        """Prepare the change, or resume the one that an earlier driver of this run began.

        Args:
            size: Size of the file, in bytes.
            overwrite: Whether an existing file may be replaced.
            pieces: Content of a new file before any row is written, by offset.
            preallocate: Whether to reserve the space of a new file now.
            like: File of which a new file begins as a copy.

        Raises:
            SinkError: The file exists, another run changes it, or it is not the one that an earlier driver of this run
                began to change; the disk is full, or there is no permission.
        """
        self._overwrite = overwrite
        self._lock = _lock(self.path, self.run)
        try:
            with write_errors(self.path, "change" if self.in_place else "make"):
                _recover(self.path, self.run, readers=False)
                self.done = self._was_committed()
                if self.done:
                    return
                if not self.in_place and not overwrite and os.path.lexists(self.path):
                    raise FileExistsError
                if os.path.exists(self.path) and has_live_writers(self.path):
                    raise SinkError(
                        f"{self.path} is open with changes that are not flushed yet; flush or close it first",
                        path=self.path,
                    )
                if os.path.exists(self.rows) and self._read_recorded() != self._recorded:
                    _undo(self.path, self.folder)
                if os.path.exists(self.rows):
                    self._check_file()
                else:
                    self._create_folder(size, pieces or {}, like, preallocate=preallocate)
        except BaseException:
            self._clean_up()
            raise

    def _was_committed(self) -> bool:
        if self.in_place:
            return self._changed.exists()
        return os.path.exists(self.rows) and not os.path.exists(self.target)

    def _read_recorded(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / RECORDED).read_text()
        return ""

    def _create_folder(
        self, size: int, pieces: Mapping[int, bytes], like: str | None, *, preallocate: bool
    ) -> None:
        disk.remove_tree(self.folder)
        disk.mkdir(self.folder)
        if self._recorded:
            disk.write_file(self.folder / RECORDED, self._recorded.encode(), sync=True)
        if self.in_place:
            disk.write_file(self.folder / FILE, str(os.stat(self.path).st_ino).encode(), sync=True)
        else:
            self._create_new_file(size, pieces, like, preallocate=preallocate)
        failpoint("prepared")
        unfinished = self.folder / f"{ROWS}.part"
        fd = disk.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | system.open_flags, 0o666)
        try:
            disk.ftruncate(fd, size)
            system.sync(fd)
        finally:
            disk.close(fd)
        fsync_folder(self.folder)  # `rows` says that all else is there, also after a power cut
        disk.rename(unfinished, self.rows)
        fsync_folder(self.folder)
        fsync_folder(self.folder.parent)
        failpoint("begun")

    def _check_file(self) -> None:
        """Check that the file is still the one whose pages were changed.

        Raises:
            SinkError: Another one has taken its place.
        """
        known = self.folder / FILE
        if self.in_place and known.exists() and known.read_text() != str(os.stat(self.path).st_ino):
            raise SinkError(
                f"another file has taken the place of {self.path} since its change began, and is left as it is; the "
                f"old pages of the one before are in {self.folder}: delete that folder, then run anew, without "
                "--resume",
                path=self.path,
            )

    def _create_new_file(
        self, size: int, pieces: Mapping[int, bytes], like: str | None, *, preallocate: bool
    ) -> None:
        fd = disk.open(self.target, os.O_CREAT | os.O_EXCL | os.O_RDWR | system.open_flags, 0o666)
        try:
            with contextlib.suppress(FileNotFoundError):
                disk.chmod(self.target, stat.S_IMODE(os.stat(self.path).st_mode))
            if like is not None:
                source = disk.open(like, os.O_RDONLY | system.open_flags)
                try:
                    clone_file(source, fd)
                finally:
                    disk.close(source)
            disk.ftruncate(fd, size)
            for offset, data in pieces.items():
                write_at(fd, data, offset)
            if preallocate and size:
                system.preallocate(fd, 0, size)
            system.sync(fd)
        finally:
            disk.close(fd)

    # ---- while it is active --------------------------------------------------------------------------------

    def write_seams(self, pieces: Mapping[int, bytes | memoryview]) -> None:
        """Write the seams of regions whose tasks are done, by offset: bytes that are not whole pages.

        Raises:
            SinkError: The disk is full.
        """
        if pieces:
            self._check_file()
            with write_errors(self.path), open(self.target, "r+b", buffering=0) as file:
                for offset, data in pieces.items():
                    with lock_bytes(file.fileno(), self.path, offset, len(data)):
                        write_sparsely(file.fileno(), data, offset, system.granularity)
                    failpoint("put")

    # ---- ends ------------------------------------------------------------------------------------------------

    def commit(self, published: Callable[[], None] = lambda: None) -> None:
        """Make the change durable, and publish it.

        Args:
            published: Function that is called once the change is visible, before its files are deleted.

        Raises:
            SinkError: The disk fails, another process created a file of this name meanwhile, or another file has taken
                the place of the one that was changed.
        """
        if not self.done:
            with write_errors(self.path, "commit the change of"), open(self.target, "r+b") as file:
                system.sync(file.fileno())
                failpoint("synced")
                with lock_bytes(file.fileno(), self.path):
                    self._check_file()
                    self._publish()
                failpoint("published")
        with write_errors(self.path, "commit the change of"):
            # An earlier driver, too, may have published it and died before this.
            fsync_folder(self.folder.parent)
        self.done = True
        published()
        failpoint("noted")
        self._clean_up()

    def _publish(self) -> None:
        if self.in_place:
            disk.rename(self.folder, self._changed)
        elif self._overwrite:
            disk.replace(self.target, self.path)
        else:
            rename_new(Path(self.target), Path(self.path).absolute())

    def abort(self) -> None:
        """Undo the change, unless its run can be resumed. Idempotent; does nothing after `commit`."""
        if self._lock is None:
            return
        try:
            keep = bool(self._recorded) and not self.in_place
            if self.folder.exists() and not self.done and not keep:
                _undo(self.path, self.folder)
        finally:
            self._lock.release()
            self._lock = None

    def _clean_up(self) -> None:
        if self.done:
            disk.remove_tree(self._changed)
            if not self.in_place:
                disk.remove_tree(self.folder)
            failpoint("cleaned")
        elif not os.path.exists(self.rows):
            disk.remove_tree(self.folder)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def sweep(self) -> None:
        """Delete the files of a change that an earlier driver of this run committed.

        Raises:
            SinkError: Another run is changing the file.
        """
        self._lock = _lock(self.path, self.run)
        self.done = True
        self._clean_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
