"""Folder of a run: on a local path, or any file system that fsspec knows.

    read, write      small files, whole
    LogWriter        lines that are appended; object stores can't append, so there a log is many small objects
    read_lines       appended lines, of all drivers
    read_facts       the same, for logs whose lines are JSON

Invariant: a reader sees the old or the new version of a file that is written whole, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from mmflow.errors import EngineError, plain_text
from mmflow.mapping.system import system
from mmflow.storage import clock, disk
from mmflow.storage.facts import parse_object
from mmflow.storage.object_store import ObjectStore, open_store

__all__ = ["LogWriter", "RunDirectory", "disk_usage"]

#: Limits of seconds and bytes after which a log on an object store gets a new object.
_FLUSH_SECONDS = 1.0
_FLUSH_BYTES = 1 << 20


class RunDirectory:
    """Folder of one run.

    Args:
        parent: Folder of all runs: a path, or a URL.
        name: Name of the run.
    """

    def __init__(self, parent: str | os.PathLike[str], name: str) -> None:
        self.name = name
        self.url = posixpath.join(os.fspath(parent), name)
        self._store: ObjectStore | None = None
        if "://" in self.url:
            self._store = open_store(self.url, action="keep runs in")

    @property
    def remote(self) -> bool:
        """True if the folder is a URL."""
        return self._store is not None

    @property
    def exclusive(self) -> bool:
        """True if `create` is atomic; else two clients that create at once may both succeed."""
        return self._store is None or self._store.exclusive

    def make(self) -> None:
        """Create the folder with access for its owner only.

        Raises:
            EngineError: It can't be created, or belongs to another user.
        """
        if self.remote:
            return  # object stores have no folders
        with self.engine_errors("make"):
            disk.makedirs(os.path.dirname(self.url), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                disk.mkdir(self.url, mode=0o700)
        self.check()

    def check(self) -> None:
        """Check that the folder, if it exists, belongs to this user: it decides which code runs.

        Raises:
            EngineError: It belongs to another user, or is a symbolic link.
        """
        if self.remote:
            return
        try:
            with self.engine_errors("look at"):
                status = os.lstat(self.url)
        except EngineError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise EngineError(
                f"{self.url} is not a folder of yours; set runs_dir to one that is", path=self.url
            )

    def path(self, name: str = "") -> str:
        """Return the path or URL of a file in the folder, or of the folder."""
        return f"{self.url}/{name}" if name else self.url

    def folder(self, name: str) -> str:
        """Create a folder in it, and return its path or URL.

        Raises:
            EngineError: It can't be created.
        """
        if not self.remote:
            with self.engine_errors("make"):
                path = self.url
                for part in name.split("/"):  # makedirs gives its mode to the last one only
                    path = posixpath.join(path, part)
                    with contextlib.suppress(FileExistsError):
                        disk.mkdir(path, mode=0o700)
        return self.path(name)

    def exists(self, name: str = "") -> bool:
        """Return whether there is such a file or folder."""
        if self._store is None:
            return os.path.exists(self.path(name))
        with self.engine_errors("look at"):
            try:
                return bool(self._store.info(self.path(name)))
            except FileNotFoundError:
                return False

    def create(self, name: str, text: str) -> bool:
        """Write a small file of a remote folder that must not exist; return False if it does.

        Raises:
            EngineError: It can't be written.
        """
        assert self._store is not None  # local folders have locks
        with self.engine_errors("write"):
            try:
                self._store.create(self.path(name), plain_text(text).encode())
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno == errno.EBUSY:  # S3's 409: another client creates it at this moment
                    return False
                raise
        return True

    def write(self, name: str, text: str, *, sync: bool = False) -> None:
        """Write a small file whole. Takes and raises what `write_bytes` does."""
        self.write_bytes(name, plain_text(text).encode(), sync=sync)

    def write_bytes(self, name: str, data: Any, *, sync: bool = False) -> None:
        """Write a file whole.

        Args:
            name: Name of the file.
            data: Its content.
            sync: Whether it is whole after a power cut, too, if it is there. For what makes a run unusable if damaged.

        Raises:
            EngineError: No space, no permission.
        """
        with self.engine_errors("write"):
            if self._store is not None:
                self._store.write(self.path(name), bytes(data))
                return
            temporary = self.path(f".{name}.{os.getpid()}.tmp")
            try:
                disk.write_file(temporary, data, mode=0o600, sync=sync)
                disk.replace(temporary, self.path(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    disk.unlink(temporary)
                raise

    def read(self, name: str) -> str | None:
        """Read a small text file; None if there is none.

        Raises:
            EngineError: It can't be read.
        """
        data = self.read_bytes(name)
        return None if data is None else data.decode(errors="replace")

    def read_bytes(self, name: str) -> bytes | None:
        """Read a file; None if there is none.

        Raises:
            EngineError: It can't be read.
        """
        with self.engine_errors("read"):
            try:
                return self._bytes(name)
            except FileNotFoundError:
                return None

    def _bytes(self, name: str, begin: int = 0) -> bytes:
        if self._store is not None:
            return self._store.read(self.path(name))
        with open(self.path(name), "rb", buffering=0) as file:  # a buffer takes longer than a small file
            if begin:
                file.seek(begin)
            return file.read()

    def read_object(self, name: str, shape: dict[str, Any]) -> dict[str, Any]:
        """Read a file of one JSON object; empty if it is missing, damaged, or not of this shape (`storage/facts.py`).

        Raises:
            EngineError: It can't be read.
        """
        text = self.read(name)
        if not text:
            return {}
        try:
            return parse_object(text, shape)
        except ValueError:
            return {}

    def size(self, path: str) -> int | None:
        """Return the bytes of a file in it, by its full path or URL; None if there is none."""
        try:
            if self._store is not None:
                return int(self._store.info(path)["size"])
            return os.stat(path).st_size
        except FileNotFoundError:
            return None

    def usage(self) -> int:
        """Return the bytes that the folder takes, on disk where it is local; files that are going do not count."""
        if self._store is not None:
            with self.engine_errors("look at"):
                return sum(int(info["size"]) for info in self._store.find(self.url).values())
        return disk_usage(self.url)

    def modified(self, name: str) -> float:
        """Return when a file in it was last written, in seconds since 1970, by the clock of its file system."""
        with self.engine_errors("look at"):
            if self._store is None:
                return os.stat(self.path(name)).st_mtime
            info = self._store.info(self.path(name))
        written = next((info[k] for k in ("LastModified", "mtime", "updated", "created") if info.get(k)), 0)
        return float(written.timestamp() if hasattr(written, "timestamp") else written)

    def append(self, log: str, lines: list[str]) -> None:
        """Append lines to a log of a local folder, of a run whose driver writes elsewhere (it has a `LogWriter`).

        Raises:
            EngineError: No space, no permission.
        """
        self.folder(log)
        with self.engine_errors("write"):
            text = "".join(f"{line}\n" for line in lines)
            disk.write_file(self.path(f"{log}/000000.jsonl"), text.encode(), flags=os.O_APPEND)

    def remove(self, name: str) -> None:
        """Remove a file or folder if it exists, as far as possible."""
        with contextlib.suppress(OSError):
            if self._store is not None:
                self._store.delete_tree(self.path(name))
            elif os.path.isdir(self.path(name)):
                disk.remove_tree(self.path(name))
            else:
                disk.unlink(self.path(name))

    def remove_files(self, folder: str, end: str) -> None:
        """Remove the files of a folder with this suffix, as far as possible."""
        with contextlib.suppress(EngineError):
            for name in self.names(folder):
                if name.endswith(end):
                    self.remove(f"{folder}/{name}")

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if it doesn't exist.

        Raises:
            EngineError: It can't be listed.
        """
        with self.engine_errors("list", self.path(folder)):
            try:
                if self._store is not None:
                    return sorted(
                        posixpath.basename(u.rstrip("/")) for u in self._store.list(self.path(folder))
                    )
                return sorted(os.listdir(self.path(folder)))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read_lines(self, log: str, read: dict[str, int] | None = None) -> Iterator[str]:
        """Yield the lines of a log, without an incomplete last one.

        Args:
            log: Name of the log's folder.
            read: Bytes already read of each of its files; updated.

        Raises:
            EngineError: It can't be read.
        """
        read = {} if read is None else read
        for name in self.names(log):
            known = read.get(name, 0)
            if known and self.remote:
                continue  # objects are written once
            with self.engine_errors("read"):
                data = self._bytes(f"{log}/{name}", known)
            *lines, rest = data.split(b"\n")
            read[name] = known + len(data) - len(rest)
            for line in lines:
                yield line.decode(errors="replace")

    def sync_lines(self, log: str) -> None:
        """Make the lines of a log, whoever wrote them, survive a power cut.

        Raises:
            EngineError: The disk fails.
        """
        for name in () if self.remote else self.names(log):
            path = self.path(f"{log}/{name}")
            with self.engine_errors("write", path):
                disk.sync_file(path)

    def read_facts(
        self, log: str, shape: dict[str, Any] | None = None, read: dict[str, int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of a log that have this shape; lines that have not are damaged, and left out.

        Takes and raises what `read_lines` does.
        """
        for line in self.read_lines(log, read):
            with contextlib.suppress(ValueError):
                yield parse_object(line, shape or {})

    def engine_errors(self, what: str, path: str = "") -> _EngineErrors:
        """Raise an EngineError with advice in place of an OSError of the block."""
        return _EngineErrors(self.url, what, path)


class _EngineErrors:
    """Context manager of `engine_errors`; a class, since a generator takes longer than most of the calls in it."""

    __slots__ = ("_path", "_url", "_what")

    def __init__(self, url: str, what: str, path: str) -> None:
        self._url, self._what, self._path = url, what, path

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            where = error.filename or self._path or self._url
            raise EngineError(
                f"can't {self._what} {where}: {error.strerror or error}; make room or give permission, "
                "or set runs_dir (MMFLOW_RUNS_DIR) to another folder",
                path=self._url,
            ) from error


def disk_usage(folder: str) -> int:
    """Return the bytes that the files of a local folder take on disk."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(here, name)).st_blocks * 512
    return total


class LogWriter:
    """Writer of lines to a log of a run, one for each opening.

    Args:
        directory: Folder of the run.
        log: Name of the log's folder.
        opening: Number of earlier starts of the run: no two writers share a file.
    """

    def __init__(self, directory: RunDirectory, log: str, opening: int) -> None:
        self._directory = directory
        self._log = log
        self._opening = opening
        self._path = directory.path(f"{log}/{opening:06}.jsonl")
        self._fd = -1
        self._buffer: list[bytes] = []
        self._bytes = 0
        self._flushed = clock.monotonic()
        self._objects = 0
        #: Folders to sync: the log's, the run's, that of all runs, and the one that this may be new in.
        self._unsynced_names = 4
        if not directory.remote:
            directory.folder(log)
            with directory.engine_errors("write"):
                self._fd = disk.open(
                    self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600
                )

    def line(self, text: str) -> None:
        """Append a line; to a local file at once.

        Raises:
            EngineError: No space.
        """
        data = plain_text(text).encode() + b"\n"
        if self._fd >= 0:
            with self._directory.engine_errors("write", self._path):
                self._append(data)
            return
        self._buffer.append(data)
        self._bytes += len(data)
        if self._bytes >= _FLUSH_BYTES or clock.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[disk.write(self._fd, view) :]
        except OSError:
            with contextlib.suppress(OSError):  # else the next line would be appended to this partial one
                disk.ftruncate(self._fd, os.fstat(self._fd).st_size - (len(data) - len(view)))
            raise

    def flush(self) -> None:
        """Write the buffered lines.

        Raises:
            EngineError: It can't be written.
        """
        self._flushed = clock.monotonic()
        if self._buffer:
            name = f"{self._log}/{self._opening:06}-{self._objects:06}.jsonl"
            self._objects += 1
            data, self._buffer, self._bytes = b"".join(self._buffer), [], 0
            self._directory.write_bytes(name, data)

    def sync(self) -> None:
        """Make all lines, and the folder of the run, survive a power cut.

        Raises:
            EngineError: They can't be written.
        """
        self.flush()
        if self._fd >= 0:
            with self._directory.engine_errors("write", self._path):
                disk.fsync(self._fd)
                folder = os.path.dirname(self._path)
                while self._unsynced_names:
                    system.sync_folder(folder)
                    folder = os.path.dirname(folder)
                    self._unsynced_names -= 1

    def close(self) -> None:
        """Flush, and close. Idempotent.

        Raises:
            EngineError: They can't be written.
        """
        self.flush()
        fd, self._fd = self._fd, -1  # it is closed whatever `close` says
        if fd >= 0:
            with self._directory.engine_errors("write", self._path):
                disk.close(fd)
