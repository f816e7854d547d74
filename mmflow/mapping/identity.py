"""Identity of a file, which must not change between planning and the end of a task.

Invariant: equal identities mean equal bytes, as far as the file system tells. A writer that
keeps the size and sets the time of modification back is not noticed, nor is one that rewrites a
byte within one tick of the file system's clock (4 ms at most on Linux before 6.13).
"""

from __future__ import annotations

import os
import stat

from mmflow.errors import SourceChangedError
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage.os_errors import read_error

__all__ = ["FileIdentity"]

_SETTLED_NS = 2 * 10**9
#: Beginning of the tag of the contents of a compressed file.
_CONTENTS = "contents of "


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Device, inode, size in bytes and time of modification in ns of a file.

    A remote file (`mmflow.remote`) has no device and inode, but a `tag` (ETag) where its server sends one; then the
    time is 0, since servers report it in several ways. A member of an archive (`mapping.archives`) has the archive's,
    its own size, and a tag of its place. So have the contents of a compressed file (`mapping.contents_file`), whose tag
    states the size of the file.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    tag: str = ""

    @classmethod
    def from_stat(cls, status: os.stat_result) -> FileIdentity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @classmethod
    def of(cls, file: str | int) -> FileIdentity:
        """Return the current identity of a path or an open file descriptor.

        Raises:
            SourceError: The file is missing, or not accessible.
        """
        try:
            return cls.from_stat(os.stat(file))
        except NotADirectoryError as error:
            found = _member_identity(str(file))
            if found is None:
                raise read_error(str(file), error, "look at") from error
            return found
        except OSError as error:
            raise read_error(str(file), error, "look at") from error

    @classmethod
    def settled(cls, path: str, now_ns: int) -> FileIdentity | None:
        """Return the identity of a local file; None: there is no such file, or it was modified a moment ago.

        A file that was may change once more within one tick of its file system's clock, and have the same identity.

        Args:
            path: Path of the file.
            now_ns: Time before which it must have been left alone for some seconds, by the clock of `time.time_ns`.
        """
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        settled = stat.S_ISREG(status.st_mode) and status.st_mtime_ns < now_ns - _SETTLED_NS
        return cls.from_stat(status) if settled else None

    def of_contents(self, size: int) -> FileIdentity:
        """Return the identity of the contents of the compressed file that has this identity.

        Args:
            size: Bytes of the contents.
        """
        return FileIdentity(self.device, self.inode, size, self.mtime_ns, f"{_CONTENTS}{self.size}")

    @property
    def is_contents(self) -> bool:
        """True if it is the identity of the contents of a compressed file."""
        return self.tag.startswith(_CONTENTS)

    @property
    def file(self) -> FileIdentity:
        """The identity of the compressed file, where this is that of its contents; else this one.

        >>> compressed = FileIdentity(0, 1, 10, 5)
        >>> compressed.of_contents(99).file == compressed.file == compressed
        True
        """
        if not self.is_contents:
            return self
        return FileIdentity(self.device, self.inode, int(self.tag.removeprefix(_CONTENTS)), self.mtime_ns)

    def check(self, path: str) -> None:
        """Check that the file at `path` still has this identity.

        Raises:
            SourceChangedError: The file, its size or its time of modification differs, or it is gone.
        """
        try:
            now = FileIdentity.from_stat(os.stat(path))
        except FileNotFoundError as error:
            raise _changed(path, "it is gone") from error
        except NotADirectoryError as error:
            found = _member_identity(path)
            if found is None:
                raise _changed(path, "it is gone") from error
            now = found
        except OSError as error:
            raise read_error(path, error, "look at") from error
        self.file.check_same(now, path)

    def check_same(self, now: FileIdentity, path: str) -> None:
        """Check that a later identity of the same path is equal.

        Raises:
            SourceChangedError: They differ; the message says how.
        """
        if now == self:
            return
        if (now.device, now.inode) != (self.device, self.inode):
            what = "another file stands in its place"
        elif now.size < self.size:
            what = f"it shrank from {self.size:,} to {now.size:,} bytes"
        elif now.size > self.size:
            what = f"it grew from {self.size:,} to {now.size:,} bytes"
        elif now.tag != self.tag:
            what = f"it was replaced (its ETag was {self.tag or 'none'} and is {now.tag or 'none'})"
        else:
            what = f"it was written to (modified {(now.mtime_ns - self.mtime_ns) / 1e9:+.6f} s later)"
        raise _changed(path, what)


def _member_identity(path: str) -> FileIdentity | None:
    """Return the identity of the member of an archive that a path stands for; None: it stands for none."""
    from mmflow.mapping.archives import member_at  # noqa: PLC0415  (it imports this module)

    found = member_at(path)
    return None if found is None else found[2].identity(found[1])


def _changed(path: str, what: str) -> SourceChangedError:
    return SourceChangedError(
        f"{path} changed while it was being read: {what}; run again once nothing writes to it", path=path
    )
