"""Checks of a destination before anything is computed for it, and repair after crashes.

All of it runs under the destination's lock, so whatever other runs left beside it is stale.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from mmflow.errors import SinkError
from mmflow.sinks.base import SinkSpec
from mmflow.sinks.commit import manifest
from mmflow.sinks.commit.staging import destination, staging_folder, stale_paths
from mmflow.sinks.partition import quoted
from mmflow.storage import disk
from mmflow.storage.url import is_url

__all__ = ["check_destination", "check_sources", "holds_something", "refuse_link", "remove_tree", "repair"]


def repair(spec: SinkSpec, run: str) -> None:
    """Finish or undo the commit that a dead run was in the middle of, and delete its staging.

    Raises:
        OSError: The system refuses.
    """
    folders, old = stale_paths(spec, run)
    for path in old:
        if not os.path.lexists(path):
            continue
        if os.path.lexists(destination(spec)):
            # The new destination is in place: its run died before it deleted the old one.
            remove_tree(path)
        else:
            disk.rename(path, destination(spec))
    for path in folders:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Delete a folder or file beside the destination, renamed first: what a crash leaves of an old
    destination is then never taken for a whole one.
    """
    trash = path.with_name(path.name.replace(".mmflow-old-", ".mmflow-trash-"))
    if trash != path:
        disk.rename(path, trash)
    if trash.is_dir() and not trash.is_symlink():
        disk.remove_tree(trash)
    else:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(trash)


def holds_something(path: Path) -> bool:
    """Return whether there is anything at `path` but an empty folder."""
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    return os.path.lexists(path)


def check_destination(spec: SinkSpec) -> None:
    """Check that the commit will be allowed to put its result at the destination.

    Raises:
        SinkError: Something is there that must stay, or that is of the wrong kind; says what to do.
    """
    path = destination(spec)
    if spec.is_folder and path.exists() and not path.is_dir():
        raise SinkError(
            f"{path} is a file, and the output is a folder of {spec.format} files; choose another output",
            path=str(path),
        )
    if not spec.is_folder and path.is_dir():
        raise SinkError(
            f"{path} is a folder, and the output is one file; "
            f"write to {path}/ for a folder of {spec.format} files",
            path=str(path),
        )
    if spec.is_folder and os.path.ismount(path):
        raise SinkError(
            f"{path} is a mount point, which can't be replaced in one step; write to a folder below it, "
            f"such as {path / 'out'}",
            path=str(path),
        )
    if not holds_something(path):
        return
    if spec.if_exists == "error":
        choices = "replace or append" if spec.is_folder else "replace"
        raise SinkError(
            f"{path} exists; choose another output, or say --if-exists {choices} (in Python: if_exists=…)",
            path=str(path),
            code="MMF-OUT-002",
        )
    if not spec.is_folder:
        if spec.keeps_files:
            raise SinkError(
                f"can't append to {path}: files are written whole; append to a folder of files",
                path=str(path),
            )
        if not path.is_file():
            raise SinkError(f"{path} is not a regular file; choose another output", path=str(path))
        return
    if not os.access(path, os.W_OK | os.X_OK):
        raise SinkError(f"can't write {path}: permission denied", path=str(path))
    if spec.keeps_files:
        _check_partitions(spec)
    foreign = manifest.foreign_file(path) if spec.if_exists == "replace" else None
    if foreign is not None:
        raise SinkError(
            f"won't replace {path}: it holds {foreign}, which is no output of a data set; "
            "move it away, or choose another output",
            path=str(path),
        )


def _check_partitions(spec: SinkSpec) -> None:
    """Check that no partition folder is a symbolic link; links elsewhere are kept."""
    folders = [destination(spec)]
    for column in spec.partition_by:
        entries = [
            e for folder in folders for e in os.scandir(folder) if e.name.startswith(f"{quoted(column)}=")
        ]
        for entry in entries:
            if entry.is_symlink():
                raise _leads_out(spec.path, entry.path, _target(entry.path))
        folders = [Path(entry.path) for entry in entries if entry.is_dir()]


def refuse_link(root: Path, path: str, shown: str, *, known_as: Path | None = None) -> None:
    """Check that nothing between `root` and the file `path` below it is a symbolic link.

    Args:
        shown: The destination that the user named.
        known_as: Folder that `root` is a copy of.

    Raises:
        SinkError: The file would be written outside of the destination.
    """
    here = root
    for part in Path(path).parts[:-1]:
        here /= part
        if here.is_symlink():
            raise _leads_out(shown, os.fspath((known_as or root) / here.relative_to(root)), _target(here))


def _leads_out(path: str, link: str, target: str) -> SinkError:
    return SinkError(
        f"won't write into {link}: it is a symbolic link (to {target}), so files would be written outside of "
        f"{path}; put a folder in its place, or write to another output",
        path=path,
        link=link,
    )


def _target(link: str | Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # it was one a moment ago
        return "somewhere"


def check_sources(spec: SinkSpec, sources: Iterable[str]) -> None:
    """Check that the output is not written over, into or around an input.

    Args:
        sources: Files or folders that the run reads.

    Raises:
        SinkError: The output would be.
    """
    path = destination(spec)
    existing = path.stat() if path.is_file() else None
    real_folders: dict[str, str] = {}
    for source in sources:
        if is_url(source):
            continue
        folder, name = os.path.split(os.path.abspath(source))
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        real = Path(real_folders[folder], name)
        if real.is_symlink():
            real = Path(os.path.realpath(real))
        same = existing is not None and real.exists() and os.path.samestat(existing, real.stat())
        if same or real == path or path in real.parents:
            raise SinkError(
                f"{path} would be written while it is read ({source} is an input); choose another output",
                path=str(path),
                code="MMF-OUT-004",
            )
        if real in path.parents and real.is_dir():
            raise SinkError(
                f"{path} lies inside {source}, which is an input: the next run would read it; "
                "choose another output",
                path=str(path),
            )
    if not staging_folder(spec, "run").parent.is_dir():
        raise SinkError(f"can't write {path}: {path.parent} is not a folder", path=str(path))
