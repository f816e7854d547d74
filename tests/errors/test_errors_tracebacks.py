"""Tracebacks end at the user's line, in a script and in a notebook, whichever thread or process the error is from."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col


def _failing(batch: pa.RecordBatch) -> pa.RecordBatch:
    raise KeyError("price")


def _calls_failing(batch: pa.RecordBatch) -> pa.RecordBatch:
    return _failing(batch)


@mf.udf("int64", "int64")
def refused(values: pa.Array) -> pa.Array:
    raise ValueError("no such value\nand more that nobody reads")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 40,000 rows, of many shards of 10,000 bytes."""
    path = tmp_path_factory.mktemp("numbers") / "numbers.csv"
    path.write_text("n,s\n" + "".join(f"{n},text\n" for n in range(40_000)))
    return path


def _table() -> mf.Dataset:
    return mf.from_arrow({"a": [1, 2], "b": ["x", "y"]})


_WRONG: dict[str, Callable[[], Any]] = {
    "method": lambda: _table().select("c"),
    "property": lambda: _table().select(col("a") + "x").schema,
    "operator": lambda: bool(col("a") > 1),
    "function": lambda: mf.col(3),  # type: ignore[arg-type]  # the mistake
    "SQL": lambda: mf.sql("SELECT nothing FROM 'nowhere.csv'"),
    "arguments of a method": lambda: _table().limit(1, 2, 3, 4),  # type: ignore[call-arg]  # the mistake
    "arguments of a function": lambda: mf.read_csv("x.csv", delimeter=";"),  # type: ignore[call-arg]  # the mistake
    "arguments of a class": lambda: mf.Session(worker=3),  # type: ignore[call-arg]  # the mistake
    "attribute": lambda: _table().fliter,  # type: ignore[attr-defined]  # the mistake
    "name of the module": lambda: mf.read_cvs,  # type: ignore[attr-defined]  # the mistake
    "thread of a run": lambda: _table().select(x=refused(col("a"))).to_arrow(),
    "iteration": lambda: list(_table().map_batches(_failing, schema={"a": "int64"}).iter_batches()),
    "reduction of a namespace": lambda: _table().select(col("a").str.slice("x")).to_arrow(),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", _WRONG)
def test_the_traceback_ends_at_the_line_of_the_user(name: str) -> None:
    with pytest.raises((mf.MmflowError, TypeError, AttributeError)) as caught:
        _WRONG[name]()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {frame.filename for frame in frames} == {__file__}
    text = "".join(traceback.format_exception(caught.value))
    assert "direct cause" not in text
    assert "During handling" not in text


def test_mmflow_traceback_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMFLOW_TRACEBACK", "1")
    with pytest.raises(mf.PlanError) as caught:
        _table().select("c")
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 4


def test_a_bug_is_shown_whole() -> None:
    """An error that nobody raised on purpose keeps its frames: they are what a report needs."""
    broken = _table()
    broken.context = None  # type: ignore[assignment]  # the bug
    with pytest.raises(AttributeError) as caught:
        broken.explain()
    assert any("mmflow/api" in f.filename for f in traceback.extract_tb(caught.value.__traceback__))


def test_frames_of_the_user_between_those_of_mmflow_stay() -> None:
    @mf.job
    def wrong(session: mf.Session) -> mf.Dataset:
        return session.from_arrow({"a": [1]}).select("b")

    with pytest.raises(mf.PlanError) as caught:
        wrong(mf.Session())
    names = [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "wrong"
    assert len(names) == 2


@pytest.mark.parametrize("processes", [False, True])
def test_the_error_of_a_function_says_where_it_was_raised_and_from_which_rows(
    numbers: Path, processes: bool
) -> None:
    def picky(batch: pa.RecordBatch) -> pa.RecordBatch:
        return _calls_failing(batch) if 30_000 in batch.column("n").to_pylist() else batch

    rows = mf.Session(shard_size=10_000).read_csv(str(numbers))
    mapped = rows.map_batches(
        picky, schema={"n": "int64", "s": "string"}, batch_rows=100, processes=processes
    )
    with pytest.raises(mf.UserFunctionError) as caught:
        mapped.to_arrow()
    error = caught.value
    assert error.place == f"{__file__}:{_failing.__code__.co_firstlineno + 1}"
    assert error.path == str(numbers)
    assert error.row is not None
    assert 30_000 - 100 < error.row <= 30_000
    assert str(error).splitlines() == [
        "map_batches function 'picky' raised KeyError: 'price'",
        f"  at {error.place}",
        f"  in a batch of {numbers} that begins with row {error.row:,}",
    ]
    frames = [line.split(", in ")[1] for line in error.traceback.splitlines() if ", in " in line]
    assert frames == ["picky", "_calls_failing", "_failing"]


def test_the_error_of_a_function_in_an_expression_has_one_line_of_its_text(numbers: Path) -> None:
    rows = mf.Session(shard_size=10_000).read_csv(str(numbers)).filter(col("n") > 20)
    with pytest.raises(mf.UserFunctionError) as caught:
        rows.select(x=refused(col("n"))).to_arrow()
    error = caught.value
    assert error.message.splitlines()[0] == "function 'refused' raised ValueError: no such value"
    assert error.place.startswith(__file__)
    assert error.path == str(numbers)
    assert "and more that nobody reads" in error.traceback


def test_a_function_that_returns_no_array_is_told_so() -> None:
    @mf.udf("int64", "int64")
    def short(values: pa.Array) -> pa.Array:
        return values[:1]

    with pytest.raises(
        mf.UserFunctionError, match=r"^function 'short' returned an array of 1, expected a pyarrow array of 2"
    ):
        _table().select(x=short(col("a"))).to_arrow()


def test_a_notebook_shows_the_line_of_the_cell_only() -> None:
    """IPython formats tracebacks by itself, from the traceback of the error."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance(colors="nocolor")
    try:
        with capture_output() as captured:
            shell.run_cell("import mmflow as mf\nds = mf.from_arrow({'a': [1]})\nds.select('b')\n")
    finally:
        InteractiveShell.clear_instance()
    text = captured.stdout
    assert "PlanError: no column 'b'; the columns are a (at Cell In[1], line 3)" in text
    assert "mmflow/" not in text
    assert len(text.strip().splitlines()) <= 12


def test_an_error_at_the_end_of_python_is_told_as_it_is(tmp_path: Path) -> None:
    script = (
        "import os, mmflow as mf; a = mf.create_array('a.npy', 'int8', (1,)); a[0] = 1; os.remove('a.npy')"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "SinkError: can't flush a.npy: it was deleted since it was opened" in ended.stderr
    assert "ImportError" not in ended.stderr
