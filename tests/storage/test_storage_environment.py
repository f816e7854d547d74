"""Stores of S3 follow the environment, which notebooks change after a first try."""

from __future__ import annotations

import pytest

from mmflow.storage.object_store import open_store


@pytest.mark.unit
def test_a_store_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    first = open_store("s3://bucket/a")
    assert open_store("s3://bucket/b") is first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert open_store("s3://bucket/a") is not first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert open_store("s3://bucket/a") is first
