"""Calls of Python functions in a task of a scan: a cost that load doesn't change."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

import mmflow as mf
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.worker.row_program import RowProgram

_LINE = "2024-01-01 GET /item/{0} 200;{1}.5\n"
_QUERIES = {
    "csv": ("SELECT sum(b) AS x FROM t WHERE a LIKE '%item/4%' AND b < 40", 330),
    "text": ("SELECT count(*) AS x FROM t WHERE line LIKE '%item/4 %'", 310),
    "ndjson": ("SELECT sum(b) AS x FROM t WHERE a LIKE '%item/4%' AND b < 40", 330),
}


def _file(folder: Path, form: str) -> Path:
    path = folder / f"t.{form}"
    lines = [_LINE.format(n % 7, n % 50) for n in range(20_000)]
    if form == "ndjson":
        pairs = (line.rstrip("\n").split(";") for line in lines)
        lines = [f'{{"a": "{a}", "b": {b}}}\n' for a, b in pairs]
    path.write_text("".join(["a;b\n" if form == "csv" else "", *lines]))
    return path


def _run(path: Path, form: str, query: str, shard_size: int) -> object:
    with mf.Session(workers=1, shard_size=shard_size) as session:
        if form == "csv":
            t = session.read_csv(str(path), delimiter=";", schema={"a": "string", "b": "float64"})
        elif form == "text":
            t = session.read_text(str(path))
        else:
            t = session.read_ndjson(str(path), schema={"a": "string", "b": "float64"})
        return session.sql(query, t=t).to_arrow().to_pylist()


def _calls(path: Path, form: str, query: str, shard_size: int) -> int:
    """Return the Python functions that workers call in a run."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    threading.setprofile(count)
    try:
        _run(path, form, query, shard_size)
    finally:
        threading.setprofile(None)
    return calls


@pytest.mark.skipif(sys.gettrace() is not None, reason="counts calls by the same hook as coverage")
@pytest.mark.parametrize("form", list(_QUERIES))
def test_a_further_task_costs_few_calls(tmp_path: Path, form: str) -> None:
    path = _file(tmp_path, form)
    (query, most), size = _QUERIES[form], path.stat().st_size
    _calls(path, form, query, -(-size // 4))  # what is found out about a file is known from here on
    few, many = (_calls(path, form, query, -(-size // tasks)) for tasks in (4, 34))
    assert few > 0
    per_task = (many - few) / 30
    assert per_task <= most


def test_tasks_of_a_stage_share_decoders_and_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    for kind in (KernelDecoder, RowProgram):

        def noted(
            self: object, *args: object, _init: object = kind.__init__, _name: str = kind.__name__
        ) -> None:
            if threading.current_thread() is not threading.main_thread():
                made.append(_name)
            _init(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(kind, "__init__", noted)
    path = _file(tmp_path, "csv")
    query = _QUERIES["csv"][0]
    whole = _run(path, "csv", query, 1 << 30)
    made.clear()
    assert _run(path, "csv", query, path.stat().st_size // 20) == whole
    assert sorted(made) == ["KernelDecoder", "RowProgram"]


def test_a_stage_has_decoders_of_its_own(tmp_path: Path) -> None:
    """The same columns of another file, with types of their own, in the same thread."""
    path = _file(tmp_path, "csv")
    with mf.Session(workers=1, shard_size=path.stat().st_size // 8) as session:
        numbers = session.read_csv(str(path), delimiter=";", schema={"a": "string", "b": "float64"})
        texts = session.read_csv(str(path), delimiter=";", schema={"a": "string", "b": "string"})
        query = """SELECT (SELECT sum(b) FROM n WHERE a LIKE '%4%') AS n,
            (SELECT count(*) FROM s WHERE a LIKE '%4%' AND b = '7.5') AS s"""
        (row,) = session.sql(query, n=numbers, s=texts).to_arrow().to_pylist()
    lines = [(n % 7, n % 50 + 0.5) for n in range(20_000)]
    assert row["n"] == sum(b for _, b in lines)  # the date holds a 4
    assert row["s"] == sum(b == 7.5 for _, b in lines)
