"""The notebooks of docs/notebooks run without a screen, and show what they say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[tuple[str, str]]]:
    """Return the sources and the outputs, as plain text, of the cells of each notebook; all notebooks run at once."""
    folder = tmp_path_factory.mktemp("notebooks")
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}

    async def execute() -> None:
        clients = (
            NotebookClient(
                n, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
            )
            for n in notebooks.values()
        )
        await asyncio.gather(*(client.async_execute() for client in clients))

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)  # the width of a notebook
        asyncio.run(execute())
    assert not list(folder.iterdir())  # they leave nothing behind
    return {
        name: [(c.source, "".join(map(_text, c.outputs))) for c in n.cells if c.cell_type == "code"]
        for name, n in notebooks.items()
    }


def _text(output: Any) -> str:
    match output.output_type:
        case "stream":
            found = output.text
        case "error":
            found = "\n".join(output.traceback) + "\n"
        case _:
            found = output.data["text/plain"] + "\n"
    return re.sub(r"\x1b\[[0-9;]*m", "", found)


def shown(cells: list[tuple[str, str]], source: str) -> str:
    """Return the outputs of the cells whose source has a text."""
    found = [output for text, output in cells if source in text]
    assert found, source
    return "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "requests = mf.read_csv",
            "Dataset(time: timestamp, host: string, page: string, status: int64, ms: float64)",
        ),
        ("slow.show()", "(7 rows)"),
        ("our fault", "our fault   1031     13"),
        ("print(slow.explain())", "stage 0: scan requests.csv, filter, project, partial aggregate"),
        ("SUMMARIZE", "status       int64        200"),
        ("iter_batches", "100000"),
        ("partition_by", "(100000, ['status=200', 'status=404', 'status=500'])"),
        ('by_status").filter', "1031"),
        (".take(", "'host': 'host-4.example.org'"),
        ("def rounded", ", 100,000 rows"),
        ('"hots"', "PlanError: no column 'hots'; did you mean 'host'?"),
        ('== "404"', "can't compare column 'status' of type int64 with '404'"),
        ("400 and", "write & | ~ for and, or, not"),
        ("SELECT hosts", "there is no column hosts; did you mean requests.host?"),
        ("1 / 0", "raised ZeroDivisionError: division by zero\n  at Cell In["),
        ('dirty.csv")', "dirty.csv, line 60,000, "),
    ],
)
def test_the_tour_shows_what_it_says(
    outputs: Mapping[str, list[tuple[str, str]]], source: str, expected: str
) -> None:
    assert expected in shown(outputs["tour"], source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("!mmflow inspect", "orders.csv: csv, 1 file, "),
        ("orders.agg(", "orders.csv, line 1,001, record 999, byte offset 27,435: column 'quantity'"),
        ("nulls.agg(", "60000       59940  59940"),
        ("skipping.agg(", "59910       59910  59910"),
        ("skipping.agg(", "90 bad records were dropped or given nulls (of 60,000 read)"),
        ("bad_records", "(90, 'quarantine.arrow')"),
        ("bad.group_by", "not a value of type date32 (value '31.11.2026')"),
        ("bad.select", " 1001  quantity  999;2026-11-01;c70;three;80.69"),
        ("repaired.agg", "2026-11-31"),
        ("replace_all", "59940  59940"),
        ("is_null()).select", "server restarted"),
        ("missing=", "   28     29985    1232     2182"),
        ("--name shop", "error: map_batches function 'named' raised KeyError: '/shop/39'"),
        ("!mmflow status", "state      failed"),
        ("--name shop", "wrote 5 rows in 1 file"),
        ("--name shop", "run shop is done already"),
        ('report.csv").show', "product 31      2284     112"),
        ("restored", "True"),
        ("!mmflow list", "shop          done   shop"),
    ],
)
def test_dirty_logs_shows_what_it_says(
    outputs: Mapping[str, list[tuple[str, str]]], source: str, expected: str
) -> None:
    assert expected in shown(outputs["dirty_logs"], source)


def test_errors_are_short_and_end_at_the_cell(
    outputs: Mapping[str, list[tuple[str, str]]],
) -> None:
    cells = [cell for notebook in outputs.values() for cell in notebook]
    errors = [
        o for source, o in cells if "Traceback (most recent call last)" in o and "!mmflow" not in source
    ]
    assert errors
    assert all(error.count("\nCell In[") == 1 for error in errors)  # the user's line alone
    assert all("mmflow/" not in error for error in errors)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
