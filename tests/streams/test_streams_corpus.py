"""Odd files of the corpus, read from pipes: the same rows, or the same error, as from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from tests.corpus.case import Case, Repeated
from tests.corpus.test_corpus import _CASES, _same
from tests.streams.pipes import produced

_AREAS = ("plain", "values", "structure", "encodings", "dialects", "json")
#: Formats that are read from their start to their end.
_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".txt": "text",
    ".log": "text",
}
_MOST = 60  # of each area: all of them take as long as the rest of the tests


def _in_order(case: Case) -> bool:
    format = case.options.get("format", _FORMATS.get(Path(case.file).suffix, ""))
    if not isinstance(case.data, bytes | Repeated) or format not in ("csv", "ndjson", "text"):
        return False
    start = case.data.head if isinstance(case.data, Repeated) else case.data
    if (
        format == "csv" and b"," not in start and "delimiter" not in case.options
    ):  # the name of a file has it found
        return False
    return not {"skip_footer", "dialect", "hive", "schema_of"} & set(case.options) and case.rows is not None


def _chosen() -> list[str]:
    chosen: list[str] = []
    for area in _AREAS:
        chosen += [n for n, case in _CASES.items() if n.startswith(f"{area}:") and _in_order(case)][:_MOST]
    return chosen


@pytest.fixture(scope="module")
def session() -> mf.Session:
    return mf.Session(shard_size=4096, workers=2)


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@pytest.mark.parametrize("name", _chosen())
def test_an_odd_file_from_a_pipe(name: str, tmp_path: Path, session: mf.Session) -> None:
    case = _CASES[name]
    path, expected = case.write(tmp_path, large=isinstance(case.data, Repeated))
    options: dict[str, Any] = {"format": _FORMATS.get(Path(case.file).suffix), **case.options}
    if case.file.endswith(".tsv"):
        options.setdefault("delimiter", "\t")
    with produced(Path(path).read_bytes()) as pipe:
        read = session.read(pipe.path, **options)
        rows = (read.select(*case.columns) if case.columns else read).to_arrow().to_pylist()
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert all(_same(row[k], wanted[k]) or k == "_file" for k in wanted), (row, wanted)
