"""Discovery of input files: paths, globs, folders and lists, as a deterministic tuple of files.

Invariant: the result holds regular files that existed a moment ago. Paths keep the form they were given in (relative
ones stay relative). A list keeps its order; the files of a glob or a folder are sorted by path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmflow.errors import ConfigError, MmflowError, SourceError, SourceUnreachableError
from mmflow.mapping.answering import check_answers
from mmflow.mapping.streams import descriptor_of
from mmflow.shards.manifests import manifest_of, read_manifest
from mmflow.storage.braces import expand_braces
from mmflow.storage.globs import fixed_folder, is_glob, is_hidden, path_matches
from mmflow.storage.os_errors import read_error
from mmflow.storage.url import ARCHIVE_SUFFIX, is_url

__all__ = ["PathLike", "Paths", "find_files"]

#: Files of a glob whose permissions are looked at before any is read; others are errors when they are read.
_MOST_ASKED = 1_000

PathLike = str | os.PathLike[str]
Paths = PathLike | Sequence[PathLike]


def find_files(paths: Paths, bad: list[tuple[str, str]] | None = None) -> tuple[str, ...]:
    """Return the files that `paths` name.

    Args:
        paths: A file, a zip archive (its members, if it has several, but for hidden ones), a member of one
            (`data.zip/a.csv`, also a glob or a folder of it), a glob (`*`, `?`, `[...]`, `**` for folders of any
            depth, `{a,b}`, `{1..9}`, and a backslash
            before what stands for itself), a folder (all files below it, except those whose name, or folder's name,
            starts with `.` or `_`), a URL of these, a file that lists them (`@files.txt`), a stream (`-` for standard
            input, `/dev/fd/N`, a named pipe), or a list. A path that exists is never read as a glob or such a file. `~`
            is the home folder. A glob gives each path once, and `**` follows no links to folders. A folder includes the
            folders that are linked into it, each once, but none that contains it. A file that a list names twice is
            returned twice.

        bad: Takes the paths of a list that are missing, and files that are no files or may not be read, each with the
            reason, instead of an error. None: they are errors.

    Raises:
        SourceError: A path is missing (with a suggestion), unreadable, or a device; a glob matches nothing, or a pipe;
            or a folder is empty.
        SourceUnreachableError: The file server of a path does not answer.
        ConfigError: The list is empty, an item is no path, or no installed library reads a URL.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    check_answers(
        _fixed(p) for p in several if isinstance(p, str | os.PathLike) and not is_url(os.fsdecode(p))
    )
    found: list[str] = []
    for path in several:
        found.extend(_expand_listed(path, bad if len(several) > 1 else None, bad))
    if not found:
        raise ConfigError("no input: the list of paths is empty; name at least one file")
    return tuple(file for path in found for file in _expand_archive(path, bad))


def _expand_archive(path: str, bad: list[tuple[str, str]] | None) -> Sequence[str]:
    """Return the members of a zip archive of several files, in order of their names; else the path."""
    if not path.lower().endswith(ARCHIVE_SUFFIX) or is_url(path):
        return (path,)
    from mmflow.mapping.archives import members_of  # noqa: PLC0415  (slow: only archives need it)

    try:
        names = members_of(path)
    except SourceError as error:
        if bad is None:
            raise
        bad.append((path, error.message))
        return ()
    return [f"{path}/{name}" for name in names] if len(names) > 1 else (path,)


def _match_members(path: str) -> list[str] | None:
    """Return the members of an archive that a path names, by a glob perhaps; None: it is none of an archive.

    Raises:
        SourceError: The archive has no such members, or can't be read.
    """
    from mmflow.mapping.archives import members_of, split_member_path  # noqa: PLC0415  (slow: only archives need it)

    split = split_member_path(path)
    if split is None:
        return None
    archive, wanted = split
    names = members_of(archive)
    if wanted in names:
        return [path]
    inner = wanted.rstrip("/")
    patterns = [each.split("/") for each in expand_braces(inner)]
    matched = [n for n in names if any(path_matches(p, n.split("/")) for p in patterns)]
    matched = matched or [n for n in names if not inner or n.startswith(f"{inner}/")]
    if not matched:
        listed = ", ".join(list(names)[:5]) or "none"
        raise SourceError(f"no member of {archive} is {wanted!r}; it has {listed}", path=path)
    return [f"{archive}/{name}" for name in matched]


def _fixed(path: PathLike) -> str:
    """Return a name in the folder of a path, or in that above all that a glob may match."""
    text = os.fsdecode(path).removeprefix("file://")
    return f"{fixed_folder(text)}/*" if is_glob(text) or "{" in text else text


def _expand_listed(
    given: PathLike, missing: list[tuple[str, str]] | None, bad: list[tuple[str, str]] | None
) -> list[str]:
    """Return the files that a path stands for, or those that a list of paths names."""
    name = os.fsdecode(given) if isinstance(given, str | os.PathLike) else ""
    manifest = None if os.path.lexists(name) else manifest_of(name)
    if manifest is not None:
        return [file for path in read_manifest(manifest) for file in _expand_listed(path, bad, bad)]
    try:
        return _expand_path(given, bad)
    except SourceUnreachableError:
        raise
    except SourceError as error:
        if missing is None:
            raise
        missing.append((name, error.message))
        return []


def _expand_path(given: PathLike, bad: list[tuple[str, str]] | None = None) -> list[str]:
    if isinstance(given, str) and is_url(given):
        from mmflow.remote.listing import find_urls  # noqa: PLC0415  (slow)

        return find_urls(given)
    path = _to_local_path(given)
    if descriptor_of(path) is not None:
        return [path]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        several = expand_braces(path)
        if several != [path]:
            return list(dict.fromkeys(file for each in several for file in _expand_path(each, bad)))
        if is_glob(path):
            return _match_files(path, bad)
        raise _missing(path) from error
    except NotADirectoryError as error:
        members = _match_members(path)
        if members is None:
            raise read_error(path, error, "look at") from error
        return members
    except OSError as error:
        raise read_error(path, error, "look at") from error
    if stat.S_ISDIR(mode):
        return _require_some(path, list(_walk(path)))
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise _not_regular(path, mode)
    _require_readable(path)
    return [path]


def _to_local_path(given: PathLike) -> str:
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"a path is text or a path object, not {type(given).__name__}: {given!r}")
    path = os.fsdecode(given)
    if not path:
        raise ConfigError("a path is empty; name a file, a folder or a glob")
    if "\0" in path:
        raise SourceError(f"a path can't hold a NUL character: {path!r}", path=path)
    if not path.lower().startswith("file://"):
        return os.path.expanduser(path) if path.startswith("~") and not os.path.exists(path) else path
    url = urlsplit(path)
    if url.netloc not in ("", "localhost"):
        raise SourceError(
            f"can't read {path}: a file URL has three slashes (file:///folder/name); "
            f"this one names the host {url.netloc!r}",
            path=path,
        )
    # urlsplit cuts at ? and #, which are ordinary characters of a glob or a file's name
    return unquote(path[path.index("://") + 3 + len(url.netloc) :])


def _match_files(pattern: str, bad: list[tuple[str, str]] | None) -> list[str]:
    """Return the files of a glob; if only folders match, the files in them."""
    from mmflow.shards.globs import match_glob  # noqa: PLC0415  (slow)

    found = match_glob(pattern, bad)
    files: list[str] = []
    for path, mode in found:
        if stat.S_ISDIR(mode):
            continue
        try:
            if not stat.S_ISREG(mode):
                raise _not_regular(path, mode)
            if len(files) < _MOST_ASKED:
                _require_readable(path)
        except SourceError as error:
            if bad is None:
                raise
            bad.append((path, error.message))
            continue
        files.append(path)
    if files:
        return files
    if found and "**" not in pattern:
        seen: set[tuple[int, int]] = set()
        return _require_some(pattern, sorted(file for path, _ in found for file in _walk(path, seen)))
    raise _no_match(pattern)


def _walk(folder: str, seen: set[tuple[int, int]] | None = None) -> Iterator[str]:
    """Yield the files below a folder in order of path, visiting each folder once and none that contains this one.

    A link to a folder that contains the link would bring in its neighbours, which the user did not name.
    """
    seen = set() if seen is None else seen

    def fail(error: OSError) -> None:
        raise read_error(str(error.filename or folder), error, "list") from error

    files: list[str] = []
    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(n for n in folders if not is_hidden(n) and not _leads_up(here, n))
        files.extend(os.path.join(here, name) for name in names if not is_hidden(name))
    for file in sorted(files):
        try:
            mode = os.stat(file).st_mode
        except OSError as error:  # a dangling link, or the file vanished meanwhile
            raise read_error(file, error, "look at") from error
        if not stat.S_ISREG(mode):
            raise _not_regular(file, mode)
        _require_readable(file)
        yield file


def _leads_up(folder: str, name: str) -> bool:
    """Return whether a folder is a link to one that contains it."""
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return os.path.commonpath([target, os.path.realpath(folder)]) == target


def _require_readable(file: str) -> None:
    if not os.access(file, os.R_OK, effective_ids=True):
        raise read_error(file, PermissionError(errno.EACCES, "Permission denied"))


def _require_some(path: str, files: list[str]) -> list[str]:
    if files:
        return files
    raise SourceError(
        f"no files in {path} (names that start with `.` or `_` are not data); check the path", path=path
    )


def _not_regular(path: str, mode: int) -> MmflowError:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "not a regular file")
    return SourceError(
        f"can't read {path}: it is {kind}, and files are read in pieces, several at once; "
        "save it to a file first (`cat … > data.csv`), and read that; a pipe that is named alone is read as a stream",
        path=path,
    )


def _missing(path: str) -> MmflowError:
    folder, names = _nearest_folder(path)
    wanted = Path(path).parts[len(Path(folder).parts) if folder != "." else 0]
    # A suffix that is the same says nothing.
    import difflib  # noqa: PLC0415  (slow: for errors only)

    alike = [n for n in names if difflib.get_close_matches(Path(wanted).stem, [Path(n).stem], cutoff=0.6)]
    close = difflib.get_close_matches(wanted, alike, n=1, cutoff=0.6)
    if close:
        hint = f"did you mean {os.path.join(folder, close[0]) if folder != '.' else close[0]}?"
    elif os.path.join(folder, wanted) != path and wanted != path:
        hint = f"{folder} has no folder {wanted!r}"
    else:
        hint = f"check the path (looked in {os.path.abspath(folder)})"
    return SourceError(f"no such file or folder: {path}; {hint}", path=path, code="MMF-SRC-002")


def _no_match(pattern: str) -> MmflowError:
    folder = fixed_folder(pattern) or ("/" if pattern.startswith("/") else ".")
    if not os.path.isdir(folder):
        return SourceError(f"no file matches {pattern}: there is no folder {folder}", path=pattern)
    return SourceError(
        f"no file matches {pattern}; check the pattern (** stands for folders of any depth, "
        "and names that start with `.` or `_` are not data)",
        path=pattern,
    )


def _nearest_folder(path: str) -> tuple[str, list[str]]:
    """Return the deepest existing folder above a missing path, and the names in it (none if unreadable)."""
    folder = os.path.dirname(path) or "."
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or "."
    try:
        return folder, os.listdir(folder)
    except OSError:  # it only serves a suggestion
        return folder, []
