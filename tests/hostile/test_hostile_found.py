"""Inputs that the fuzzer of readers found (`fuzz/readers`, docs/reliability.md): each gives rows or an error of mmflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.readers.run import Worker
from mmflow.errors import SinkError
from mmflow.sinks.commit import manifest

_FOUND = sorted((Path(__file__).parent / "found").iterdir())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One process for all of them: one that dies fails those behind it, too."""
    made = Worker(str(tmp_path_factory.mktemp("readers")))
    yield made
    made.close()


@pytest.mark.parametrize("path", _FOUND, ids=lambda path: path.name)
def test_what_was_found_stays_mended(worker: Worker, path: Path) -> None:
    target = path.name.partition("-")[0]
    wrong, said = worker.check(target, path.read_bytes())
    assert wrong is None
    assert said


def test_a_manifest_that_names_files_outside_of_its_folder_is_refused() -> None:
    made = {"mmflow_manifest": 1, "run": "r", "partition_by": [], "schema": [], "files": []}
    assert manifest.parse(json.dumps(made).encode(), "m") == made
    for path in ("../victim.csv", "/etc/passwd", "a/../../b.csv", "", "a\0b", 7, None):
        outside = {**made, "files": [{"path": path, "rows": 1, "bytes": 1, "run": "r"}]}
        with pytest.raises(SinkError, match="'files' has a wrong value"):
            manifest.parse(json.dumps(outside).encode(), "m")
