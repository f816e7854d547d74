"""The folder of a run: on a local path, or any file system that fsspec knows.

    read, write      small files, whole
    LogWriter        lines that are appended; object stores can't append, so there a log is many small objects
    read_lines       what was appended, by whichever driver
    read_facts       the same, of logs whose lines are JSON

Invariant: a file that was written whole is old or new to whoever reads it, never half.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import shutil
import stat
import time
from collections.abc import Iterator
from typing import Any

from mmflow.errors import ConfigError, EngineError, plain_text

__all__ = ["LogWriter", "RunDirectory"]

#: An object store gets a new object for each so many seconds, or bytes.
_FLUSH_SECONDS = 1.0
_FLUSH_BYTES = 1 << 20


class RunDirectory:
    """One run's folder.

    Args:
        parent: Where runs are kept: a path, or a URL.
        name: The run's.
    """

    def __init__(self, parent: str | os.PathLike[str], name: str) -> None:
        self.name = name
        self.url = posixpath.join(os.fspath(parent), name)
        self.remote = "://" in self.url
        self._fs: Any = None
        self._root = self.url
        if self.remote:
            self._fs, self._root = _file_system(self.url)

    def make(self) -> None:
        """Make the folder; only its owner may look into it.

        Raises:
            EngineError: It can't be made, or is somebody else's.
        """
        if self.remote:
            return  # object stores have no folders
        with self._failing("make"):
            os.makedirs(os.path.dirname(self.url), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.url, mode=0o700)
        self.check()

    def check(self) -> None:
        """Check that it is this user's own, if it is there: a run says which code is run, and is written to.

        Raises:
            EngineError: It is somebody else's, or a link to who knows where.
        """
        if self.remote:
            return
        try:
            with self._failing("look at"):
                status = os.lstat(self.url)
        except EngineError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise EngineError(
                f"{self.url} is not a folder of yours; set runs_dir to one that is", path=self.url
            )

    def path(self, name: str) -> str:
        """The path or URL of a file in it."""
        return posixpath.join(self.url, name)

    def folder(self, name: str) -> str:
        """The path or URL of a folder in it, which is made.

        Raises:
            EngineError: It can't be made.
        """
        if not self.remote:
            with self._failing("make"):
                path = self.url
                for part in name.split("/"):  # makedirs gives its mode to the last one only
                    path = posixpath.join(path, part)
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(path, mode=0o700)
        return self.path(name)

    def exists(self, name: str = "") -> bool:
        """Is there such a file or folder?"""
        if not self.remote:
            return os.path.exists(self.path(name) if name else self.url)
        self._fs.invalidate_cache()  # listings are kept, and others write here
        return bool(self._fs.exists(self._at(name)))

    def claim(self, name: str) -> None:
        """Make an empty file that nobody else has made, where that is how drivers exclude each other.

        Raises:
            EngineError: Somebody else has.
        """
        if not self.remote:
            return
        with self._failing("write"):
            try:
                self._fs.pipe_file(self._at(name), b"", mode="create")
            except FileExistsError:
                raise EngineError(
                    f"another driver of run {self.name} has just started; see mmflow status {self.name}"
                ) from None

    def write(self, name: str, text: str) -> None:
        """Write a small file whole.

        Raises:
            EngineError: No room, no permission.
        """
        self.write_bytes(name, plain_text(text).encode())

    def write_bytes(self, name: str, data: Any) -> None:
        """Write a file whole.

        Raises:
            EngineError: No room, no permission.
        """
        with self._failing("write"):
            if self.remote:
                self._fs.pipe_file(self._at(name), bytes(data))
                return
            temporary = self.path(f".{name}.{os.getpid()}.tmp")
            try:
                fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as file:
                    file.write(data)
                os.replace(temporary, self.path(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise

    def read(self, name: str) -> str | None:
        """A small text file; None: there is none.

        Raises:
            EngineError: It can't be read.
        """
        data = self.read_bytes(name)
        return None if data is None else data.decode(errors="replace")

    def read_bytes(self, name: str) -> bytes | None:
        """A file; None: there is none.

        Raises:
            EngineError: It can't be read.
        """
        with self._failing("read"):
            try:
                return self._bytes(name)
            except FileNotFoundError:
                return None

    def _bytes(self, name: str, begin: int = 0) -> bytes:
        if self.remote:
            return bytes(self._fs.cat_file(self._at(name)))
        with open(self.path(name), "rb") as file:
            file.seek(begin)
            return file.read()

    def size(self, path: str) -> int | None:
        """Bytes of a file in it, by its full path or URL; None: it is not there."""
        try:
            if self.remote:
                return int(self._fs.size(self._fs._strip_protocol(path)))
            return os.stat(path).st_size
        except FileNotFoundError:
            return None

    def append(self, log: str, lines: list[str]) -> None:
        """Append lines to a log of a local folder, of a run whose driver writes elsewhere (it has a `LogWriter`).

        Raises:
            EngineError: No room, no permission.
        """
        self.folder(log)
        with self._failing("write"), open(self.path(f"{log}/000000.jsonl"), "ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there and can be."""
        with contextlib.suppress(OSError):
            if self.remote:
                self._fs.rm(self._at(name), recursive=True)
            elif os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name), ignore_errors=True)
            else:
                os.unlink(self.path(name))

    def remove_files(self, folder: str, end: str) -> None:
        """Remove the files of a folder whose names end so, as far as they can be."""
        for name in self.names(folder):
            if name.endswith(end):
                self.remove(f"{folder}/{name}")

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none if it is not there."""
        try:
            if self.remote:
                self._fs.invalidate_cache(self._at(folder))
                return sorted(
                    posixpath.basename(p.rstrip("/")) for p in self._fs.ls(self._at(folder), detail=False)
                )
            return sorted(os.listdir(self.path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read_lines(self, log: str, read: dict[str, int] | None = None) -> Iterator[str]:
        """The lines of a log; a last line without its end is left out.

        Args:
            log: Its folder.
            read: Bytes of each of its files that are known already, which is brought up to date.

        Raises:
            EngineError: It can't be read.
        """
        read = {} if read is None else read
        for name in self.names(log):
            known = read.get(name, 0)
            if known and self.remote:
                continue  # objects are written once
            with self._failing("read"):
                data = self._bytes(f"{log}/{name}", known)
            *lines, rest = data.split(b"\n")
            read[name] = known + len(data) - len(rest)
            for line in lines:
                yield line.decode(errors="replace")

    def read_facts(self, log: str, read: dict[str, int] | None = None) -> Iterator[dict[str, Any]]:
        """The JSON objects of a log; damaged lines are left out. Takes and raises what `read_lines` does."""
        for line in self.read_lines(log, read):
            with contextlib.suppress(ValueError):
                fact = json.loads(line)
                if isinstance(fact, dict):
                    yield fact

    def _at(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root

    @contextlib.contextmanager
    def _failing(self, what: str, path: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or path or self.url
            raise EngineError(
                f"can't {what} {where}: {error.strerror or error}; make room or give permission, "
                "or set runs_dir (MMFLOW_RUNS_DIR) to another folder",
                path=self.url,
            ) from error


class LogWriter:
    """Appends lines to a log of a run: one writer for each time that its driver was started.

    Args:
        directory: The run's.
        log: Name of the log's folder.
        opening: How often the run was started before: no two writers share a file.
    """

    def __init__(self, directory: RunDirectory, log: str, opening: int) -> None:
        self._directory = directory
        self._log = log
        self._opening = opening
        self._path = directory.path(f"{log}/{opening:06}.jsonl")
        self._fd = -1
        self._held: list[bytes] = []
        self._bytes = 0
        self._flushed = time.monotonic()
        self._objects = 0
        if not directory.remote:
            directory.folder(log)
            with directory._failing("write"):
                self._fd = os.open(
                    self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600
                )

    def line(self, text: str) -> None:
        """Append a line; to a local file at once.

        Raises:
            EngineError: No room.
        """
        data = plain_text(text).encode() + b"\n"
        if self._fd >= 0:
            with self._directory._failing("write", self._path):
                self._append(data)
            return
        self._held.append(data)
        self._bytes += len(data)
        if self._bytes >= _FLUSH_BYTES or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with contextlib.suppress(OSError):  # else the next line would go on where this one broke off
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - (len(data) - len(view)))
            raise

    def flush(self) -> None:
        """Write what is held back.

        Raises:
            EngineError: It can't be written.
        """
        self._flushed = time.monotonic()
        if self._held:
            name = f"{self._log}/{self._opening:06}-{self._objects:06}.jsonl"
            self._objects += 1
            data, self._held, self._bytes = b"".join(self._held), [], 0
            with self._directory._failing("write"):
                self._directory._fs.pipe_file(self._directory._at(name), data)

    def close(self) -> None:
        """Flush, and close. Idempotent."""
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415  (slow to import, and needed for URLs only)

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"can't keep runs in {url}: {error}") from error
    return fs, root
