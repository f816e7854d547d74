"""Versions of the formats that mmflow keeps its own files in.

A file of another version is refused with what to do, or rebuilt where nothing is lost by that. Versions are compared
for equality: a format that changes gets the next number here, and nothing reads two.

    format       version is in                     of another version
    run          run.json                          refused; it counts for all files of the run's folder and staging
    journal      each line                         refused: a commit that is not understood would be made twice
    events       each line                         shown as far as they are understood
    manifest     _mmflow_manifest.json             refused
    undo log     its first bytes                   refused: the array is not opened before it is restored
    block        its last bytes                    shared tables are refused; other blocks live no longer than a run
    row index    its first bytes                   rebuilt
    pages        name of the cache's folder        fetched anew, and the folder is removed
    cache entry  its first bytes                   written again, and the entry is removed
    columns      key of their cache entry          converted anew
    pod's end    the driver's last line            not understood: the state comes from Kubernetes alone

Locks have none: a holder that is not understood counts as alive until it is silent.
"""

from __future__ import annotations

from mmflow.distribution import VERSION
from mmflow.errors import MmflowError
from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "BLOCK",
    "CACHE_ENTRY",
    "COLUMNS",
    "EVENTS",
    "JOURNAL",
    "MANIFEST",
    "PAGES",
    "POD_END",
    "ROW_INDEX",
    "RUN",
    "UNDO_LOG",
    "Format",
]


@dataclass(frozen=True, slots=True)
class Format:
    """Format of files.

    Attributes:
        what: What such a file is.
        version: Version that is written, and the only one that is read.
        remedy: What to do about another one; "" where it is rebuilt.
    """

    what: str
    version: int
    remedy: str = ""

    def mark(self, magic: bytes) -> bytes:
        """Return the first or last bytes of a file: what its format is called, and the version."""
        return magic + b"%d" % self.version

    def other_version(self, mark: bytes, magic: bytes) -> str:
        """Return the version that a mark states, if it is another one; "": it is ours, or no mark of this format."""
        is_other = mark.startswith(magic) and mark != self.mark(magic)
        return mark[len(magic) :].decode("latin-1") if is_other else ""

    def refuse(self, error: type[MmflowError], path: str, found: object) -> MmflowError:
        """Return the error for a file of another version."""
        return error(
            f"{path} is {self.what} of version {found!s:.20}, and mmflow {VERSION} "
            f"reads version {self.version}: {self.remedy}",
            path=path,
        )

    def check(self, found: object, error: type[MmflowError], path: str) -> None:
        """Check the version that is noted in a file.

        Raises:
            MmflowError: It is another one; the class is `error`.
        """
        if found != self.version:
            raise self.refuse(error, path, found)


RUN = Format("the record of a run", 1, "resume it with the mmflow that began it, or begin another run")
#: 2: `checkpoint` and `consumed` instead of `kept` and `read`.
JOURNAL = Format("the journal of a run", 3, RUN.remedy)
EVENTS = Format("the events of a run", 2)
MANIFEST = Format(
    "the manifest of a folder", 1, "use the mmflow that wrote to this folder last, or write to another folder"
)
UNDO_LOG = Format(
    "the log of an unfinished change of an array", 2,
    "open the array once with the mmflow that was changing it, which restores it",
)  # fmt: skip
BLOCK = Format("a table in shared memory", 1, "share it with the same mmflow that attaches to it")
ROW_INDEX = Format("a row index", 1)
PAGES = Format("a cache of remote files", 1)
CACHE_ENTRY = Format("an entry of the cache", 1)
#: Raised, too, where a decoder gives other values for the same text.
COLUMNS = Format("decoded columns", 1)
POD_END = Format("the end of a driver's output", 1)
