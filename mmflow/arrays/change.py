"""One change of an array file by many workers: all of it, or, whoever dies when, nothing.

    data/a.npy                         the file
    data/.a.npy.mmflow-lock            held by whoever changes it (`sinks.lock`); free: what is below is of the dead
    data/.a.npy.mmflow~change-RUN/     one change
        rows                           as large as the file, all hole: what its tasks are cut of; there while the change
                                       is under way, so a worker that does not find it any more writes nothing
        undo-BEGIN                     in place: the old content of the region that begins there, durable, whole
        new                            else: the file to be
        recorded                       the run can be resumed, with this change
    data/.a.npy.mmflow~changed-RUN/    the change counts; to be deleted
    data/.a.npy.mmflow~undone-RUN/     it was undone; to be deleted

    in place   log regions, change them; fsync; rename change-RUN to changed-RUN
    else       write `new`; fsync; rename it to the file
    roll back  put back what all undo-… say; rename change-RUN to undone-RUN

The renames are the points at which a change counts, or is gone. Whoever makes them holds a lock on all of the file's
bytes (`arrays.locks`), and workers hold one on what they write while they look for `rows` and write: so late workers,
of dead drivers too, never write to what is final.

A worker writes whole pages, which no other has. The rest of its bytes, where regions meet within a page, it
returns, and the driver writes them: two hosts that write to one page would each send back all of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mmflow.arrays.failures import writing
from mmflow.arrays.holes import clone, write_at, write_sparsely
from mmflow.arrays.locks import locked
from mmflow.arrays.undo import live_writers, play_back, roll_back_dead
from mmflow.errors import SinkError
from mmflow.mapping.system import system
from mmflow.sinks.atomic import fsync_folder, rename_new
from mmflow.sinks.checkpoints import checkpoint
from mmflow.sinks.lock import DestinationLock

__all__ = ["NEW", "ROWS", "UNDO", "Change", "being_changed", "settle"]

ROWS, NEW, UNDO, RECORDED = "rows", "new", "undo-", "recorded"


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


def settle(path: str, own: str = "") -> None:
    """Put back what dead writers and dead runs left half changed in a file, and delete what they left beside it.

    What a run that can be resumed wrote beside the file stays, and so does all of the run `own`, which goes on.

    Raises:
        SinkError: The old content can't be written.
    """
    roll_back_dead(path)
    found = _folders(path, "change", "changed", "undone")
    if not found:
        return
    needed = any(name.startswith(UNDO) for folder in found for name in _names(folder))
    with writing(path, "put back the old content of") if needed else contextlib.suppress(OSError):
        lock = _free_lock(path)
        if lock is not None:
            try:
                _settle(path, own)
            finally:
                lock.release()


def being_changed(path: str) -> bool:
    """Is a change of the file under way?"""
    if not _folders(path, "change"):
        return False
    with writing(path, "lock"):
        lock = _free_lock(path)
        if lock is not None:
            lock.release()
        return lock is None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _free_lock(path: str) -> DestinationLock | None:
    try:
        return DestinationLock.acquire(_beside(path, "-lock"), destination=path, run="that opens it")
    except SinkError:  # whoever changes the file lives
        return None


def _lock(path: str, run: str) -> DestinationLock:
    with writing(path, "lock"):
        return DestinationLock.acquire(_beside(path, "-lock"), destination=path, run=run)


def _settle(path: str, own: str = "", *, readers: bool = True) -> None:
    """With the lock: end what the dead left, but for the run `own`."""
    for folder in _folders(path, "change"):
        keep = readers and (folder / NEW).exists() and (folder / RECORDED).exists()
        if folder.name != _beside(path, f"~change-{own}").name and not keep:
            _undo(path, folder)
    for folder in _folders(path, "undone"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in _folders(path, "changed"):
        if folder != _beside(path, f"~changed-{own}"):
            # A run that goes on must find that it changed the file already.
            keep = (folder / RECORDED).exists()
            for name in _names(folder) if keep else ():
                if name != RECORDED:
                    os.unlink(folder / name)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


def _undo(path: str, folder: Path) -> None:
    """Put back the old content, and delete the folder of the change."""
    new = folder / NEW
    # With the lock no late worker writes, whatever it still logs.
    with writing(path, "put back the old content of"), _all_of(str(new) if new.exists() else path):
        for name in sorted(os.listdir(folder)):
            if name.startswith(UNDO) and not name.endswith(".part"):
                log = os.open(folder / name, os.O_RDONLY | system.OPEN_FLAGS)
                try:
                    play_back(log, path)
                finally:
                    os.close(log)
                checkpoint("played back")
        undone = _beside(path, folder.name.replace(_beside(path, "~change-").name, "~undone-"))
        os.rename(folder, undone)
        checkpoint("undone")
        fsync_folder(folder.parent)
        shutil.rmtree(undone, ignore_errors=True)


@contextlib.contextmanager
def _all_of(path: str) -> Iterator[None]:
    """Hold a lock on all bytes of a file, if it is there."""
    try:
        fd = os.open(path, os.O_RDWR | system.OPEN_FLAGS)
    except FileNotFoundError:
        yield
        return
    try:
        with locked(fd, path):
            yield
    finally:
        os.close(fd)


class Change:
    """The driver's side of one change: a context manager, which undoes it unless it was committed.

    Args:
        path: The file: that is changed, or is to be.
        run: Its name, as part of file names; "": made up.
        in_place: Change the file itself; else a new one takes its place.
        recorded: The run can be resumed, and goes on with a change of the same text only, which says what it does and
            how it is cut into regions. A new file that is not whole yet is kept for it. "": it can't.

    Attributes:
        folder: Of the change.
        done: An earlier driver of this run committed it.
    """

    def __init__(self, path: str, run: str = "", *, in_place: bool, recorded: str = "") -> None:
        self.path = path
        self.run = run or f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.in_place = in_place
        self.folder = _beside(path, f"~change-{self.run}")
        self.done = False
        self._recorded = recorded
        self._changed = _beside(path, f"~changed-{self.run}")
        self._lock: DestinationLock | None = None
        self._overwrite = False

    @property
    def target(self) -> str:
        """The file that workers write to."""
        return os.path.abspath(self.path) if self.in_place else str(self.folder / NEW)

    @property
    def rows(self) -> str:
        """The file that tasks are cut of."""
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
        """Make room. A change that an earlier driver of this run began goes on.

        Args:
            size: Bytes of the file.
            overwrite: A file that is there may be replaced.
            pieces: What a new file holds before any row is written, by offset.
            preallocate: Take all the room of a new file now.
            like: A new file begins as a copy of this one.

        Raises:
            SinkError: The file is there, or is being changed; no room, no permission.
        """
        self._overwrite = overwrite
        self._lock = _lock(self.path, self.run)
        try:
            with writing(self.path, "change" if self.in_place else "make"):
                _settle(self.path, self.run, readers=False)
                self.done = self._was_committed()
                if self.done:
                    return
                if not self.in_place and not overwrite and os.path.lexists(self.path):
                    raise FileExistsError
                if os.path.exists(self.path) and live_writers(self.path):
                    raise SinkError(
                        f"{self.path} is open with changes that are not flushed yet; flush or close it first",
                        path=self.path,
                    )
                if os.path.exists(self.rows) and self._known() != self._recorded:
                    _undo(self.path, self.folder)
                if not os.path.exists(self.rows):
                    self._make(size, pieces or {}, like, preallocate=preallocate)
        except BaseException:
            self._leave()
            raise

    def _was_committed(self) -> bool:
        if self.in_place:
            return self._changed.exists()
        return os.path.exists(self.rows) and not os.path.exists(self.target)

    def _known(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / RECORDED).read_text()
        return ""

    def _make(self, size: int, pieces: Mapping[int, bytes], like: str | None, *, preallocate: bool) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.mkdir(self.folder)
        if self._recorded:
            (self.folder / RECORDED).write_text(self._recorded)
        if not self.in_place:
            self._make_new(size, pieces, like, preallocate=preallocate)
        checkpoint("prepared")
        unfinished = self.folder / f"{ROWS}.part"
        with open(unfinished, "wb") as file:
            file.truncate(size)
            system.sync(file.fileno())
        os.rename(unfinished, self.rows)
        fsync_folder(self.folder)
        fsync_folder(self.folder.parent)
        checkpoint("begun")

    def _make_new(
        self, size: int, pieces: Mapping[int, bytes], like: str | None, *, preallocate: bool
    ) -> None:
        fd = os.open(self.target, os.O_CREAT | os.O_EXCL | os.O_RDWR | system.OPEN_FLAGS, 0o666)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(self.target, stat.S_IMODE(os.stat(self.path).st_mode))
            if like is not None:
                source = os.open(like, os.O_RDONLY | system.OPEN_FLAGS)
                try:
                    clone(source, fd)
                finally:
                    os.close(source)
            os.ftruncate(fd, size)
            for offset, data in pieces.items():
                write_at(fd, data, offset)
            if preallocate and size:
                system.preallocate(fd, 0, size)
        finally:
            os.close(fd)

    # ---- while it is under way -----------------------------------------------------------------------------

    def put(self, pieces: Mapping[int, bytes | memoryview]) -> None:
        """Write bytes of regions whose tasks are done, by offset: what they could not write as whole pages.

        Raises:
            SinkError: No room.
        """
        if pieces:
            with writing(self.path), open(self.target, "r+b", buffering=0) as file:
                for offset, data in pieces.items():
                    with locked(file.fileno(), self.path, offset, len(data)):
                        write_sparsely(file.fileno(), data, offset, system.GRANULARITY)
                    checkpoint("put")

    # ---- ends ------------------------------------------------------------------------------------------------

    def commit(self, published: Callable[[], None] = lambda: None) -> None:
        """Make the change durable, and count.

        Args:
            published: Called once it can be seen, before what is left of it is deleted.

        Raises:
            SinkError: The disk says no, or somebody made a file of this name meanwhile.
        """
        if not self.done:
            with writing(self.path, "commit the change of"), open(self.target, "r+b") as file:
                system.sync(file.fileno())
                checkpoint("synced")
                with locked(file.fileno(), self.path):
                    self._publish()
                checkpoint("published")
                fsync_folder(self.folder.parent)
            self.done = True
        published()
        checkpoint("noted")
        self._leave()

    def _publish(self) -> None:
        if self.in_place:
            os.rename(self.folder, self._changed)
        elif self._overwrite:
            os.replace(self.target, self.path)
        else:
            rename_new(Path(self.target), Path(self.path).absolute())

    def abort(self) -> None:
        """Undo the change, unless its run may go on with it. Idempotent; nothing after `commit`."""
        if self._lock is None:
            return
        try:
            keep = bool(self._recorded) and not self.in_place
            if self.folder.exists() and not self.done and not keep:
                _undo(self.path, self.folder)
        finally:
            self._lock.release()
            self._lock = None

    def _leave(self) -> None:
        if self.done:
            shutil.rmtree(self._changed, ignore_errors=True)
            if not self.in_place:
                shutil.rmtree(self.folder, ignore_errors=True)
            checkpoint("cleaned")
        elif not os.path.exists(self.rows):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def sweep(self) -> None:
        """Delete what is left of a change that an earlier driver of this run committed.

        Raises:
            SinkError: Another run changes the file now.
        """
        self._lock = _lock(self.path, self.run)
        self.done = True
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
