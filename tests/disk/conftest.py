"""A disk that forgets and fails: empty for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.disk.disk import Disk, forgetful_disk


@pytest.fixture(scope="module")
def _mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with forgetful_disk(tmp_path_factory.mktemp("mounted") / "disk") as mounted:
        yield mounted


@pytest.fixture
def disk(_mounted: Disk) -> Iterator[Disk]:
    yield _mounted
    _mounted.format()
