"""Movement of a task, from one look to the next: only what happened between the two counts, not how long it took."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.plan.stages import Result, Stage
from mmflow.plan.tasks import Task, TaskId
from mmflow.worker.movement import Observer, Stall, running, steps_of, waits_for
from tests.waiting import wait_until

RUN = "movement"
TASK = Task(TaskId(0, 3), Stage(0, (), (), Result(), pa.schema([])), 1, run=RUN)


class Worker:
    """A thread with a task: it does what it is asked to do, and else waits for a lock."""

    def __init__(self) -> None:
        self.rows = 0
        self.rows_given: Iterator[int] = iter(())
        self._asked: Callable[[], object] | None = None
        self._begin, self._end = threading.Semaphore(0), threading.Semaphore(0)
        self._observer = Observer()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.do(int)

    def _serve(self) -> None:
        with running(TASK, lambda: self.rows):
            while self._begin.acquire() and self._asked is not None:
                self._asked()
                self._end.release()

    def do(self, what: Callable[[], object]) -> None:
        self._asked = what
        self._begin.release()
        self._end.acquire()

    def close(self) -> None:
        self._asked = None
        self._begin.release()
        self._thread.join()

    def look(self) -> Stall | None:
        """Return what it does if it has not moved since the last look."""
        return self._observer.look(RUN, 1e-9)[TASK.id, TASK.attempt]

    def moves_by(self, what: Callable[[], object]) -> bool:
        # What other tests have left behind in this process may move for a while.
        wait_until(lambda: self.look() is not None, "a stall")
        self.do(what)
        return self.look() is None


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def compute() -> None:
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass


def test_a_thread_that_waits_is_named(worker: Worker) -> None:
    wait_until(lambda: worker.look() is not None, "a stall")
    wait_until(lambda: (stall := worker.look()) is not None and " in _serve" in stall.doing, "its calls")
    stall = worker.look()
    assert stall is not None
    assert f"{__file__}:" in stall.doing
    assert "which is sleeping" in stall.place


def test_rows_move(worker: Worker) -> None:
    def row() -> None:
        worker.rows += 1

    assert worker.moves_by(row)


def test_processor_time_moves(worker: Worker) -> None:
    assert worker.moves_by(compute)


def test_bytes_move(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(16 << 20))
    assert worker.moves_by(path.read_bytes)


_COMPUTE_FOR_EACH_LINE = """
import sys, time
for line in sys.stdin:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    print(flush=True)
"""


def test_a_process_that_a_task_waits_for_moves_it(worker: Worker) -> None:
    answered, looked = threading.Event(), threading.Event()
    command = [sys.executable, "-c", _COMPUTE_FOR_EACH_LINE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        given, made = child.stdin, child.stdout
        assert given is not None
        assert made is not None

        def wait() -> None:
            with waits_for(child.pid, lambda: "what the child does"):
                made.read(1)
                answered.set()
                looked.wait(60)

        task = threading.Thread(target=worker.do, args=(wait,))
        task.start()
        try:
            wait_until(lambda: (stall := worker.look()) and stall.doing == "what the child does", "a stall")
            stall = worker.look()
            given.write(b"\n")
            assert answered.wait(60)
            moves = worker.look() is None
        finally:
            given.close()
            looked.set()
            task.join()
    assert moves
    assert stall is not None
    assert f"process {child.pid}," in stall.place


def test_rows_that_a_function_is_called_with_move(worker: Worker) -> None:
    left = list[int]()

    def step() -> None:
        if not left:
            left.extend(range(9))
            worker.rows_given = steps_of(left)
        next(worker.rows_given)

    worker.do(step)
    assert worker.moves_by(step)


def test_a_connection_that_carries_bytes_moves(worker: Worker) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as there, listener.accept()[0] as here:
        wait_until(lambda: worker.look() is not None, "a stall")
        for end in (there, here):  # a kernel confirms what has arrived
            end.sendall(bytes(1 << 18))
            (here if end is there else there).recv(1 << 18, socket.MSG_WAITALL)
        assert worker.look() is None
