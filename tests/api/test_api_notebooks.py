"""Displays in a real kernel: datasets, progress and its ends, with ipywidgets and without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
import os, signal, sys, threading, time
sys.modules["ipywidgets"] = None  # not installed
import mmflow as mf
lines = "".join(f"{n},<b>name {n}</b>,{n / 7}\\n" for n in range(20_000))
open("t.csv", "w").write("number,name,share\\n" + lines)
session = mf.Session(shard_size="64KiB", workers=1)

def slow(batch):
    time.sleep(0.07)
    with open("calls", "a") as calls:
        calls.write(".")
    return batch

def interrupt(began):
    while os.path.getsize("calls") < began + 10:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

def failing(batch):
    time.sleep(0.07)
    if batch["number"][0].as_py() > 13000:
        raise ValueError("no such luck")
    return batch

def run(function):
    ds = session.read_csv("t.csv")
    return ds.map_batches(function, schema=ds.schema).to_arrow().num_rows
"""

CELLS = {
    "dataset": "mf.read_csv('t.csv')",
    "wide": "mf.from_arrow({f'c{n}': [n] for n in range(200)})",
    "query": "mf.sql(\"SELECT number % 2 AS k, count(*) AS n FROM 't.csv' GROUP BY 1\")",
    "show": "mf.read_csv('t.csv').show(2)",
    "done": "run(slow)",
    "failed": "run(failing)",
    "interrupted": "threading.Thread(target=interrupt, args=[os.path.getsize('calls')]).start()\nrun(slow)",
    "stopped": "for batch in session.read_csv('t.csv').map_batches(slow).iter_batches():\n"
    "    if batch['number'][0].as_py() > 13000:\n        break\ndel batch",
    "widgets": "del sys.modules['ipywidgets']\nrun(slow)",
    "silent": "mf.progress(False)\nrun(slow)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Return the outputs of each cell, by its name."""
    folder: Path = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, *CELLS.values())]
    NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    assert notebook.cells[0].outputs == []
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells[1:], strict=True)}


def displayed(outputs: list[Any]) -> list[Any]:
    return [o.data for o in outputs if o.output_type == "display_data"]


def test_a_dataset_shows_its_first_rows(outputs: dict[str, list[Any]]) -> None:
    (shown,) = outputs["dataset"]
    page, text = shown.data["text/html"], shown.data["text/plain"]
    assert "int64</small>" in page
    assert ">number<br>" in page
    assert "&lt;b&gt;name 9&lt;/b&gt;" in page
    assert "name 10" not in page
    assert "<b>" not in page
    assert "first 10 rows; 3 columns" in page
    assert "overflow-x:auto" in page
    assert text == "Dataset(number: int64, name: string, share: float64)"
    assert "… 100 more …" in outputs["wide"][0].data["text/html"]


def test_a_query_shows_its_columns_and_is_not_run(outputs: dict[str, list[Any]]) -> None:
    (shown,) = outputs["query"]
    assert "<td" not in shown.data["text/html"]
    assert ">k<br>" in shown.data["text/html"]
    assert "show() prints the first ones" in shown.data["text/html"]


def test_show_prints_a_table(outputs: dict[str, list[Any]]) -> None:
    (shown,) = outputs["show"]
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.text).splitlines()  # ipykernel sets FORCE_COLOR
    assert lines[0].split() == ["number", "name", "share"]
    assert lines[-1] == "(2 rows)"


@pytest.mark.parametrize("name", ["done", "widgets"])
def test_progress_ends_as_done(outputs: dict[str, list[Any]], name: str) -> None:
    (bar,) = displayed(outputs[name])
    assert re.fullmatch(r"done in [0-9.]+ m?s, [0-9.]+ [KM]iB, 20,000 rows", bar["text/plain"])
    assert "width:100.0%" in bar["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in bar  # a saved notebook keeps the end
    (result,) = [o.data["text/plain"] for o in outputs[name] if o.output_type == "execute_result"]
    assert result == "20000"


@pytest.mark.parametrize("name", ["failed", "interrupted", "stopped"])
def test_progress_ends_as_the_run_did(outputs: dict[str, list[Any]], name: str) -> None:
    (bar,) = displayed(outputs[name])
    # An interruption between two batches, in whoever takes them, only closes the run.
    ended = "(interrupted|stopped)" if name == "interrupted" else name
    assert re.match(rf"{ended} after [0-9.]+ m?s, at [0-9]+%, ", bar["text/plain"])
    assert "at 100%" not in bar["text/plain"]
    errors = [o.ename for o in outputs[name] if o.output_type == "error"]
    assert (
        errors == {"failed": ["UserFunctionError"], "interrupted": ["KeyboardInterrupt"], "stopped": []}[name]
    )


def test_progress_can_be_turned_off(outputs: dict[str, list[Any]]) -> None:
    assert [o.output_type for o in outputs["silent"]] == ["execute_result"]
