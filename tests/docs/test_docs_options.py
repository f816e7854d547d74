"""The table of options in docs/formats.md: each option of the registry, where it is, and options that others have."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.csv
import pyarrow.json
import pytest

import tests.corpus
from mmflow.formats import FORMATS

ROOT = Path(__file__).parents[2]


def _rows() -> list[list[str]]:
    text = (ROOT / "docs/formats.md").read_text().partition("\n## Options beside other tools\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_option_of_the_registry_is_in_the_table() -> None:
    found = {row[0]: set(row[1].split(", ")) for row in _rows()}
    options = set().union(*FORMATS.values())
    assert found == {o: {name for name, own in FORMATS.items() if o in own} for o in options}


def test_every_option_is_in_the_corpus_or_in_a_test_of_its_format() -> None:
    used: set[str] = set()
    for module in pkgutil.iter_modules(tests.corpus.__path__):
        if module.name.startswith("cases_"):
            for case in importlib.import_module(f"tests.corpus.{module.name}").CASES:
                used |= set(case.options)
    texts = "".join(path.read_text() for path in (ROOT / "tests/formats").glob("test_*.py"))
    # Spreadsheets and archives are not written by hand: their options have tests, and no bytes in the corpus.
    rest = set().union(*FORMATS.values()) - used
    assert rest <= {"array", "sheet"}
    assert all(re.search(rf"\b{option}=", texts) for option in rest)


def _parameters(*functions: Callable[..., Any]) -> set[str]:
    return {name for function in functions for name in inspect.signature(function).parameters}


def _of_duckdb() -> set[str]:
    query = (
        "SELECT unnest(parameters) FROM duckdb_functions() WHERE function_name IN ('read_csv', 'read_json')"
    )
    return {name for (name,) in duckdb.connect().sql(query).fetchall()}


def _of_ray() -> set[str]:
    """Return the options of pyarrow, which Ray Data passes on (`arrow_csv_args`)."""
    csv, json = pyarrow.csv, pyarrow.json
    made = csv.ReadOptions(), csv.ParseOptions(), csv.ConvertOptions(), json.ParseOptions()
    return {name for options in made for name in dir(options) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("column", "known"),
    [
        (2, _of_duckdb),
        (3, lambda: _parameters(pl.scan_csv, pl.read_csv, pl.read_excel)),
        (4, lambda: _parameters(pd.read_csv, pd.read_fwf, pd.read_json, pd.read_excel)),
        (5, _of_ray),
    ],
    ids=["duckdb", "polars", "pandas", "ray"],
)
def test_options_of_others_exist(column: int, known: Callable[[], set[str]]) -> None:
    cells = [row[column] for row in _rows()]
    assert all(cell == "–" or "`" in cell for cell in cells)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 8
    assert named <= known()
