"""Channels between processes: all that was sent, in order, within the bound; whoever dies is noticed at once."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.blocks import shared_memory_folder
from mmflow.mapping.system import host
from mmflow.shm.channel import Receiver, Sender, channel
from tests.waiting import wait_until

from .share_tables import tables

pytestmark = [
    pytest.mark.timeout(60),  # what must not be: to wait for the dead
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


def batch(number: int, rows: int = 1000) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": np.full(rows, number)})


def number(got: pa.RecordBatch | None) -> int:
    assert got is not None
    values = got.column(0).to_numpy()
    assert (values == values[0]).all(), "a torn batch"
    return int(values[0])


def at_least(sent: Any, count: int) -> bool:
    """Return whether a sender has sent so many batches."""
    return bool(sent.value >= count)


def usage() -> tuple[int, int]:
    """Descriptors and mappings of this process."""
    return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("\n")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    opened = [os.readlink(p) for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]
    assert [o for o in opened if "memfd:mmflow" in o or "pidfd" in o] == []
    assert "memfd:mmflow" not in Path("/proc/self/maps").read_text()


# ---- one process ------------------------------------------------------------------------------------


@given(st.lists(tables(), max_size=2))
def test_any_batches_in_order_and_an_end(sent: list[pa.Table]) -> None:
    sender, receiver = channel()
    with sender:
        for table in sent:
            sender.send(table)
    expected = [b for t in sent for b in t.to_batches()]
    got = list(receiver)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        one.validate(full=True)
        assert one.schema.equals(other.schema, check_metadata=True)
        assert one.equals(other)
    assert receiver.receive() is None


def test_nothing_is_copied_and_batches_outlive_the_channel() -> None:
    sender, receiver = channel()
    sender.send(batch(7, 1 << 20))
    sender.close()
    before = pa.total_allocated_bytes()
    (got,) = receiver
    assert pa.total_allocated_bytes() - before < 10_000
    receiver.close()
    address = got.column(0).buffers()[1].address
    (line,) = [m for m in Path("/proc/self/maps").read_text().splitlines() if "memfd:mmflow" in m]
    begin, end = (int(part, 16) for part in line.split()[0].split("-"))
    assert begin <= address < end
    assert line.split()[1].startswith("r-")
    assert number(got) == 7


def test_send_waits_while_the_channel_is_full() -> None:
    sender, receiver = channel(capacity=100_000)
    sent = FORK.Value("i", 0)

    def work() -> None:
        for i in range(200):
            sender.send(batch(i))  # 8 kB and a little
            sent.value = i + 1
        sender.close()

    process = FORK.Process(target=work)
    process.start()
    sender.close()
    for i, got in enumerate(receiver):
        assert number(got) == i
        if i % 20 == 0:
            full = min(200, i + 1 + 100_000 // 8400)
            wait_until(partial(at_least, sent, full), "the channel to be full")
            assert sent.value <= i + 1 + 100_000 // 8000
    process.join(10)
    process.close()


def test_a_batch_beyond_the_capacity_goes_alone() -> None:
    sender, receiver = channel(capacity=10)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(number(b) for b in receiver))
    thread.start()
    with sender:
        for i in range(5):
            sender.send(batch(i, 100_000))
    thread.join()
    assert got == [0, 1, 2, 3, 4]


def test_many_small_batches_are_bounded_too() -> None:
    sender, receiver = channel()
    sent = FORK.Value("i", 0)

    def work() -> None:
        for i in range(1000):
            sender.send(batch(i, 1))
            sent.value = i + 1
        sender.close()

    process = FORK.Process(target=work)
    process.start()
    sender.close()
    for i, got in enumerate(receiver):
        assert number(got) == i
        if i % 100 == 0:
            wait_until(partial(at_least, sent, min(1000, i + 60)), "the channel to be full")
            assert sent.value <= i + 1 + 64
    process.join(10)
    process.close()


def test_failure_of_the_sender_is_said_behind_what_it_sent() -> None:
    sender, receiver = channel()
    sender.send(batch(1))
    with pytest.raises(KeyError), sender:
        raise KeyError("a column")
    assert number(receiver.receive()) == 1
    with pytest.raises(mf.EngineError, match=r"sender failed: KeyError: 'a column'"):
        receiver.receive()


def test_sender_that_is_dropped_is_no_end() -> None:
    sender, receiver = channel()
    sender.send(batch(1))
    del sender
    gc.collect()
    assert number(receiver.receive()) == 1
    for _ in range(2):
        with pytest.raises(mf.PeerLostError, match="the sender is gone: it closed its end"):
            receiver.receive()


def test_sender_that_never_sent() -> None:
    sender, receiver = channel()
    with sender:
        pass
    assert list(receiver) == []
    sender, receiver = channel()
    sender.close()  # only let go: whoever else has it may still send
    with pytest.raises(mf.PeerLostError):
        receiver.receive()


def test_receiver_that_closed() -> None:
    sender, receiver = channel()
    sender.send(batch(1))
    with receiver:
        assert number(receiver.receive()) == 1
    with pytest.raises(mf.PeerLostError, match="the receiver is gone: it closed its end"):
        sender.send(batch(2))
    sender.close()


def test_closed_ends_say_so() -> None:
    sender, receiver = channel()
    sender.close()
    with pytest.raises(mf.EngineError, match="closed here"):
        sender.send(batch(1))
    receiver.close()
    with pytest.raises(mf.EngineError, match="closed here"):
        receiver.receive()


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(mf.ConfigError, match="capacity"):
        channel(capacity=0)
    with open(tmp_path / "file", "w") as file, pytest.raises(mf.ConfigError, match="no end of a channel"):
        Sender.of(file.fileno())
    with socket.socket() as other, pytest.raises(mf.ConfigError, match="another kind"):
        Receiver.of(other.fileno())
    sender, receiver = channel()
    with pytest.raises(TypeError, match="goes to another process as"):
        pickle.dumps(receiver)
    sender.send(batch(1))
    with pytest.raises(mf.EngineError, match="in use here"):
        ForkingPickler.dumps(sender)
    assert number(receiver.receive()) == 1


def test_out_of_descriptors_is_an_error() -> None:
    import resource

    sender, receiver = channel()
    with receiver:
        for i in range(3):
            sender.send(batch(i))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = [os.dup(0)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.dup(0))
            with pytest.raises(mf.EngineError, match="out of file descriptors"):
                receiver.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
    sender.close()


# ---- two processes ----------------------------------------------------------------------------------


def produce(sender: Sender, count: int, rows: int, end: str = "close") -> None:
    """Send so many batches, and then end as `end` says."""
    for i in range(count):
        sender.send(batch(i, rows))
    match end:
        case "close":
            sender.close()
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            with sender:
                raise ValueError("no more")


def consume(receiver: Receiver, count: int) -> None:
    """Receive so many batches, and then be killed."""
    for i in range(count):
        assert number(receiver.receive()) == i
    os.kill(os.getpid(), signal.SIGKILL)


def receive_until_lost(receiver: Receiver) -> int:
    """Receive until the sender is gone, which must be said; how many batches came, each whole, in order."""
    for count in range(10**6):
        try:
            assert number(receiver.receive()) == count
        except mf.PeerLostError as error:
            assert "the sender is gone" in str(error)
            return count
    return 10**6


def send_until_lost(sender: Sender, rows: int) -> int:
    """Send until the receiver is gone, but at most 1000 batches; how many were sent."""
    for count in range(1000):
        try:
            sender.send(batch(count, rows))
        except mf.PeerLostError:
            return count
    return 1000


def ended(process: Any) -> None:
    process.kill()
    process.join(10)
    process.close()


@pytest.mark.parametrize("context", [SPAWN, FORK], ids=["spawn", "fork"])
def test_from_another_process(context: Any) -> None:
    sender, receiver = channel(capacity=1 << 20)
    process = context.Process(target=produce, args=(sender, 200, 10_000))
    process.start()
    sender.close()
    assert [number(b) for b in receiver] == list(range(200))
    process.join(10)
    assert process.exitcode == 0
    process.close()


def test_by_descriptor() -> None:
    program = (
        "import sys, pyarrow as pa, mmflow as mf\n"
        "with mf.Receiver.of(int(sys.argv[1])) as source, mf.Sender.of(int(sys.argv[2])) as sink:\n"
        "    for b in source: sink.send(pa.RecordBatch.from_pydict({'sum': [sum(b.column(0).to_pylist())]}))\n"
    )
    to, its_source = channel()
    its_sink, back = channel()
    numbers = [its_source.fileno(), its_sink.fileno()]
    child = subprocess.Popen([sys.executable, "-c", program, *map(str, numbers)], pass_fds=numbers)
    its_source.close()
    its_sink.close()
    with to:
        for i in range(10):
            to.send(batch(i, 10))
    assert [b.column(0)[0].as_py() for b in back] == [10 * i for i in range(10)]
    assert child.wait() == 0


@pytest.mark.parametrize("context", [SPAWN, FORK], ids=["spawn", "fork"])
@pytest.mark.parametrize("end", ["exit", "kill", "raise"])
def test_producer_that_ends_without_a_word(context: Any, end: str) -> None:
    sender, receiver = channel()
    process = context.Process(target=produce, args=(sender, 5, 1000, end))
    process.start()
    try:
        # Even with the dead one's end still open here: what counts is its process.
        got = [number(receiver.receive()) for _ in range(5)]
        assert got == [0, 1, 2, 3, 4]
        expected = {
            "exit": (mf.PeerLostError, "the sender is gone: its process ended"),
            "kill": (mf.PeerLostError, "the sender is gone: its process ended"),
            "raise": (mf.EngineError, "the sender failed: ValueError: no more"),
        }[end]
        with pytest.raises(expected[0], match=expected[1]):
            receiver.receive()
    finally:
        ended(process)
        sender.close()
        receiver.close()


@pytest.mark.parametrize("context", [SPAWN, FORK], ids=["spawn", "fork"])
def test_producer_that_dies_before_it_began(context: Any) -> None:
    sender, receiver = channel()
    process = (
        context.Process(target=os._exit, args=(0,))
        if context is FORK
        else SPAWN.Process(target=dies, args=(sender,))
    )
    process.start()
    if context is FORK:
        sender.close()  # spawn tells the receiver that it was given away
    with pytest.raises(mf.PeerLostError):
        receiver.receive()
    process.join(10)
    process.close()


def dies(sender: Sender) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_producer_killed_at_any_moment() -> None:
    """Batches come whole and in order, up to the kill; then an error, never an end and never a wait."""
    source = random.Random(7)
    for rows in (10, 200_000, 200_000, 10, 50_000, 50_000):
        sender, receiver = channel(capacity=4 << 20)
        process = FORK.Process(target=produce, args=(sender, 10**6, rows))
        process.start()
        sender.close()
        killer = threading.Timer(source.uniform(0.02, 0.3), process.kill)
        killer.start()
        receive_until_lost(receiver)
        killer.join()
        receiver.close()
        ended(process)


def killed_at(name: str, nth: int, when: str) -> None:
    """Have this process killed when it calls a C function for the n-th time, or comes back from it."""
    left = nth

    def trace(frame: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == when and getattr(function, "__name__", "") == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(trace)


def produce_until_killed(sender: Sender, name: str, nth: int, when: str) -> None:
    killed_at(name, nth, when)
    produce(sender, 10**6, 500)


def consume_until_killed(receiver: Receiver, name: str, nth: int, when: str) -> None:
    killed_at(name, nth, when)
    for _ in receiver:
        pass


#: What a sender and a receiver ask of the kernel, in turn.
SENDS = ["pidfd_open", "sendmsg", "memfd_create", "write", "fcntl", "close", "recvmsg", "poll"]
RECEIVES = ["pidfd_open", "recvmsg", "fcntl", "close", "sendmsg", "poll"]


@pytest.mark.parametrize("when", ["c_call", "c_return"])
@pytest.mark.parametrize("name", SENDS)
def test_producer_killed_at_each_step(name: str, when: str) -> None:
    for nth in (1, 2, 9) if name != "pidfd_open" else (1,):
        sender, receiver = channel(capacity=20_000)
        process = FORK.Process(target=produce_until_killed, args=(sender, name, nth, when))
        process.start()
        sender.close()
        assert receive_until_lost(receiver) < 1000, f"{name} was called fewer than {nth} times"
        ended(process)
        receiver.close()


@pytest.mark.parametrize("when", ["c_call", "c_return"])
@pytest.mark.parametrize("name", RECEIVES)
def test_consumer_killed_at_each_step(name: str, when: str) -> None:
    for nth in (1, 2, 9) if name != "pidfd_open" else (1,):
        sender, receiver = channel(capacity=20_000)
        process = FORK.Process(target=consume_until_killed, args=(receiver, name, nth, when))
        process.start()
        receiver.close()
        assert send_until_lost(sender, 500) < 1000, f"{name} was called fewer than {nth} times"
        ended(process)
        sender.close()


@pytest.mark.parametrize("context", [SPAWN, FORK], ids=["spawn", "fork"])
def test_consumer_killed(context: Any) -> None:
    sender, receiver = channel(capacity=50_000)
    process = context.Process(target=consume, args=(receiver, 3))
    process.start()
    sent = send_until_lost(sender, 1000)  # full before long: it waits, and is woken
    with pytest.raises(mf.PeerLostError, match="the receiver is gone: its process ended"):
        sender.send(batch(sent))
    assert 3 <= sent < 3 + 50_000 // 8000 + 2
    ended(process)
    receiver.close()
    sender.close()


def test_consumer_killed_while_a_child_of_it_lives() -> None:
    """A process that only inherited an end keeps nobody waiting."""
    sender, receiver = channel(capacity=50_000)

    def work() -> None:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        Path(f"/proc/{os.getpid()}").stat()
        report.send(child)
        consume(receiver, 2)

    reports, report = FORK.Pipe(duplex=False)
    process = FORK.Process(target=work)
    process.start()
    sent = send_until_lost(sender, 1000)
    with pytest.raises(mf.PeerLostError, match="its process ended"):
        sender.send(batch(sent))
    os.kill(reports.recv(), signal.SIGKILL)
    ended(process)
    reports.close()
    report.close()
    receiver.close()
    sender.close()


def test_one_process_for_each_end() -> None:
    sender, receiver = channel()
    sender.send(batch(1))
    process = FORK.Process(target=uses_what_is_not_its_own, args=(sender,))
    process.start()
    process.join(10)
    assert process.exitcode == 0
    process.close()
    assert number(receiver.receive()) == 1
    sender.send(batch(2))
    assert number(receiver.receive()) == 2, "what a child lets go of is still the parent's"
    sender.close()
    receiver.close()


def uses_what_is_not_its_own(sender: Sender) -> None:
    with pytest.raises(mf.EngineError, match="used it first"):
        sender.send(batch(1))
    sender.close()


def test_without_descriptors_of_processes_the_socket_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused)
    assert host.open_own_process() is None
    sender, receiver = channel()
    process = FORK.Process(target=produce, args=(sender, 5, 1000, "kill"))
    process.start()
    sender.close()
    assert [number(receiver.receive()) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(mf.PeerLostError):
        receiver.receive()
    ended(process)
    receiver.close()


@pytest.mark.slow
def test_descriptors_and_mappings_stay_flat_over_10_000_batches() -> None:
    sender, receiver = channel()
    process = FORK.Process(target=produce, args=(sender, 10_000, 10))
    process.start()
    sender.close()
    receiver.receive()
    before, most = usage(), 0
    for i, got in enumerate(receiver):
        if i % 1000 == 0:
            assert number(got) == i + 1
            most = max(most, usage()[0])
    assert most <= before[0] + 2
    assert usage()[1] < before[1] + 20
    process.join(10)
    process.close()


# ---- regions ----------------------------------------------------------------------------------------


def write_regions(sender: Sender, path: str, first: int, last: int) -> None:
    """Rewrite rows in place, over and over, and say after each time what they are now."""
    array = mf.open_array(path, "r+", undo=False)
    with sender:
        for stamp in range(1, 60):
            array[first:last] = stamp * 10 + first % 7
            sender.send(pa.RecordBatch.from_pydict({"stamp": [stamp * 10 + first % 7]}))


def test_two_write_disjoint_regions_and_a_third_reads() -> None:
    """One array in shared memory: when a writer has said so, a reader sees its region as it said, and later or not at
    all what came behind; never what was there before, and never anything of the other writer's."""
    rows = 512 * 16
    path = f"{shared_memory_folder()}/mmflow-test-{os.getpid()}.npy"
    array = mf.create_array(path, "int64", 2 * rows)
    try:
        array[:] = 0
        array.flush()
        array.close()
        receivers, processes = [], []
        for first in (0, rows):
            sender, receiver = channel(capacity=1)  # a step at a time
            process = FORK.Process(target=write_regions, args=(sender, path, first, first + rows))
            process.start()
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        view = mf.open_array(path, "r+", undo=False)  # "r" refuses a file that changes
        for _ in range(1, 60):
            for first, receiver in zip((0, rows), receivers, strict=True):
                said = number(receiver.receive())
                seen = np.array(view[first : first + rows])
                assert seen.min() >= said, "nothing older than what was said"
                assert set(np.unique(seen) % 10) == {first % 7}, "nothing of the other writer"
                assert seen.max() <= said + 20, "at most what is under way: one sent, one being written"
        assert [r.receive() for r in receivers] == [None, None]
        assert (np.array(view[:rows]) == 590).all()
        assert (np.array(view[rows:]) == 590 + rows % 7).all()
        view.close()
        for process in processes:
            process.join(10)
            assert process.exitcode == 0
            process.close()
    finally:
        os.unlink(path)
