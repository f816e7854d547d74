"""Opening of files and streams by path or URL, and their identities."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mmflow.errors import MmflowError, UnverifiableSourceWarning
from mmflow.mapping import Access, FileIdentity, Io, MappedFile
from mmflow.mapping.streams import stream_at, tagged_stream
from mmflow.remote.options import RemoteOptions, current_remote_options
from mmflow.storage.url import is_url, may_be_member, redact_url

if TYPE_CHECKING:
    from mmflow.remote.filesystem import FileInfo

__all__ = ["check_unchanged", "known_size", "open_file", "read_identities", "remember_sizes"]

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
    remote_options: RemoteOptions | None = None,
) -> MappedFile:
    """Open a local file, a member of a zip archive, a stream of this process or a URL. See `MappedFile.open`.

    Of a compressed file, `expected` decides whether it is opened as it is, or as its contents.

    Args:
        remote_options: Options of remote files; None: those of `using_remote_options`.

    Raises:
        SourceError: Missing, unreadable, no file.
        SourceChangedError: A local one is not the file that was planned with. Of a remote one that is found out when
            something of it is fetched, and by `check_unchanged`.
        ConfigError: No such file system, or its package is missing.
        EngineError: Out of file descriptors, or `cache_dir` can't be written to.
    """
    name = os.fspath(path)
    stream = stream_at(name) or tagged_stream(expected)
    if stream is not None:
        return stream.open()
    if expected is not None and expected.is_contents:
        from mmflow.mapping.contents_file import ContentsFile  # noqa: PLC0415  (most files are plain)

        return ContentsFile.open_contents(name, io=io, budget=budget, access=access, expected=expected)
    if not is_url(name):
        if may_be_member(name):
            from mmflow.mapping.member_file import MemberFile  # noqa: PLC0415  (slow: only archives need it)

            member = MemberFile.open_member(name, io=io, budget=budget, access=access, expected=expected)
            if member is not None:
                return member
        return MappedFile.open(name, io=io, budget=budget, access=access, expected=expected)
    from mmflow.remote.file import RemoteFile  # noqa: PLC0415  (it imports this module)

    return RemoteFile.remote_options(
        name,
        current_remote_options() if remote_options is None else remote_options,
        io=io,
        budget=budget,
        access=access,
        expected=expected,
    )


def remember_sizes(found: Iterable[FileInfo]) -> None:
    """Remember sizes."""
    if len(_sizes) > _MOST_SIZES:
        _sizes.clear()
    _sizes.update((f.url, f.size) for f in found if f.size is not None)


def known_size(url: str, remote_options: RemoteOptions | None = None) -> int:
    """Return the bytes of a remote file, as it was seen last.

    Raises:
        SourceError: It was never seen, and is missing or can't be asked.
    """
    if url not in _sizes:
        from mmflow.remote.object import look_up  # noqa: PLC0415  (slow: only URLs need it)

        remember_sizes([look_up(url, (remote_options or current_remote_options()).storage)])
    return _sizes.get(url, 0)


def read_identities(paths: Sequence[str], storage: str = "") -> list[FileIdentity]:
    """Return the identities of files now. Several remote ones are asked at once, or listed.

    Files of a large listing of a moment ago are as they were then.

    Raises:
        SourceError: One is missing, or can't be asked.
    """
    remote = [path for path in paths if is_url(path)]
    if not remote:
        return [_local_identity(path) for path in paths]
    from mmflow.remote.recent import take_listed  # noqa: PLC0415  (slow: only URLs need it)

    seen = take_listed(remote, storage)
    seen |= _listed([path for path in remote if path not in seen], storage)
    from mmflow.remote.cache.pool import submit  # noqa: PLC0415  (slow: only URLs need it)
    from mmflow.remote.object import look_up  # noqa: PLC0415  (slow: only URLs need it)

    asked = {p: submit(partial(look_up, p, storage)) for p in dict.fromkeys(remote) if p not in seen}
    for path, request in asked.items():
        seen[path] = request.result()
    remember_sizes(seen.values())
    found = [seen[path].identity if path in seen else _local_identity(path) for path in paths]
    _warn_of_unverifiable(paths, found)
    return found


def _local_identity(path: str) -> FileIdentity:
    stream = stream_at(path)
    return FileIdentity.of(path) if stream is None else stream.identity


def _warn_of_unverifiable(paths: Sequence[str], found: Sequence[FileIdentity]) -> None:
    from mmflow.remote.responses import UNVERIFIABLE  # noqa: PLC0415  (slow: only URLs need it)

    unsure = [
        path for path, identity in zip(paths, found, strict=True) if identity.tag.startswith(UNVERIFIABLE)
    ]
    if unsure:
        others = f" and of {len(unsure) - 1:,} others" if unsure[1:] else ""
        warnings.warn(
            f"the server of {redact_url(unsure[0])}{others} gives neither ETag nor Last-Modified: if the file "
            "changes while it is read and keeps its size, nobody can tell, and rows of two versions may mix",
            UnverifiableSourceWarning,
            stacklevel=2,
        )


def _listed(urls: Iterable[str], storage: str) -> dict[str, FileInfo]:
    folders: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        folders[url.rpartition("/")[0]].append(url)
    seen: dict[str, FileInfo] = {}
    from mmflow.remote.filesystem import open_store  # noqa: PLC0415  (slow: only URLs need it)

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
        from mmflow.remote.object import RemoteObject  # noqa: PLC0415  (slow: only URLs need it)

        RemoteObject(path, RemoteOptions(storage=storage), identity).verify()
    elif stream_at(path) is None:  # what came from a stream does not change
        identity.check(path)
