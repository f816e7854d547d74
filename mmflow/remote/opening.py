"""Files by path or URL: opening them, and which they are."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mmflow.errors import MmflowError, UnverifiableSourceWarning
from mmflow.mapping import Access, FileIdentity, Io, MappedFile
from mmflow.remote.pool import submit
from mmflow.remote.reach import Reach, current_reach
from mmflow.remote.url import is_url

if TYPE_CHECKING:  # they import fsspec, which only URLs need
    from mmflow.remote.store import Found

__all__ = ["check_unchanged", "identities", "known_size", "note_found", "open_file"]

#: From so many files of a folder on, it is listed instead of asked for each.
_LISTED = 8
_MOST_SIZES = 1 << 20
#: Sizes that were seen lately: for estimates.
_sizes: dict[str, int] = {}


def open_file(
    path: str | os.PathLike[str],
    *,
    io: Io = "auto",
    budget: int | None = None,
    access: Access = "sequential",
    expected: FileIdentity | None = None,
    reach: Reach | None = None,
) -> MappedFile:
    """Open a local file or a URL for reading. See `MappedFile.open`.

    Args:
        reach: How remote files are reached; None: as `reaching` says.

    Raises:
        SourceError: Missing, unreadable, no file.
        SourceChangedError: A local one is not the file that was planned with. Of a remote one that is found out when
            something of it is fetched, and by `check_unchanged`.
        ConfigError: No such file system, or its package is missing.
        EngineError: Out of file descriptors, or `cache_dir` can't be written to.
    """
    name = os.fspath(path)
    if not is_url(name):
        return MappedFile.open(name, io=io, budget=budget, access=access, expected=expected)
    from mmflow.remote.file import RemoteFile  # noqa: PLC0415

    return RemoteFile.reach(
        name,
        current_reach() if reach is None else reach,
        io=io,
        budget=budget,
        access=access,
        expected=expected,
    )


def note_found(found: Iterable[Found]) -> None:
    """Remember sizes."""
    if len(_sizes) > _MOST_SIZES:
        _sizes.clear()
    _sizes.update((f.url, f.size) for f in found if f.size is not None)


def known_size(url: str, reach: Reach | None = None) -> int:
    """Bytes of a remote file, as it was seen last.

    Raises:
        SourceError: It was never seen, and is missing or can't be asked.
    """
    if url not in _sizes:
        from mmflow.remote.object import look  # noqa: PLC0415

        note_found([look(url, (reach or current_reach()).storage)])
    return _sizes.get(url, 0)


def identities(paths: Sequence[str], storage: str = "") -> list[FileIdentity]:
    """Which files these are now. Remote ones are asked several at once, or listed.

    Raises:
        SourceError: One is missing, or can't be asked.
    """
    remote = [path for path in paths if is_url(path)]
    if not remote:
        return [FileIdentity.of(path) for path in paths]
    from mmflow.remote.object import look  # noqa: PLC0415

    seen = _listed(remote, storage)
    asked = {p: submit(partial(look, p, storage)) for p in dict.fromkeys(remote) if p not in seen}
    for path, request in asked.items():
        seen[path] = request.result()
    note_found(seen.values())
    found = [seen[path].identity if path in seen else FileIdentity.of(path) for path in paths]
    _warn_of_unverifiable(paths, found)
    return found


def _warn_of_unverifiable(paths: Sequence[str], found: Sequence[FileIdentity]) -> None:
    from mmflow.remote.answers import UNTOLD  # noqa: PLC0415
    from mmflow.remote.url import shown  # noqa: PLC0415

    unsure = [path for path, identity in zip(paths, found, strict=True) if identity.tag.startswith(UNTOLD)]
    if unsure:
        others = f" and of {len(unsure) - 1:,} others" if unsure[1:] else ""
        warnings.warn(
            f"the server of {shown(unsure[0])}{others} gives neither ETag nor Last-Modified: if the file changes while "
            "it is read and keeps its size, nobody can tell, and rows of two versions may mix",
            UnverifiableSourceWarning,
            stacklevel=2,
        )


def _listed(urls: Iterable[str], storage: str) -> dict[str, Found]:
    from mmflow.remote.store import open_store  # noqa: PLC0415

    folders: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        folders[url.rpartition("/")[0]].append(url)
    seen: dict[str, Found] = {}
    for folder, files in folders.items():
        if len(files) < _LISTED:
            continue
        store = open_store(files[0], storage)
        if store.web:  # a page of links says nothing of versions
            continue
        try:
            found = {f.url: f for f in store.beside(folder) if not f.folder}
        except (MmflowError, FileNotFoundError):  # not allowed to list; asked one by one, they may tell
            continue
        seen.update((url, found[url]) for url in files if url in found)
    return seen


def check_unchanged(path: str, identity: FileIdentity, storage: str = "") -> None:
    """Check that a file is what it was.

    Raises:
        SourceChangedError: It is not.
        SourceError: It can't be looked at.
    """
    if is_url(path):
        from mmflow.remote.object import RemoteObject  # noqa: PLC0415

        RemoteObject(path, Reach(storage=storage), identity).verify()
    else:
        identity.check(path)
