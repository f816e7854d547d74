"""Entries of the cache: what was written is read or nothing is, whatever dies, is damaged, is full or is somebody else's."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmflow.cache.entry import BLOCK, DamagedEntryError, EntryKey, Kind
from mmflow.cache.store import CacheStore, open_store
from mmflow.mapping import FileIdentity
from mmflow.mapping.system import system
from tests.forked import become_nobody, in_fork, mount_privately

BOUND = 16 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    return path


@pytest.fixture
def store(tmp_path: Path) -> CacheStore:
    return CacheStore(str(tmp_path / "cache"), BOUND)


def entry_key(source: Path, number: int = 0, kind: Kind = "columns") -> EntryKey:
    return EntryKey(kind, str(source), FileIdentity.of(str(source)), {"column": number})


def body(number: int, length: int = 3 * BLOCK + 77) -> bytes:
    return np.random.default_rng(number).bytes(length)


def fill(store: CacheStore, key: EntryKey, data: bytes) -> bool:
    with store.write(key) as writer:
        for begin in range(0, len(data), 100_000):
            writer.write(data[begin : begin + 100_000])
    return not writer.lost


def content(store: CacheStore, key: EntryKey) -> bytes | None:
    entry = store.open(key)
    try:
        return None if entry is None else bytes(entry.view())
    except DamagedEntryError:
        return None


def files(store: CacheStore) -> list[str]:
    return sorted(str(p.relative_to(store.folder)) for p in Path(store.folder).rglob("*") if p.is_file())


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77])
def test_an_entry_is_read_as_it_was_written(store: CacheStore, source: Path, length: int) -> None:
    key, data = entry_key(source), body(0, length)
    assert store.open(key) is None
    assert fill(store, key, data)
    entry = store.open(key)
    assert entry is not None
    assert entry.begin % 4096 == 0
    assert bytes(entry.view()) == data
    assert bytes(entry.view(length // 2, length - length // 2)) == data[length // 2 :]
    assert entry.view().readonly
    assert store.has(key)
    assert store.open(entry_key(source, 1)) is None


def test_what_is_written_over_is_another_file(store: CacheStore, source: Path) -> None:
    key = entry_key(source)
    fill(store, key, body(1))
    entry = store.open(key)
    assert entry is not None
    assert fill(store, key, body(2))
    assert bytes(entry.view()) == body(1)
    assert content(store, key) == body(2)


def test_an_exception_publishes_nothing(store: CacheStore, source: Path) -> None:
    with pytest.raises(KeyError), store.write(entry_key(source)) as writer:  # noqa: PT012  (the writer's use)
        writer.write(b"half")
        raise KeyError
    assert files(store) == ["lock"]


def test_a_flipped_byte_anywhere_is_noticed(store: CacheStore, source: Path) -> None:
    key, data = entry_key(source), body(3)
    fill(store, key, data)
    path = Path(store.folder, "columns", key.name)
    right = path.read_bytes()
    head = right.index(key.text) + len(key.text)
    places = [*range(0, head, 3), *random.Random(1).choices(range(4096, len(right)), k=40), len(right) - 1]
    for place in places:
        torn = bytearray(right)
        torn[place] ^= 1 << place % 8
        path.write_bytes(torn)
        path.chmod(0o600)
        assert content(store, key) is None, f"byte {place}"
        assert not path.exists(), f"byte {place}"


@pytest.mark.parametrize("cut", [0, 10, 4095, 4096, 5000, -1])
def test_a_torn_entry_is_dropped(store: CacheStore, source: Path, cut: int) -> None:
    key = entry_key(source)
    fill(store, key, body(3))
    path = Path(store.folder, "columns", key.name)
    path.write_bytes(path.read_bytes()[:cut])
    assert content(store, key) is None
    assert not path.exists()


def test_an_entry_under_the_name_of_another_is_dropped(store: CacheStore, source: Path) -> None:
    fill(store, entry_key(source, 1), body(1))
    folder = Path(store.folder, "columns")
    (folder / entry_key(source, 1).name).rename(folder / entry_key(source, 2).name)
    assert content(store, entry_key(source, 2)) is None
    assert files(store) == ["lock"]


def test_the_least_recently_used_go_and_the_bound_holds(store: CacheStore, source: Path) -> None:
    for number in range(30):
        assert fill(store, entry_key(source, number), body(number, 2 << 20))
        assert content(store, entry_key(source, 0)) is not None, "it was used a moment ago"
        assert store.measure() <= BOUND
        time.sleep(0.002)
    there = [n for n in range(30) if store.has(entry_key(source, n))]
    assert there[0] == 0
    assert there[1:] == list(range(there[1], 30))
    assert len(there) >= 5


def test_what_is_mapped_stays(store: CacheStore, source: Path) -> None:
    fill(store, entry_key(source), body(0))
    entry = store.open(entry_key(source))
    assert entry is not None
    values = np.frombuffer(entry.view(), np.uint8)
    del entry
    gc.collect()
    for number in range(1, 20):
        fill(store, entry_key(source, number), body(number, 2 << 20))
    assert store.clear()[0] > 0
    assert values.tobytes() == body(0)
    assert [info.pinned for info in store.entries()] == [True]
    del values
    assert [info.pinned for info in store.entries()] == [False]
    assert store.clear()[0] == 1


def test_another_process_leaves_what_is_mapped_here(store: CacheStore, source: Path) -> None:
    fill(store, entry_key(source), body(0))
    entry = store.open(entry_key(source))
    script = (
        "import sys; from mmflow.cache.store import CacheStore; print(CacheStore(sys.argv[1], 1).clear()[0])"
    )
    command = [sys.executable, "-c", script, os.path.dirname(store.folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
    del entry
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_cache_full_of_mapped_entries_takes_no_other(store: CacheStore, source: Path) -> None:
    keys = [entry_key(source, number) for number in range(12)]
    mapped = [store.open(key) for number, key in enumerate(keys) if fill(store, key, body(number, 2 << 20))]
    assert 5 <= len(mapped) <= 8
    assert store.measure() <= BOUND
    with store.write(entry_key(source, 99)) as writer:
        writer.write(body(99, 4 << 20))
        assert writer.lost
    mapped.clear()
    assert fill(store, entry_key(source, 99), body(99, 4 << 20))


def test_an_entry_larger_than_the_bound_is_not_kept(store: CacheStore, source: Path) -> None:
    assert not fill(store, entry_key(source), body(0, BOUND + 1))
    assert files(store) == ["lock"]


def test_only_one_of_two_writers_writes(store: CacheStore, source: Path) -> None:
    key = entry_key(source)
    with store.write(key) as first:
        first.write(b"first")
        with store.write(key) as second:
            second.write(b"second")
            assert second.lost
    assert not first.lost
    assert content(store, key) == b"first"
    assert files(store) == [f"columns/{key.name}", "lock"]


def test_processes_that_write_the_same_entries_agree(store: CacheStore, source: Path) -> None:
    keys = [entry_key(source, number) for number in range(6)]

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            number = rng.randrange(6)
            found = content(store, keys[number])
            assert found in (None, body(number, 200_000)), number
            if found is None or rng.random() < 0.3:
                fill(store, keys[number], body(number, 200_000))
            if rng.random() < 0.1:
                store.clear()

    children = [_start(partial(work, seed)) for seed in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert not store.verify().unfinished
    assert store.measure() <= BOUND


def _start(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _kill_writers(store: CacheStore, source: Path, kills: int) -> None:
    """Kill processes that write entries, each at a random moment; after each, all that is there is right."""
    rng = random.Random(kills)

    def work(seed: int) -> None:
        numbers = random.Random(seed)
        while True:
            number = numbers.randrange(8)
            fill(store, entry_key(source, number), bodies[number])

    bodies = [body(number, 700_000 * (number + 1)) for number in range(8)]
    for kill in range(kills):
        child = _start(partial(work, kill))
        time.sleep(rng.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        number = rng.randrange(8)
        assert content(store, entry_key(source, number)) in (None, bodies[number])
        assert store.measure() <= BOUND
        if kill % 20 == 0:
            assert not store.verify().damaged
    found = store.verify()
    assert (found.damaged, found.stale) == ((), ())
    assert all(len(os.path.basename(name)) in (4, 32) for name in files(store)), "a part is left"
    store.clear()
    assert files(store) == ["lock"]


def test_a_killed_writer_leaves_nothing_wrong(store: CacheStore, source: Path) -> None:
    _kill_writers(store, source, 40)


@pytest.mark.nightly
def test_two_thousand_killed_writers_leave_nothing_wrong(store: CacheStore, source: Path) -> None:
    _kill_writers(store, source, 2000)


def test_verify_removes_what_is_wrong(store: CacheStore, source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("x\n")
    for number in range(3):
        fill(store, entry_key(source, number), body(number))
    fill(store, entry_key(other), body(9))
    other.write_text("x\ny\n")
    damaged = Path(store.folder, "columns", entry_key(source, 1).name)
    with damaged.open("r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"????")
    part = Path(store.folder, "columns", f"{entry_key(source, 7).name}.part")
    part.write_bytes(b"of a writer that was killed")
    with store.write(entry_key(source, 8)) as writer:
        writer.write(b"a writer that lives")
        found = store.verify()
    assert len(found.right) == 2
    assert (found.damaged, found.unfinished) == ((str(damaged),), (str(part),))
    assert len(found.stale) == 1
    assert content(store, entry_key(source, 8)) == b"a writer that lives"
    again = store.verify()
    assert [len(paths) for paths in (again.right, again.damaged, again.stale, again.unfinished)] == [
        3,
        0,
        0,
        0,
    ]


@pytest.mark.root
def test_entries_of_others_are_not_read(store: CacheStore, source: Path) -> None:
    key = entry_key(source)
    for owner, mode in ((65534, 0o600), (0, 0o622)):
        fill(store, key, body(0))
        os.chown(Path(store.folder, "columns", key.name), owner, owner)
        os.chmod(Path(store.folder, "columns", key.name), mode)
        assert content(store, key) is None
        assert not store.has(key)
    os.chmod(store.folder, 0o770)
    assert open_store(os.path.dirname(store.folder), BOUND, "") is None, "others can write to it"


@pytest.mark.root
def test_a_folder_that_is_only_read_is_read(store: CacheStore, source: Path) -> None:
    fill(store, entry_key(source), body(0))
    base = os.path.dirname(store.folder)
    for path in (Path(base), *Path(base).rglob("*")):
        os.chown(path, 65534, 65534)
    os.chmod(base, 0o555)
    os.chmod(store.folder, 0o500)
    os.chmod(os.path.join(store.folder, "columns"), 0o500)
    os.chmod(source.parent, 0o755)
    for parent in source.parents:
        if parent != Path("/tmp") and len(parent.parts) > 2:
            os.chmod(parent, 0o755)

    def work() -> tuple[bool, bool]:
        become_nobody()
        there = CacheStore(base, BOUND)
        return content(there, entry_key(source)) == body(0), fill(there, entry_key(source, 1), body(1))

    assert in_fork(work) == (True, False)


@pytest.mark.root
def test_a_full_disk_costs_the_entry_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / "small").mkdir()

    def work() -> tuple[list[bool], bool, list[str]]:
        mount_privately(tmp_path / "small", "size=6m,mode=0777")
        store = CacheStore(str(tmp_path / "small" / "cache"), 1 << 30)
        fits = [fill(store, entry_key(source, number), body(number, 1 << 20)) for number in range(12)]
        entries = [store.open(entry_key(source, n)) for n in range(12)]
        full = fill(store, entry_key(source, 20), body(20, 5 << 20))
        del entries
        return fits, full, [name for name in files(store) if name.endswith(".part")]

    fits, full, left = in_fork(work)
    assert all(fits), "others went for them"
    assert not full, "all of them are in use"
    assert not left


def test_a_file_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(system), "file_system_name", lambda self, fd: "nfs4")
    with pytest.raises(OSError, match="lies on a file server"):
        CacheStore(str(tmp_path), None)
    assert open_store(str(tmp_path), None, "") is None


def test_without_a_bound_there_is_no_cache(tmp_path: Path) -> None:
    assert open_store(str(tmp_path), 0, "") is None


def test_a_child_keeps_what_its_parent_had_mapped(store: CacheStore, source: Path) -> None:
    fill(store, entry_key(source), body(0))
    entry = store.open(entry_key(source))
    assert entry is not None
    assert in_fork(lambda: (bytes(entry.view()) == body(0), store.clear())) == (True, (0, 0))
