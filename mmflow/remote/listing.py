"""Files that a URL stands for: itself, the matches of a glob, or all below a folder."""

from __future__ import annotations

from mmflow.errors import SourceError
from mmflow.remote.failures import missing_error, retry
from mmflow.remote.filesystem import FileInfo, Store, open_store
from mmflow.remote.object import look_up
from mmflow.remote.opening import remember_sizes
from mmflow.remote.options import current_remote_options
from mmflow.remote.recent import remember_listing
from mmflow.storage.braces import expand_braces
from mmflow.storage.globs import ANY_DEPTH, fixed_folder, is_glob, is_hidden
from mmflow.storage.url import redact_url

__all__ = ["find_urls"]


def find_urls(url: str) -> list[str]:
    """Return the URLs of files, sorted unless it is one. The rules are those of `shards.find_files`.

    Raises:
        SourceError: Missing, no match, nothing in it, or it can't be asked.
        ConfigError: No such file system, or its package is missing.
    """
    storage = current_remote_options().storage
    store = open_store(url, storage)
    try:
        found = look_up(url, storage)
    except SourceError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        several = expand_braces(url) if missing else [url]
        if several != [url]:
            return list(dict.fromkeys(file for each in several for file in find_urls(each)))
        if is_glob(url) and missing:
            hint = "** stands for folders of any depth, and names that start with `.` or `_` are not data"
            return _files(url, _matched(store, url), hint)
        raise
    if not found.folder:
        inside = _beside_its_folder(store, url, found)
        if inside:
            return _files(url, inside, "")
        remember_sizes([found])
        return [url]
    return _files(url, _below(store, url), "names that start with `.` or `_` are not data")


def _beside_its_folder(store: Store, url: str, found: FileInfo) -> list[FileInfo]:
    """Return the files of a folder that has an object of its own name; none where the object itself is meant.

    Consoles and some tools make an empty object for a folder, and a slash says that a folder is meant.
    """
    if store.web or (found.size and not url.endswith("/")):
        return []
    try:
        inside = _below(store, url)
    except SourceError:
        return []
    return [file for file in inside if file.url.rstrip("/") != url.rstrip("/")]


def _matched(store: Store, url: str) -> list[FileInfo]:
    folder = fixed_folder(url)
    pattern = [part for part in url[len(folder) :].split("/") if part]
    try:
        found = retry(lambda: store.matches(folder, pattern))
    except FileNotFoundError:
        found = []
    files = [f for f in found if not f.folder]
    if not files and ANY_DEPTH not in pattern:
        files = [file for f in found for file in _below(store, f.url)]
    return files


def _below(store: Store, url: str) -> list[FileInfo]:
    try:
        found = retry(lambda: store.below(url))
    except FileNotFoundError as error:
        raise missing_error(url) from error
    start = len(url.rstrip("/"))
    return [f for f in found if not f.folder and not _hidden(f.url[start:])]


def _files(url: str, found: list[FileInfo], hint: str) -> list[str]:
    if not found:
        raise SourceError(f"no files at {redact_url(url)} ({hint}); check the URL", path=redact_url(url))
    remember_sizes(found)
    remember_listing(found, current_remote_options().storage)
    return sorted(f.url for f in found)


def _hidden(path: str) -> bool:
    return any(is_hidden(part) for part in path.split("/"))
