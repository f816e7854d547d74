"""Tables on whatever stands in for standard output: a notebook's stream, text in memory, nothing, something closed."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from typing import Any

import pytest

import mmflow as mf

SHOWN = """\
    a  b
int64  string
─────  ──────
    1  x
    2  ü
    3  NULL
(3 rows)
"""


class NotebookStream(io.TextIOBase):
    """The interface of ipykernel 7.4's OutStream: text only, no `buffer`, a `fileno` that raises."""

    encoding = "UTF-8"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")

    def isatty(self) -> bool:
        return False

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        self.texts.append(text)
        return len(text)


class ZMQInteractiveShell:
    """By this name, and `get_ipython`, libraries know that they run in a notebook."""


@pytest.fixture
def shown() -> mf.Dataset:
    return mf.from_arrow({"a": [1, 2, 3], "b": ["x", "ü", None]})


def test_show_in_a_notebook(monkeypatch: pytest.MonkeyPatch, shown: mf.Dataset) -> None:
    stream = NotebookStream()
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    shown.show()
    assert "".join(stream.texts) == SHOWN


def test_show_into_text_in_memory(monkeypatch: pytest.MonkeyPatch, shown: mf.Dataset) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    shown.show(3)
    assert stream.getvalue() == SHOWN


def test_show_where_there_is_no_standard_output(monkeypatch: pytest.MonkeyPatch, shown: mf.Dataset) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    shown.show()


@pytest.mark.parametrize("stream", [io.StringIO(), io.TextIOWrapper(io.BytesIO())])
def test_show_on_a_closed_stream_is_an_error(
    monkeypatch: pytest.MonkeyPatch, shown: mf.Dataset, stream: Any
) -> None:
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(mf.SinkError, match="standard output is closed"):
        shown.show()


def test_a_text_stream_that_lacks_a_character_gets_an_escape(
    monkeypatch: pytest.MonkeyPatch, shown: mf.Dataset
) -> None:
    class Ascii(NotebookStream):
        encoding = "ascii"

    stream = Ascii()
    monkeypatch.setattr(sys, "stdout", stream)
    shown.select("b").show()
    assert "\\xfc" in "".join(stream.texts)


def test_functions_in_processes_need_no_standard_error() -> None:
    script = """
import io, sys
import mmflow as mf
def same(batch):
    return batch
class Closed(io.StringIO):
    def fileno(self):
        raise io.UnsupportedOperation("fileno")
ds = mf.from_arrow({"a": [1, 2]})
for stream in (None, Closed()):
    sys.stderr = sys.__stderr__ = stream
    print(ds.map_batches(same, schema=ds.schema, processes=True).count())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "2\n2\n", run.stderr
