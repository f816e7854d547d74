"""Two runs to one URL exclude each other; a dead one's lock is passed over, a living one's is not."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest

from mmflow.errors import SinkError
from mmflow.mapping.system.host import machine_id, read_process_start
from mmflow.sinks import open_commit, sink_spec
from mmflow.sinks.commit import object_lock
from mmflow.sinks.commit.destination_store import DestinationStore
from mmflow.sinks.commit.object_lock import ObjectLock
from mmflow.storage import clock
from mmflow.storage.object_store import FsspecStore
from tests.sinks.conftest import CRASHER, ROOT
from tests.sinks.object_rows import objects, rows, state, tidy
from tests.sinks.sink_rows import write, write_all
from tests.waiting import wait_until

LOCK = "_mmflow_lock.json"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lock, "SETTLE_SECONDS", 0.05)


@pytest.fixture
def url() -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/out"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def elsewhere(url: str, run: str, *, age: float) -> dict[str, Any]:
    """A lock of a run on another machine, which gave its last sign of life `age` seconds ago."""
    then = time.time() - age
    lock = {"mmflow_lock": 1, "run": run, "host": "far", "pid": 7, "machine": "another", "nonce": "n"}
    lock |= {"since": then, "refreshed": then}
    with fsspec.open(f"{url}/{LOCK}", "w") as file:
        json.dump(lock, file)
    return lock


def test_two_processes_exclude_each_other(s3: Callable[[], str]) -> None:
    url = f"{s3()}/out"
    child = subprocess.Popen(
        [sys.executable, str(CRASHER), url, "first", "error", "new", "99", "hold"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    with child.stdout:
        assert [child.stdout.readline().strip() for _ in range(4)][-1] == "staged"
        # Also another life of the same run: the first one is not dead.
        for run in ("second", "first"):
            with pytest.raises(
                SinkError,
                match=rf"is being written by run first \(process {child.pid} on .*if you delete {url}/{LOCK}",
            ):
                open_commit(sink_spec(url, "csv"), run).prepare()
        staged = objects(url)
        assert len(staged) == 4  # lock, open.json, two files
        child.send_signal(signal.SIGKILL)
        child.wait()
    write_all(url, [[rows("second")]], format="csv", run="second")
    assert state(url) == ["second"]
    assert tidy(url)


@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_of_many_at_once_one_gets_the_lock(kind: str, request: pytest.FixtureRequest, url: str) -> None:
    where = f"{request.getfixturevalue('s3')()}/out" if kind == "s3" else url
    store = DestinationStore(where)
    got: list[ObjectLock] = []
    refused: list[SinkError] = []
    start = threading.Barrier(8)

    def take(number: int) -> None:
        start.wait()
        try:
            got.append(ObjectLock.acquire(store, LOCK, destination=where, run=f"r{number}"))
        except SinkError as error:
            refused.append(error)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].release()
    got[0].release()
    assert not objects(where)


def test_a_lock_from_elsewhere_is_kept_while_its_holder_may_live(url: str) -> None:
    elsewhere(url, "theirs", age=200)
    with pytest.raises(SinkError, match=r"run theirs \(process 7 on far\) since .*sign of life 20\d s ago"):
        open_commit(sink_spec(url, "csv"), "ours").prepare()
    assert objects(url) == {LOCK}


def test_a_lock_whose_host_has_another_clock_says_so(url: str) -> None:
    elsewhere(url, "theirs", age=-7200)
    with pytest.raises(SinkError, match=r"sign of life 7,\d+ s from now: its host's clock is ahead"):
        open_commit(sink_spec(url, "csv"), "ours").prepare()


def test_a_stale_lock_is_broken_and_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lock, "REFRESH_SECONDS", 0.1)
    elsewhere(url, "theirs", age=1000)
    with pytest.warns(UserWarning, match=r"held by run theirs \(process 7 on far\).*considered dead"):
        write_all(url, [[rows("ours")]], format="csv", run="ours")
    assert state(url) == ["ours"]
    assert tidy(url)


def test_a_lock_that_looks_stale_by_our_clock_is_kept_if_it_is_refreshed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock, "REFRESH_SECONDS", 0.5)
    elsewhere(url, "theirs", age=1000)
    refresher = threading.Timer(0.2, lambda: elsewhere(url, "theirs", age=999))
    refresher.start()
    with pytest.raises(SinkError, match="is being written by run theirs"):
        open_commit(sink_spec(url, "csv"), "ours").prepare()
    refresher.join()


def test_the_same_run_resumed_elsewhere_takes_its_lock(url: str) -> None:
    elsewhere(url, "ours", age=1)
    write_all(url, [[rows("ours")]], format="csv", run="ours")
    assert state(url) == ["ours"]
    assert tidy(url)


def test_a_lock_is_refreshed_and_a_lost_one_is_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lock, "REFRESH_SECONDS", 0.05)
    store = DestinationStore(url)
    lock = ObjectLock.acquire(store, LOCK, destination=url, run="ours")
    first = json.loads(store.read(LOCK) or b"")

    def refreshed() -> bool:
        return bool(json.loads(store.read(LOCK) or b"")["refreshed"] != first["refreshed"])

    wait_until(refreshed, "a refresh")
    theirs = elsewhere(url, "theirs", age=0)
    refresher = lock._refresher
    assert refresher is not None
    wait_until(lambda: not refresher.running, "the refresher to see that the lock is lost")
    assert json.loads(store.read(LOCK) or b"") == theirs
    with pytest.raises(SinkError, match="was taken by run theirs"):
        lock.check()
    lock.release()
    assert json.loads(store.read(LOCK) or b"") == theirs


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_who_lost_its_lock_publishes_nothing(url: str, name: str) -> None:
    url = url.replace("out", name)
    spec = sink_spec(url, "csv")
    lock = LOCK if name == "out" else "_mmflow_lock-out.csv.json"
    base = url if name == "out" else url.removesuffix("/out.csv")
    with open_commit(spec, "slow") as commit:
        commit.prepare()
        files = write(spec, [rows("slow")], rows("").schema, run="slow")
        fs, root = fsspec.core.url_to_fs(base, use_listings_cache=False)
        fs.rm_file(f"{root}/{lock}")  # as the message tells people to
        write_all(url, [[rows("fast")]], format="csv", run="fast")
        with pytest.raises(
            SinkError, match=r"is missing|created by another process|was deleted while this run"
        ):
            commit.commit(files, rows("").schema)
    assert state(url) == ["fast"]
    assert tidy(url)


def test_who_lost_its_lock_keeps_its_hands_off_while_the_other_computes(url: str) -> None:
    spec = sink_spec(url, "csv", if_exists="replace")
    slow, fast = open_commit(spec, "slow"), open_commit(spec, "fast")
    slow.prepare()
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    fs.rm_file(f"{root}/{LOCK}")
    fast.prepare()
    files = write(spec, [rows("fast")], rows("").schema, run="fast")
    with pytest.raises(SinkError, match="the run was stopped"):
        write(spec, [rows("slow")], rows("").schema, run="slow")
    slow.abort()
    fast.commit(files, rows("").schema)
    assert state(url) == ["fast"]
    assert tidy(url)


def test_a_copy_that_ends_after_the_lock_was_broken_leaves_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmflow.sinks.commit.object_commit._COPIES", 1)
    spec = sink_spec(url, "csv", if_exists="replace")
    fast = open_commit(spec, "fast")
    real = DestinationStore.copy

    def late(store: DestinationStore, pairs: list[tuple[str, str]]) -> None:
        """The lock is broken, and what the dead run said it would do is undone, while this copy is under way."""
        data = store.read(pairs[0][0])
        assert data is not None
        monkeypatch.setattr(DestinationStore, "copy", real)
        store.delete([LOCK])
        fast.prepare()
        store.put(pairs[0][1], data)

    with open_commit(spec, "slow") as slow:
        slow.prepare()
        files = [write(spec, [rows("slow")], rows("").schema, run="slow", number=n)[0] for n in range(2)]
        monkeypatch.setattr(DestinationStore, "copy", late)
        with pytest.raises(SinkError, match="is missing"):
            slow.commit(files, rows("").schema)
    fast.commit(write(spec, [rows("fast")], rows("").schema, run="fast"), rows("").schema)
    assert state(url) == ["fast"]
    assert tidy(url)


def test_a_lock_that_another_run_creates_after_the_look_is_its_own(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = elsewhere(url, "theirs", age=0)
    read = DestinationStore.read
    looks: list[str] = []

    def first_nothing(store: DestinationStore, name: str) -> bytes | None:
        looks.append(name)
        return None if len(looks) == 1 else read(store, name)

    monkeypatch.setattr(DestinationStore, "read", first_nothing)
    with pytest.raises(SinkError, match="is being written by run theirs"):
        ObjectLock.acquire(DestinationStore(url), LOCK, destination=url, run="ours")
    assert json.loads(read(DestinationStore(url), LOCK) or b"") == theirs


def test_an_object_is_created_once_and_known_where_the_answer_was_lost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DestinationStore(url)
    assert store.create("a", b"ours")
    assert not store.create("a", b"theirs")
    assert store.read("a") == b"ours"
    create = FsspecStore.create

    def lost(there: FsspecStore, name: str, data: bytes) -> None:
        create(there, name, data)
        raise ConnectionResetError("the answer got lost")

    def refused(there: FsspecStore, name: str, data: bytes) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(FsspecStore, "create", lost)
    assert store.create("b", b"ours")
    monkeypatch.setattr(FsspecStore, "create", refused)
    with pytest.raises(SinkError, match="access denied"):
        store.create("c", b"ours")


def test_a_lock_that_is_none_is_left_alone(url: str) -> None:
    for text in ("hello", "[1]"):
        with fsspec.open(f"{url}/{LOCK}", "w") as file:
            file.write(text)
        with pytest.raises(SinkError, match=f"{LOCK} is not a lock of mmflow; delete it"):
            open_commit(sink_spec(url, "csv"), "ours").prepare()
    assert objects(url) == {LOCK}


# ---- its parts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock stands at the second 100,000 but for sleeps, which are listed."""
    slept: list[float] = []
    monkeypatch.setattr(clock, "time", lambda: 100_000.0 + sum(slept))
    monkeypatch.setattr(clock, "sleep", slept.append)
    return slept


def theirs(url: str, **facts: Any) -> dict[str, Any]:
    """A lock of a run elsewhere."""
    lock = {"run": "theirs+2", "host": "far", "pid": 7, "machine": "another", "nonce": "n", "since": 86_461}
    lock |= facts
    DestinationStore(url).put(LOCK, json.dumps(lock).encode())
    return lock


def acquire(url: str, run: str = "ours") -> ObjectLock:
    return ObjectLock.acquire(DestinationStore(url), LOCK, destination=url, run=run)


def test_a_lock_says_who_holds_it(url: str, still: list[float]) -> None:
    lock = acquire(url, "r+1")
    text = (DestinationStore(url).read(LOCK) or b"").decode()
    found = json.loads(text)
    assert text == json.dumps(found, indent=1) + "\n"
    assert re.fullmatch("[0-9a-f]{32}", found["nonce"])
    assert found == {
        "mmflow_lock": 1,
        "run": "r+1",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process": read_process_start(os.getpid()),
        "machine": machine_id(),
        "since": 100_000.0,
        "nonce": lock.nonce,
        "refreshed": 100_000.0,
    }
    assert still == ([] if DestinationStore(url).exclusive else [object_lock.SETTLE_SECONDS])
    lock.release()
    assert not lock.is_held()
    with pytest.raises(SinkError) as raised:
        lock.check()
    assert (
        str(raised.value) == f"the lock of {url} was deleted while this run computed; nothing was published"
    )
    assert raised.value.context == {"path": url}


def test_a_holder_that_lives_is_named_with_its_last_sign_of_life(url: str, still: list[float]) -> None:
    ahead = "its host's clock is ahead of this one's, or this one's is wrong (set it), and such a lock counts as alive until then"
    for refreshed, age in (
        (100_000, "0 s ago"),
        (99_701, "299 s ago"),
        (100_059, "0 s ago"),
        (100_060, f"60 s from now: {ahead}"),
        (102_000.4, f"2,000 s from now: {ahead}"),
    ):
        theirs(url, refreshed=refreshed)
        with pytest.raises(SinkError) as raised:
            acquire(url)
        assert str(raised.value) == (
            f"{url} is being written by run theirs (process 7 on far) since 1970-01-02 00:01:01 UTC, which gave a sign "
            f"of life {age}; wait for it, or choose another output; if it is dead, its lock is broken after 300 s "
            f"without one, or at once if you delete {url}/{LOCK}"
        )
        assert raised.value.context == {"path": url, "code": "MMF-OUT-005"}
    assert still == []


def test_a_lock_is_stale_once_it_is_old_and_stays_as_it_is(url: str, still: list[float]) -> None:
    theirs(url, refreshed=99_700.5)
    with pytest.raises(SinkError, match="sign of life 300 s ago"):
        acquire(url)
    assert still == []
    theirs(url, refreshed=99_700)
    with pytest.warns(UserWarning, match="considered dead") as warned:
        acquire(url).release()
    (warning,) = warned
    assert str(warning.message) == (
        f"the lock of {url} was held by run theirs (process 7 on far) since 1970-01-02 00:01:01 UTC, which gave no sign "
        "of life for 300 s; it is considered dead, and its lock is broken"
    )
    assert still == [30.0, object_lock.SETTLE_SECONDS]
    del still[:]
    lock = theirs(url)
    del lock["since"]
    DestinationStore(url).put(LOCK, json.dumps(lock).encode())
    with pytest.warns(UserWarning, match=r"since 1970-01-01 00:00:00 UTC"):
        acquire(url).release()


def test_a_lock_that_never_says_when_it_was_refreshed_is_old(
    url: str, still: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age counts from the beginning of time: it is watched, and its holder may come back meanwhile."""
    lock = theirs(url)
    monkeypatch.setattr(clock, "sleep", lambda seconds: theirs(url, pid=8))
    with pytest.raises(SinkError, match="sign of life 100,000 s ago"):
        acquire(url)
    monkeypatch.setattr(clock, "time", lambda: 300.0)
    assert object_lock._age(lock) == "300 s ago"
    monkeypatch.setattr(clock, "sleep", still.append)
    assert ObjectLock(DestinationStore(url), LOCK, destination=url, run="r")._stale(lock) is False
    assert still == [30.0], "watched, though it changed"


def test_whether_a_holder_lives() -> None:
    here = {"machine": machine_id(), "pid": os.getpid(), "process": read_process_start(os.getpid())}
    for facts, alive in (
        ({}, True),
        ({"process": "another"}, False),
        ({"process": None}, False),
        ({"pid": 2**22 + 1}, False),
        ({"pid": None, "process": None}, False),
        ({"pid": str(os.getpid())}, True),
        ({"machine": "another"}, None),
        ({"machine": ""}, None),
        ({"machine": None}, None),
    ):
        assert object_lock._is_alive({**here, **facts}) is alive, facts
    assert object_lock._is_alive({}) is None
    assert object_lock._is_alive({"machine": machine_id()}) is False


def test_a_dead_holders_lock_is_taken_at_once(url: str, still: list[float]) -> None:
    theirs(url, machine=machine_id(), process="another", refreshed=100_000)
    lock = acquire(url)
    assert still == [object_lock.SETTLE_SECONDS]
    lock.release()


def test_who_loses_the_race_for_a_lock_tries_again(
    url: str, still: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another run breaks the same lock at once, and writes it last.
    theirs(url, run="ours")

    def sleep(seconds: float) -> None:
        still.append(seconds)
        theirs(url, run="ours")

    monkeypatch.setattr(clock, "sleep", sleep)
    with pytest.raises(SinkError) as raised:
        acquire(url)
    assert str(raised.value) == f"can't lock {url}: other runs come and go; try again"
    assert raised.value.context == {"path": url}
    assert still == [object_lock.SETTLE_SECONDS, 0.1] * 20


def test_where_creation_is_not_exclusive_a_lock_is_looked_at_once_more(
    url: str, still: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DestinationStore(url)
    store.exclusive = False
    lock = ObjectLock(store, LOCK, destination=url, run="ours")
    assert lock._create()
    assert still == [object_lock.SETTLE_SECONDS]
    assert not lock._create()
    store.delete([LOCK])
    monkeypatch.setattr(clock, "sleep", lambda seconds: theirs(url))
    assert not lock._create()


def test_a_refresh_that_the_store_refuses_is_tried_again(
    url: str, still: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = acquire(url)
    still.append(5)

    def refuse(store: DestinationStore, *arguments: Any) -> Any:
        raise SinkError("no network")

    for method in ("read", "put"):
        with monkeypatch.context() as patch:
            patch.setattr(DestinationStore, method, refuse)
            assert lock._refresh()
    assert lock._refresh()
    assert json.loads(DestinationStore(url).read(LOCK) or b"")["refreshed"] == 100_005
    theirs(url)
    assert not lock._refresh()
    lock.release()


def test_the_refresher_is_stopped_and_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[tuple[float, str]] = []
    real = clock.Repeated

    def repeated(function: Callable[[], bool], seconds: float, name: str) -> clock.Repeated:
        began.append((seconds, name))
        return real(function, seconds, name)

    waited: list[float] = []
    monkeypatch.setattr(clock, "Repeated", repeated)
    lock = acquire(url)
    assert began[-1:] == [(20.0, "mmflow-lock")]  # a first request has one of its own
    refresher = lock._refresher
    assert refresher is not None

    def stop(seconds: float) -> None:
        waited.append(seconds)
        real.stop(refresher, seconds)

    monkeypatch.setattr(refresher, "stop", stop)
    lock.release()
    assert waited == [30.0]
    assert not refresher.running
