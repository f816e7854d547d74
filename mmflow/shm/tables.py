"""Tables that processes of one host share: written once, mapped by all that have the handle.

    handle = share(table)          /dev/shm/mmflow-<pid>-<random>.table, or where that has no room, spill_dir
    str(handle)                    "mmflow-shm:<boot>:<device>:<path>": for an environment variable, a command line
    attach(handle)                 a pyarrow table over the mapping, here or in any process of the host

The file is a block (`blocks.files`). Who uses it (the handle that `share` gave, tables that `attach` gave and what was
made of their buffers) has its part in the file's lock (flock, shared), through one descriptor and one mapping in each
process. Who lets go tries to get the lock for itself, with a descriptor of its own, since a forked child has the old
one too; who gets it was the last, and removes the file. The kernel lets go for those that die; what the last of these
left is removed by the next who shares or attaches, and by whoever sweeps.

Invariant: a file whose name can be found under its lock is whole, and is never changed.
"""

from __future__ import annotations

import atexit
import errno
import os
import stat
import threading
import time
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import pyarrow as pa

from mmflow.blocks.files import BlockWriter, OtherVersionError, Tier, block_in, write_block_file
from mmflow.blocks.memory import compacted_views
from mmflow.blocks.run_folder import segment_name, sweep
from mmflow.blocks.shared_memory import shared_memory_folder
from mmflow.blocks.streams import DamagedError, stream_batches
from mmflow.config import Settings
from mmflow.errors import ConfigError, EngineError, SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system import system
from mmflow.mapping.system.host import read_boot_id
from mmflow.mapping.system.huge import HugePages, check_huge_pages, map_whole_file
from mmflow.mapping.system.limits import available_memory, total_memory
from mmflow.mapping.system.owner_lock import drop_unowned
from mmflow.storage.format_versions import BLOCK
from mmflow.usercode.tracebacks import PublicApi, public

__all__ = ["SharedTable", "attach", "share", "unshare"]

_SCHEME = "mmflow-shm"
_SETTING = (
    "give /dev/shm more room (docker run --shm-size), or set spill_dir (MMFLOW_SPILL_DIR) to a larger disk"
)
_UNMAPPABLE = "its file system maps no files; set spill_dir (MMFLOW_SPILL_DIR) to a folder of another"
_SWEEP_SECONDS = 10.0
#: Bytes of a table between two checks of free memory.
_STEP = 64 << 20


class SharedTable(PublicApi):
    """Handle of a table in shared memory. `share` makes it; `attach` takes it, or its text.

    It can be pickled, and names the place of the table. Only the handle that `share` returned keeps the table there.

    Attributes
    ----------
    rows
        Number of rows.
    nbytes
        Shared memory (or disk) that the table takes, in bytes.
    on_disk
        Reason why it is a file in `spill_dir`; "" if it is in memory.
    small
        Reason why it is not in huge pages although `huge_pages` is `on`; "" if there is none.
    """

    def __init__(self, token: str, rows: int, nbytes: int, on_disk: str, small: str = "") -> None:
        self._token = token
        self._part: _Part | None = None
        self.rows = rows
        self.nbytes = nbytes
        self.on_disk = on_disk
        self.small = small

    def __str__(self) -> str:
        return self._token

    def __repr__(self) -> str:
        where = f", on disk: {self.on_disk}" if self.on_disk else ""
        return f"SharedTable({self._token!r}, {self.rows:,} rows, {self.nbytes:,} bytes{where})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedTable, (self._token, self.rows, self.nbytes, self.on_disk, self.small)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the table, which goes with its last user; so does the end of the handle. Idempotent."""
        self._part = None


class _Part:
    """This process's part in a shared table: a descriptor with its lock, and the mapping."""

    __slots__ = ("__weakref__", "_whole", "let_go")

    def __init__(self, fd: int, path: str) -> None:
        self._whole: pa.Buffer | None = None
        # Not left to weakref at exit: `_at_exit` sweeps behind it.
        self.let_go = weakref.finalize(self, _let_go, fd, path)
        self.let_go.atexit = False

    def fd(self) -> int:
        """Descriptor with the lock."""
        peeked = self.let_go.peek()
        assert peeked is not None  # it is there as long as this object
        return int(peeked[2][0])

    def lay_out(self, huge_pages: HugePages) -> str:
        """Map it, for this process and, if pages are to be huge, for all; why they aren't. Under `_lock`."""
        self._whole, why = map_whole_file(self.fd(), huge_pages, collapse=True)
        return why

    def view(self) -> pa.Buffer:
        """Mapped bytes; what is made of them holds this part. Under `_lock`: there is one mapping."""
        if self._whole is None:
            self._whole, _ = map_whole_file(self.fd())
        return pa.foreign_buffer(self._whole.address, self._whole.size, self)


#: The parts of this process, by path. The lock is reentrant: a part may end wherever the collector runs.
_parts: weakref.WeakValueDictionary[str, _Part] = weakref.WeakValueDictionary()
_lock = threading.RLock()
_swept: dict[str, float] = {}


def _let_go(fd: int, path: str) -> None:
    os.close(fd)
    drop_unowned(path)


def _forked() -> None:
    global _lock  # noqa: PLW0603  (a thread that the child doesn't have may have held it)
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _at_exit() -> None:
    for part in list(_parts.values()):
        detached = part.let_go.detach()  # it does nothing any more, if weakref's own exit came first
        if detached is not None:
            _let_go(*detached[2])
    for folder in _swept:
        sweep(folder)  # what forked children kept longer than this process


def _sweep_at_times(folder: str) -> None:
    now = time.monotonic()
    if now - _swept.get(folder, -_SWEEP_SECONDS) >= _SWEEP_SECONDS:
        _swept[folder] = now
        sweep(folder)


# ---- share ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Locked(Tier):
    """Tier of files that are locked, in part, from the start."""

    def create(self, name: str) -> int:
        while True:
            fd = Tier.create(self, name)
            system.lock(fd, shared=True, wait=True)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)  # swept before it was locked


class _Room:
    """Check of whether memory is left for a file to grow: asks every `_STEP` bytes, and leaves a part for others."""

    def __init__(self) -> None:
        self._granted = 1 << 20

    def __call__(self, nbytes: int) -> bool:
        if nbytes > self._granted:
            wanted = nbytes - self._granted + _STEP
            if available_memory() - wanted < total_memory() // 16:
                return False
            self._granted += wanted
        return True


@public
def share(
    data: Any,
    *,
    spill_dir: str | os.PathLike[str] | None = None,
    huge_pages: HugePages = "auto",
) -> SharedTable:
    """Put a table where all processes of this host can map it.

    It stays as long as some process has the returned handle, a table that `attach` returned, or a view of one.

    Parameters
    ----------
    data
        Pyarrow table, batch or reader; a `Dataset`, which is computed batch by batch; anything with
        `__arrow_c_stream__` (pandas, Polars, DuckDB); or a dict of columns (lists, numpy arrays).
    spill_dir
        Folder for the table if memory has no room for it. By default MMFLOW_SPILL_DIR.
    huge_pages
        `on`: the table lies in huge pages, so that mapping and reading it is faster for every process, and sharing it
        slower (docs/mapping.md). `auto`: as the mount of /dev/shm says. `off`: small pages, where this process maps it.

    Returns
    -------
    SharedTable
        Handle for `attach`.

    Raises
    ------
    ConfigError
        `data` is none of these, or `huge_pages` is invalid.
    EngineError
        There is no room.

    Examples
    --------
    >>> import mmflow as mf
    >>> with mf.share({"x": [1, 2]}) as handle:
    ...     mf.attach(str(handle)).to_pydict()
    {'x': [1, 2]}
    """
    check_huge_pages(huge_pages)
    batches, schema = _batches(data)
    disk = os.path.realpath(Settings.load().spill_dir if spill_dir is None else spill_dir)
    memory = shared_memory_folder()
    tiers = [] if memory is None else [_Locked(memory, _Room(), _SETTING)]
    if disk != memory:
        tiers.append(_Locked(disk, None, _SETTING, checked=True))
    for tier in tiers:
        _sweep_at_times(tier.folder)
    writer = BlockWriter(segment_name(), tiers)
    rows, nbytes = write_block_file(writer, (compacted_views(b) for b in batches), schema, close=False)
    part = _Part(writer.fd, writer.path)
    with _lock:
        _parts[writer.path] = part
        try:
            small = "" if huge_pages == "auto" else part.lay_out(huge_pages)
        except OSError as error:  # attaching will say so
            small = f"it can't be mapped: {error.strerror}"
    device = os.fstat(writer.fd).st_dev
    handle = SharedTable(
        f"{_SCHEME}:{read_boot_id()}:{device}:{quote(writer.path)}",
        rows,
        nbytes,
        writer.moved or ("" if memory is not None else "this system has no /dev/shm"),
        small,
    )
    handle._part = part
    return handle


def _batches(data: Any) -> tuple[Iterable[pa.RecordBatch], pa.Schema]:
    if isinstance(data, pa.RecordBatch):
        return [data], data.schema
    if isinstance(data, dict):  # pa.table would look for pandas first
        try:
            data = pa.Table.from_pydict(data)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ConfigError(f"share: the columns don't make a table: {error}") from error
    if isinstance(data, pa.RecordBatchReader):
        return data, data.schema
    if hasattr(data, "iter_batches") and isinstance(data.schema, pa.Schema):
        # A Dataset: its errors would lose their class in a C stream.
        return data.iter_batches(), data.schema
    if not isinstance(data, pa.Table) and not hasattr(data, "__arrow_c_stream__"):
        raise ConfigError(
            f"share takes tables, not {type(data).__name__}: a pyarrow table or batch, a Dataset, a DataFrame of "
            'pandas or Polars, or a dict of columns, as {"x": array}'
        )
    reader = pa.RecordBatchReader.from_stream(data)
    return reader, reader.schema


@public
def unshare(handle: SharedTable | str) -> None:
    """Let no process attach to a table any more. Tables that are there stay readable. Idempotent."""
    path = _parsed(str(handle))[2]
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise EngineError(f"can't remove {path}: {error.strerror}", path=path) from error


# ---- attach -----------------------------------------------------------------------------------------


@public
def attach(handle: SharedTable | str, *, validate: bool = False) -> pa.Table:
    """Map the table of a handle, without copying it.

    Parameters
    ----------
    handle
        Handle from `share`, of this process or another one of this host, or its text.
    validate
        Whether every value is checked (offsets, UTF-8). Else the form is checked and, for a table on disk, its
        checksum.

    Returns
    -------
    pyarrow.Table
        Read-only table over the mapping.

    Raises
    ------
    SourceError
        The table is gone, damaged, of another host, user or version of mmflow; or the text is no handle.
    EngineError
        Descriptors or mappings have run out.

    Examples
    --------
    >>> import mmflow as mf
    >>> handle = mf.share({"x": [1, 2]})
    >>> mf.attach(handle).num_rows
    2
    >>> handle.close()
    """
    token = str(handle)
    boot, device, path = _parsed(token)
    if boot != read_boot_id():
        raise SourceError(
            f"{path} was shared on another host, or before this one was started anew: a handle is good on one host; "
            "write the table to a file instead",
            path=path,
        )
    _sweep_at_times(os.path.dirname(path))
    try:
        with _lock:
            part = _parts.get(path)
            if part is None:
                part = _parts[path] = _open(path, device)
            elif not os.fstat(part.fd()).st_nlink:  # its session has ended
                raise _gone(path, device)
            whole = part.view()
        # What is on disk can rot.
        stream, rows = block_in(whole, check=os.path.dirname(path) != shared_memory_folder())
        batches = stream_batches(stream, rows)
        table = pa.Table.from_batches(batches, schema=pa.ipc.open_stream(stream).schema)
        if validate:
            table.validate(full=True)
    except OtherVersionError as error:
        raise BLOCK.refuse(SourceError, path, error) from error
    except (DamagedError, pa.ArrowInvalid) as error:
        raise SourceError(
            f"the shared table {path} is damaged: {error}; share it again", path=path
        ) from error
    except OSError as error:
        why = _UNMAPPABLE if error.errno == errno.ENODEV else error.strerror or error
        raise EngineError(f"can't map {path}: {why}", path=path) from error
    return table


def _parsed(token: str) -> tuple[str, int, str]:
    """Parse a handle's text into boot, device and path."""
    scheme, _, rest = token.partition(":")
    boot, _, rest = rest.partition(":")
    device, _, path = rest.partition(":")
    path = unquote(path)
    if scheme != _SCHEME or not device.isdigit() or not os.path.isabs(path) or not path.endswith(".table"):
        raise SourceError(
            f"{token[:200]!r} is no handle of a shared table: expected what str(mf.share(...)) says, "
            f"{_SCHEME}:<boot>:<device>:<path>"
        )
    return boot, int(device), path


def _open(path: str, device: int) -> _Part:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _gone(path, device) from None
    except PermissionError:
        raise _foreign(path, _owner(path)) from None
    except OSError as error:
        raise EngineError(f"can't open {path}: {error.strerror}", path=path) from error
    try:
        system.lock(fd, shared=True, wait=True)  # waits for who is removing it right now
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise SourceError(f"{path} is no regular file, so no shared table", path=path)
        if found.st_uid != os.geteuid():  # also for root: its writer could cut it under whoever reads it
            raise _foreign(path, str(found.st_uid))
        if not found.st_nlink:
            raise _gone(path, device)
        return _Part(fd, path)
    except BaseException:
        os.close(fd)
        raise


def _foreign(path: str, owner: str) -> SourceError:
    return SourceError(
        f"can't attach to {path}: it was shared by user {owner}, and only processes of the same user may read it "
        f"(this is user {os.geteuid()})",
        path=path,
    )


def _owner(path: str) -> str:
    try:
        return str(os.stat(path).st_uid)
    except OSError:
        return "unknown"


def _gone(path: str, device: int) -> SourceError:
    folder = os.path.dirname(path)
    try:
        same = os.stat(folder).st_dev == device
    except OSError:
        same = False
    if not same:
        return SourceError(
            f"{path} was shared in another container: this one has another {folder}; let both mount the same one",
            path=path,
        )
    return SourceError(
        f"the table was dropped: {path} is gone, since the process that shared it ended, or closed its handle, and "
        "nobody else had it attached, or since its session ended; keep the handle until the others have attached",
        path=path,
    )
