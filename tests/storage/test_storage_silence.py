"""Requests to object stores that are not answered are named; those that are answered are not."""

from __future__ import annotations

import warnings

import pytest

import mmflow as mf
from mmflow.storage import object_store, silence
from tests.waiting import wait_until


def test_a_request_without_an_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(silence, "_SILENT_SECONDS", 0.05)
    requests = silence._Requests()
    monkeypatch.setattr(object_store, "request", requests)
    url = "memory://silence/x.csv"
    store = object_store.open_store(url)
    assert isinstance(store, object_store.FsspecStore)
    store.write(url, b"n\n1\n")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", mf.SilentServerWarning)

        def named() -> bool:
            return any(
                f"{url}: a request (read) has not been answered for 0 s" in str(w.message) for w in said
            )

        def answer(*_: object, **__: object) -> bytes:
            wait_until(named, "a warning")
            return b""

        monkeypatch.setattr(store.fs, "cat_file", answer)
        assert store.read(url) == b""
        before = len(said)
        wait_until(lambda: requests._watch is not None and not requests._watch.running, "the thread to end")
        assert len(said) == before
    monkeypatch.undo()
    assert store.read(url) == b"n\n1\n"
