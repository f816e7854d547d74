"""Protocols whose crash states are built and recovered: what each does, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

import mmflow.remote.cache.folder as folder_module
import mmflow.sinks.commit.local as local_module
from mmflow.arrays.change import Change, recover_dead_changes
from mmflow.arrays.layout import ArrayLayout
from mmflow.arrays.opening import create_array, open_array
from mmflow.arrays.regions import REGION, RegionWriter, read_seams
from mmflow.blocks import LocalStore, RunFolder, sweep
from mmflow.blocks.checkpoints import read_checkpoint, write_checkpoint
from mmflow.blocks.references import CheckpointBlock, LocalBlock
from mmflow.cache.entry import DamagedEntryError, EntryKey
from mmflow.cache.store import CacheStore
from mmflow.config import Settings
from mmflow.errors import BlockLostError
from mmflow.mapping import FileIdentity
from mmflow.remote.cache.blocks import BLOCK
from mmflow.remote.cache.entry import Entry
from mmflow.remote.cache.folder import PageCache
from mmflow.rows import index_file
from mmflow.rows.index import RecordIndex
from mmflow.runs.named_run import open_named
from mmflow.runs.recorded_run import RecordedRun
from mmflow.shards import FileEntry, VerifiedPrefix
from mmflow.sinks import CommitResult, IfExists, SinkAttempt, StagedFile, open_commit, open_sink, sink_spec
from tests.simulation.crash_states import Recording

__all__ = ["PROTOCOLS", "FileMarks", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """Protocol over a folder.

    Attributes:
        begin: Makes what is there before.
        run: Does it, and marks what is true from then on.
        check: Recovers a state, and raises AssertionError where it is neither old nor new; its second argument are
            the marks that hold.
        killed: Whether only the death of the process is survived, not that of the machine (`deaths`).
    """

    begin: Callable[[Path], None]
    run: Callable[[Path, Recording], None]
    check: Callable[[Path, set[str]], None]
    killed: bool = False


# ---- commits ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Commit:
    name: str
    if_exists: IfExists
    before: bool
    swaps: bool = True

    def protocol(self) -> Protocol:
        return Protocol(self.begin, self.run, self.check)

    def _write(self, folder: Path, run: str, rows: list[int], if_exists: IfExists) -> None:
        spec = sink_spec(str(folder / self.name), "csv", if_exists=if_exists)
        batch = pa.RecordBatch.from_pydict({"n": rows})
        with open_commit(spec, run, resumable=True) as commit, self._system():
            commit.prepare()
            staged: list[StagedFile] = []
            if not commit.done:
                for number in range(2 if spec.is_folder else 1):
                    staged += open_sink(spec).write([batch], batch.schema, SinkAttempt(run, 0, number, 0))
            commit.commit(staged, batch.schema)

    @contextlib.contextmanager
    def _system(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            if not self.swaps:
                patch.setattr(local_module, "swap", lambda source, target: False)  # what NFS says
            yield

    def begin(self, folder: Path) -> None:
        if self.before:
            self._write(folder, "before", [1], "error")

    def run(self, folder: Path, recording: Recording) -> None:
        self._write(folder, "new", [2], self.if_exists)
        recording.mark("committed")

    @property
    def old(self) -> list[int] | None:
        if not self.before:
            return None
        return [1, 1] if not self.name.endswith(".csv") else [1]

    @property
    def new(self) -> list[int]:
        new = [2, 2] if not self.name.endswith(".csv") else [2]
        return sorted([*(self.old or []), *new]) if self.if_exists == "append" else new

    def check(self, folder: Path, marks: set[str]) -> None:
        seen = self._rows(folder)
        allowed: list[list[int] | None] = [self.new] if "committed" in marks else [self.old, self.new]
        if not self.swaps and "committed" not in marks:
            allowed.append(None)  # for a moment
        assert seen in allowed, f"a reader sees {seen}, not one of {allowed}"
        # The same run is resumed; then another one begins, and gives up.
        if seen != self.new or not self.name.endswith(".csv") or self.if_exists != "error":
            self._write(folder, "new", [2], self.if_exists)
        assert self._rows(folder) == self.new, f"the resumed run gave {self._rows(folder)}"
        with open_commit(sink_spec(str(folder / self.name), "csv", if_exists="replace"), "next") as commit:
            commit.prepare()
        left = sorted(os.listdir((folder / self.name).parent))
        assert left == [Path(self.name).name], f"left behind: {left}"
        there = {p.name for p in (folder / self.name).rglob("*") if p.is_file()}
        if not self.name.endswith(".csv"):
            manifest = json.loads((folder / self.name / "_mmflow_manifest.json").read_text())
            assert there == {"_mmflow_manifest.json", *(f["path"] for f in manifest["files"])}, (
                f"strays: {there}"
            )

    def _rows(self, folder: Path) -> list[int] | None:
        path = folder / self.name
        if not path.exists():
            return None
        if path.is_file():
            return _numbers(path)
        try:
            manifest = json.loads((path / "_mmflow_manifest.json").read_text())
        except FileNotFoundError:
            return None if not os.listdir(path) else [-1]
        return sorted(row for f in manifest["files"] for row in _numbers(path / f["path"]))


def _numbers(path: Path) -> list[int]:
    text = path.read_text()
    return [int(line) if line.isdigit() else -1 for line in text.split("\n")[1:] if line] if text else [-1]


# ---- runs ---------------------------------------------------------------------------------------------------


def _settings(folder: Path) -> Settings:
    return Settings.load({"runs_dir": str(folder / "runs"), "workers": 2, "memory": "64MiB"})


def _run_recorded(folder: Path, recording: Recording) -> None:
    facts = {"job": "job", "parameters": {}, "staged_as": "run+1"}
    with RecordedRun.begin("run", _settings(folder), facts) as run:
        recording.mark("begun")
        run.recorder.line("0 a line that is damaged")
        run.recorder.record_commit("run+1", CommitResult("out", 1, 2, 3))
        recording.mark("committed")
        run.done({"rows": 2})
    recording.mark("done")


def _check_recorded(folder: Path, marks: set[str]) -> None:
    named = open_named(str(folder / "runs"), "run", join=True)
    assert named.lock is not None or "committed" in marks or named.summary is not None
    if named.lock is None:
        return
    if named.facts is None:
        named.lock.release()
        assert "committed" not in marks, "the run is forgotten, and its output is published"
        return
    with RecordedRun.resume("run", _settings(folder), {}, named.lock) as run:
        made = run.recorder.committed("run+1", "out")
        assert made is not None or "committed" not in marks, "the run forgot that it has committed"
        run.done({})


# ---- arrays ----------------------------------------------------------------------------------------------------

_ROWS = 3000


def _begin_array(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros(_ROWS))


def _content(folder: Path) -> set[float]:
    return set(np.load(folder / "a.npy").tolist())


def _change_array(folder: Path, recording: Recording) -> None:
    array = open_array(str(folder / "a.npy"), "r+")
    array[100:700] = 1.0
    array[1500:] = 1.0
    array[:1500] = 1.0
    array.flush()
    recording.mark("flushed")
    array.close()


def _check_array(folder: Path, marks: set[str]) -> None:
    open_array(str(folder / "a.npy"), "r").close()
    values = _content(folder)
    assert values in (({1.0},) if "flushed" in marks else ({0.0}, {1.0})), f"neither old nor new: {values}"
    assert os.listdir(folder) == ["a.npy"], f"left behind: {os.listdir(folder)}"


def _create_array(folder: Path, recording: Recording) -> None:
    with create_array(str(folder / "a.npy"), "float64", _ROWS, overwrite=True) as array:
        recording.mark("created")
        array[:] = 2.0
        array.flush()
        recording.mark("flushed")


def _check_created(folder: Path, marks: set[str]) -> None:
    path = folder / "a.npy"
    _check_content_created(folder, marks)
    create_array(str(path), "u1", 1, overwrite=True).close()
    left = sorted(set(os.listdir(folder)) - {"before"})
    assert left == ["a.npy"], f"left behind: {left}"


def _check_content_created(folder: Path, marks: set[str]) -> None:
    path = folder / "a.npy"
    if not path.exists():
        assert not (folder / "before").exists(), "the old array is gone"
        assert not marks, f"the new array is gone, and was {sorted(marks)}"
        return
    open_array(str(path), "r").close()
    values = _content(folder)
    made = [{2.0}] if "flushed" in marks else [{0.0}, {2.0}]
    assert values in made, f"{values} after {sorted(marks)}"


def _create_over(folder: Path) -> None:
    _begin_array(folder)
    (folder / "before").touch()


_DIES = """
import os, sys
from mmflow.arrays.opening import open_array
array = open_array(sys.argv[1], "r+")
array[:] = 2
os._exit(0)
"""


def _begin_undone(folder: Path) -> None:
    """Make an array of holes and pages, all of which a process was changing when it died."""
    path = str(folder / "a.npy")
    with create_array(path, "u1", 8 * 4096, sparse=True) as array:
        array[4096 : 2 * 4096] = 1
        array[5 * 4096 : 6 * 4096] = 1
    subprocess.run([sys.executable, "-c", _DIES, path], check=True)
    assert len(os.listdir(folder)) > 1, "no undo log is left"
    assert set(np.load(path).tolist()) == {2}


def _undo(folder: Path, recording: Recording) -> None:
    open_array(str(folder / "a.npy"), "r").close()
    recording.mark("undone")


def _check_undone(folder: Path, marks: set[str]) -> None:
    path = folder / "a.npy"
    old = np.zeros(8 * 4096, "u1")
    old[4096 : 2 * 4096] = old[5 * 4096 : 6 * 4096] = 1
    open_array(str(path), "r").close()
    assert np.array_equal(np.load(path), old), "not the old content"
    if "undone" in marks:
        assert os.listdir(folder) == ["a.npy"], f"left behind: {os.listdir(folder)}"


class _Changing:
    """A change of an array by tasks, in place or into a new file."""

    def __init__(self, *, in_place: bool) -> None:
        self._in_place = in_place

    def protocol(self) -> Protocol:
        return Protocol(_begin_array, self.run, self.check)

    def run(self, folder: Path, recording: Recording) -> None:
        self._change(folder)
        recording.mark("committed")

    def _change(self, folder: Path) -> None:
        source = folder / "a.npy"
        target = str(source if self._in_place else folder / "b.npy")
        data = np.load(source)
        begin = source.stat().st_size - data.nbytes
        layout = ArrayLayout("npy", data.dtype, data.shape, begin, 8)
        with Change(target, "run", in_place=self._in_place, recorded="the same") as change:
            pieces = {0: source.read_bytes()[:begin]}
            change.begin(layout.end, pieces=None if self._in_place else pieces, preallocate=False)
            if not change.done:
                status = source.stat()
                writer = RegionWriter(
                    _ones, False, str(source), layout, status.st_size, status.st_mtime_ns, change.target, layout,
                    str(change.folder), self._in_place, False,
                )  # fmt: skip
                for first, last in ((0, 1000), (1000, _ROWS)):
                    region = pa.RecordBatch.from_pylist([{"begin": first, "stop": last}], REGION)
                    change.write_seams(read_seams(writer(region)))
            change.commit()

    def check(self, folder: Path, marks: set[str]) -> None:
        source, target = folder / "a.npy", folder / ("a.npy" if self._in_place else "b.npy")
        if zlib.crc32(repr(sorted(os.listdir(folder))).encode()) % 2 or "committed" in marks:
            recover_dead_changes(str(target))  # a reader, or another run, comes first
            if target.exists():
                values = set(np.load(target).tolist())
                assert values in (
                    [{1.0}] if "committed" in marks or not self._in_place else [{0.0}, {1.0}]
                ), f"{values}"
            else:
                assert not self._in_place, "the file is gone"
                assert "committed" not in marks, "the new file is gone"
        if "committed" not in marks and not (target.exists() and not self._in_place):
            self._change(folder)  # the run is resumed
            assert set(np.load(target).tolist()) == {1.0}
        recover_dead_changes(str(target))
        assert self._in_place or set(np.load(source).tolist()) == {0.0}, "the source changed"


def _ones(rows: Any) -> Any:
    return rows * 0 + 1


# ---- checkpoints ---------------------------------------------------------------------------------------------------

_SCHEMA = pa.schema([("n", pa.int64())])


class _Blocks:
    """Blocks of one batch each."""

    def get(self, ref: LocalBlock) -> list[pa.RecordBatch]:
        return [pa.RecordBatch.from_pydict({"n": list(range(ref.rows))}, _SCHEMA)]


def _write_checkpoint(folder: Path, recording: Recording) -> None:
    refs = [LocalBlock(1, 300, 2400), LocalBlock(2, 5, 40)]
    made = write_checkpoint(
        str(folder / "key"), 0, refs, None, None, _SCHEMA, cast(Any, _Blocks()), str(folder)
    )
    _CHECKPOINTS[:] = [block for block in made.outputs if block is not None]
    recording.mark("written")


_CHECKPOINTS: list[CheckpointBlock] = []


def _check_checkpoint(folder: Path, marks: set[str]) -> None:
    for block in _CHECKPOINTS:
        with contextlib.suppress(BlockLostError):  # its task runs again
            rows = [row for batch in read_checkpoint(block) for row in batch.column(0).to_pylist()]
            assert rows == list(range(block.rows)), "a checkpoint is wrong, and believed"


# ---- folders of spilled data -------------------------------------------------------------------------------------

_BATCH = pa.RecordBatch.from_pydict({"n": list(range(2000))}, _SCHEMA)
_LONG_AGO = time.time() - 3600


def _begin_spills(folder: Path) -> None:
    """Make a folder of a dead run, and one of the user's with such a name."""
    dead = RunFolder(folder, "dead")
    (dead.path / "1.block").write_bytes(b"a block")
    os.rename(dead.path, folder / "mmflow-dead-1")
    dead.close()
    (folder / "mmflow-results").mkdir()
    (folder / "mmflow-results" / "a.csv").write_text("n\n1\n")


def _spill(folder: Path, recording: Recording) -> None:
    sweep(folder)
    spills = RunFolder(folder, "run")
    store = LocalStore(0, spills)
    first = store.put([_BATCH], _SCHEMA)
    (spills.path / "operator").mkdir()
    (spills.path / "operator" / "sorted").write_bytes(bytes(5000))
    store.put([_BATCH, _BATCH], _SCHEMA)
    store.delete(first)
    recording.mark("spilled")
    spills.close()
    recording.mark("closed")


def _check_spills(folder: Path, marks: set[str]) -> None:
    for path in folder.iterdir():  # whoever made them has died long ago
        os.utime(path, (_LONG_AGO, _LONG_AGO))
    swept = sweep(folder)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == ["mmflow-results", "mmflow-results/a.csv"], f"left behind: {left}, swept: {swept}"


# ---- row indexes and pages of remote files -------------------------------------------------------------------------


def _entry(folder: Path) -> FileEntry:
    status = os.stat(folder / "data.csv")
    identity = FileIdentity(status.st_dev, status.st_ino, status.st_size, 7)
    return FileEntry(str(folder / "data.csv"), identity)


def _index(rows: int) -> RecordIndex:
    column = np.arange(rows, dtype=np.int64)
    return RecordIndex(column, column, column, rows, VerifiedPrefix(rows, rows, rows, rows), False)


def _begin_index(folder: Path) -> None:
    (folder / "data.csv").write_bytes(bytes(4096))
    data = index_file._encode(_entry(folder), b"k" * 16, _index(40))
    index_file._write(str(folder / ".data.csv.mmflow-index"), data, str(folder / "data.csv"))


def _write_index(folder: Path, recording: Recording) -> None:
    data = index_file._encode(_entry(folder), b"k" * 16, _index(400))
    index_file._write(str(folder / ".data.csv.mmflow-index"), data, str(folder / "data.csv"))
    recording.mark("written")


def _check_index(folder: Path, marks: set[str]) -> None:
    found = index_file._read(str(folder / ".data.csv.mmflow-index"), _entry(folder), b"k" * 16)
    assert found is not None, "neither the old index nor the new one"
    assert found.total in ((400,) if "written" in marks else (40, 400))


def _fill_entry(folder: Path, recording: Recording) -> None:
    entry = Entry(str(folder), "e", 3 * BLOCK)
    lease = entry.lease([(0, 3)])
    for block in range(3):
        entry.write(block * BLOCK, bytes([block + 1]) * BLOCK)
        entry.publish([(block, block + 1)])
        recording.mark(str(block))
    del lease


def _check_entry(folder: Path, marks: set[str]) -> None:
    entry = Entry(str(folder), "e", 3 * BLOCK)
    absent = {block for first, last in entry.absent([(0, 3)]) for block in range(first, last)}
    for block in {0, 1, 2} - absent:
        assert os.pread(entry.data, BLOCK, block * BLOCK) == bytes([block + 1]) * BLOCK, (
            "a block is not what was fetched"
        )
    assert not absent & {int(mark) for mark in marks}, "a block was forgotten"


_PAGES = 8 * BLOCK
_OTHER_BOOT = "pages-1-01234567-89ab-cdef-0123-456789abcdef"


@contextlib.contextmanager
def _pages(folder: Path) -> Iterator[PageCache]:
    """Open a cache of eight blocks, and close what else only the end of its process closes."""
    cache = PageCache(str(folder), _PAGES)
    try:
        yield cache
    finally:
        os.close(cache._alive)
        os.close(cache._counting)


def _fill_pages(folder: Path, recording: Recording) -> None:
    """Fill a cache with more than it holds; then another version of a file comes."""
    with _pages(folder) as cache:
        for name, version, ranges in (
            ("a", "1", [(0, 2), (64, 67)]), ("b", "1", [(0, 5)]), ("a", "2", [(1, 3)]), ("c", "1", [(0, 8)]),
        ):  # fmt: skip
            entry = cache.entry(name, version, 70 * BLOCK)
            lease = entry.lease(ranges)
            assert cache.reserve(entry, ranges), "the cache can evict what nobody needs"
            for first, last in ranges:
                for block in range(first, last):
                    entry.write(block * BLOCK, _page(name, version, block))
            entry.publish(ranges)
            del entry, lease
    recording.mark("filled")


def _page(name: str, version: str, block: int) -> bytes:
    return bytes([ord(name), ord(version), block]) + bytes([block + 1]) * (BLOCK - 3)


def _check_pages(folder: Path, marks: set[str]) -> None:
    with _pages(folder) as cache:
        used = cache.measure()
        assert used <= cache.counted(), f"{used} bytes are used, of which {cache.counted()} are counted"
        assert used <= _PAGES, f"{used} bytes are in a cache of {_PAGES}"
        there = sum(_right_blocks(path) for path in folder.glob("pages-*/*/*.data"))
        assert there == 8 or "filled" not in marks, f"{there} blocks are there"
        entry = cache.entry("d", "1", _PAGES)
        lease = entry.lease([(0, 8)])
        assert cache.reserve(entry, [(0, 8)]), "what died keeps space for ever"
        del lease
        assert cache.measure() <= _PAGES


def _right_blocks(path: Path) -> int:
    """Return how many blocks an entry has, all of which must be right."""
    name, version = path.parent.name, path.stem
    entry = Entry(str(path.parent), version, path.stat().st_size)
    absent = {block for first, last in entry.absent([(0, entry.blocks)]) for block in range(first, last)}
    there = set(range(entry.blocks)) - absent
    for block in there:
        found = os.pread(entry.data, BLOCK, block * BLOCK)
        assert found == _page(name, version, block), f"block {block} of {path} is not what was fetched"
    return len(there)


def _begin_other_boot(folder: Path) -> None:
    _fill_pages(folder, cast(Any, _NoMarks()))
    (made,) = folder.iterdir()
    made.rename(folder / _OTHER_BOOT)
    (folder / "pages-2024-of-a-book").mkdir()
    (folder / "pages-2024-of-a-book" / "1.txt").write_text("page 1")


# ---- entries of the cache ------------------------------------------------------------------------------------------

_KEPT = 40 << 10


def _key(number: int) -> EntryKey:
    return EntryKey("columns", "/data.csv", FileIdentity(1, 2, 3, 4), {"column": number})


def _body(number: int) -> bytes:
    return np.random.default_rng(number).bytes(3000 * (1 + number % 3))


def _keep(store: CacheStore, number: int) -> bool:
    with store.write(_key(number)) as writer:
        writer.write(_body(number))
    return not writer.lost


def _begin_entries(folder: Path) -> None:
    assert _keep(CacheStore(str(folder), _KEPT), 0)


def _keep_entries(folder: Path, recording: Recording) -> None:
    """Write over an entry, and write more than the cache holds."""
    store = CacheStore(str(folder), _KEPT)
    for number in (0, 1, 2, 4):
        assert _keep(store, number), "the cache evicts what nobody needs"
        recording.mark(str(number))


def _check_entries(folder: Path, marks: set[str]) -> None:
    store = CacheStore(str(folder), _KEPT)
    for number in range(8):
        entry = store.open(_key(number))
        if entry is not None:
            with contextlib.suppress(DamagedEntryError):
                assert bytes(entry.view()) == _body(number), (
                    f"entry {number} has wrong bytes, which are believed"
                )
    found = store.verify()
    assert not found.damaged, "an entry that was found damaged is there still"
    assert not [path for path, _ in store._files() if path.endswith(".part")], "a dead writer's part stays"
    assert _keep(store, 5), "what died keeps space for ever"
    assert store.measure() <= _KEPT, "the bound does not hold"
    assert store.open(_key(5)) is not None


class FileMarks:
    """Marks of a protocol, in a file that survives its process."""

    def __init__(self, path: str) -> None:
        self._path = path

    def mark(self, name: str) -> None:
        with open(self._path, "a") as file:
            file.write(name + "\n")


class _NoMarks:
    def mark(self, name: str) -> None:
        """Forget it."""


def _sweep_pages(folder: Path, recording: Recording) -> None:
    with _pages(folder):
        recording.mark("swept")


def _check_swept(folder: Path, marks: set[str]) -> None:
    for path in folder.iterdir():
        if path.name.startswith("pages"):
            os.utime(path, (_LONG_AGO, _LONG_AGO))
    boot = str(uuid.uuid4())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "read_boot_id", lambda: boot)
        with _pages(folder) as cache:
            left = sorted(path.name for path in folder.iterdir())
    assert left == sorted(["pages-2024-of-a-book", Path(cache.folder).name]), f"left behind: {left}"
    assert (folder / "pages-2024-of-a-book" / "1.txt").exists()


PROTOCOLS: dict[str, Protocol] = {
    "commit: a new folder": _Commit("out", "error", before=False).protocol(),
    "commit: a new folder below new folders": _Commit("a/b/out", "error", before=False).protocol(),
    "commit: a folder is replaced": _Commit("out", "replace", before=True).protocol(),
    "commit: a folder is replaced where names can't be exchanged": _Commit(
        "out", "replace", before=True, swaps=False
    ).protocol(),
    "commit: files are appended": _Commit("out", "append", before=True).protocol(),
    "commit: a new file": _Commit("out.csv", "error", before=False).protocol(),
    "commit: a file is replaced": _Commit("out.csv", "replace", before=True).protocol(),
    "run: facts, journal, summary": Protocol(lambda folder: None, _run_recorded, _check_recorded),
    "array: pages in place, with an undo log": Protocol(_begin_array, _change_array, _check_array),
    "array: pages and holes, of which a change is undone": Protocol(_begin_undone, _undo, _check_undone),
    "array: a new file": Protocol(lambda folder: None, _create_array, _check_created),
    "array: a new file in place of one": Protocol(_create_over, _create_array, _check_created),
    "array: regions in place, by tasks": _Changing(in_place=True).protocol(),
    "array: regions of a new file, by tasks": _Changing(in_place=False).protocol(),
    "checkpoint": Protocol(lambda folder: None, _write_checkpoint, _check_checkpoint),
    "folder of spilled data": Protocol(_begin_spills, _spill, _check_spills),
    "row index": Protocol(_begin_index, _write_index, _check_index),
    "entries of the cache": Protocol(_begin_entries, _keep_entries, _check_entries),
    "entries of the cache, by processes that die": Protocol(
        _begin_entries, _keep_entries, _check_entries, killed=True
    ),
    "cache entry": Protocol(lambda folder: None, _fill_entry, _check_entry, killed=True),
    "cache of pages: filled and evicted": Protocol(
        lambda folder: None, _fill_pages, _check_pages, killed=True
    ),
    "cache of pages: begun, and that of another boot removed": Protocol(
        _begin_other_boot, _sweep_pages, _check_swept
    ),
}
