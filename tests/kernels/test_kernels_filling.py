"""The kernel that fills memory from a pipe gives what `PolledReader.read_some` gives, in one call."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from mmflow.streams.polled_reader import PolledReader, StoppedReading

_SOON = 0.01


@pytest.fixture
def pipe() -> Iterator[tuple[PolledReader, int]]:
    descriptor, end = os.pipe()
    reader = PolledReader(descriptor)
    yield reader, end
    reader.release()


def test_bytes_are_those_of_the_pipe(pipe: tuple[PolledReader, int]) -> None:
    reader, end = pipe
    data = os.urandom(3_000_000)

    def produce() -> None:
        with open(end, "wb") as file:
            file.write(data)

    producer = threading.Thread(target=produce)
    producer.start()
    found, target = b"", memoryview(bytearray(1 << 20))
    while got := reader.fill(target, 60.0, came_before=False):
        # It is full, unless the pipe has ended.
        assert got == len(target) or len(found) + got == len(data)
        found += bytes(target[:got])
    producer.join()
    assert got == 0
    assert found == data


def test_it_returns_what_came_when_its_time_is_over(pipe: tuple[PolledReader, int]) -> None:
    reader, end = pipe
    target = memoryview(bytearray(100))
    os.write(end, b"abc")
    assert reader.fill(target, _SOON, came_before=False) == 3
    assert bytes(target[:3]) == b"abc"
    assert reader.fill(target, _SOON, came_before=True) is None
    reader.unread(b"xy")
    assert reader.fill(target, _SOON, came_before=True) == 2
    os.close(end)
    assert reader.fill(target, _SOON, came_before=False) == 0


def test_it_stops_when_it_is_told(pipe: tuple[PolledReader, int]) -> None:
    reader, end = pipe
    reader.stop()
    with pytest.raises(StoppedReading):
        reader.fill(memoryview(bytearray(9)), 60.0, came_before=False)
    os.close(end)


def test_what_cannot_be_read_is_an_error_of_the_system() -> None:
    reader = PolledReader(os.open(os.devnull, os.O_WRONLY))
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.fill(memoryview(bytearray(9)), 60.0, came_before=False)
    reader.release()
