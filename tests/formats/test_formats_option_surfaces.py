"""Options of formats mean the same in Python, SQL, TOML and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from mmflow.cli.main import main

_GERMAN = "Stand 2024\nTag;Betrag;Ort\n31.01.2024;1.234,5;NA\n01.02.2024;-0,25;K\xf6ln\n# Ende\n".encode(
    "latin-1"
)
#: File; options as Python, SQL, TOML and `--opt` have them; the rows as JSON.
_CASES: dict[str, tuple[str, bytes, dict[str, Any], str, str, list[str], list[Any]]] = {
    "a German CSV": (
        "t.csv",
        _GERMAN,
        {"encoding": "latin-1", "delimiter": ";", "skip_rows": 1, "decimal": ",", "thousands": ".",
         "date_format": "%d.%m.%Y", "null": ["NA"], "comment": "#"},
        ("encoding => 'latin-1', delimiter => ';', skip_rows => 1, decimal => ',', thousands => '.', "
        "date_format => '%d.%m.%Y', null => ['NA'], comment => '#'"),
        ("encoding = 'latin-1'\ndelimiter = ';'\nskip_rows = 1\ndecimal = ','\nthousands = '.'\n"
        "date_format = '%d.%m.%Y'\nnull = ['NA']\ncomment = '#'\n"),
        ["encoding=latin-1", "delimiter=;", "skip_rows=1", "decimal=,", "thousands=.", "date_format=%d.%m.%Y",
         'null=["NA"]', "comment=#"],
        [["2024-01-31", 1234.5, None], ["2024-02-01", -0.25, "K\xf6ln"]],
    ),
    "ragged rows, names and types of some columns": (
        "t.csv",
        b"1;x\n2;y;9\n007;z;8\n",
        {"delimiter": ";", "header": False, "names": ["a", "b", "c"], "ragged": "null",
         "schema_overrides": {"a": "string"}},
        ("delimiter => ';', header => false, names => ['a', 'b', 'c'], ragged => 'null', "
        "schema_overrides => {'a': 'string'}"),
        ("delimiter = ';'\nheader = false\nnames = ['a', 'b', 'c']\nragged = 'null'\n"
        "schema_overrides = { a = 'string' }\n"),
        ["delimiter=;", "header=false", "names=a,b,c", "ragged=null", 'schema_overrides={"a": "string"}'],
        [["1", "x", None], ["2", "y", 9], ["007", "z", 8]],
    ),
    "records of a JSON document": (
        "t.json",
        b'{"data": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}',
        {"json_path": "$.data[*]"},
        "json_path => '$.data[*]'",
        "json_path = '$.data[*]'\n",
        ["json_path=$.data[*]"],
        [[1, "x"], [2, "y"]],
    ),
    "groups of a pattern": (
        "t.log",
        b"GET 200\nPUT 404\n",
        {"pattern": r"(?P<verb>\w+) (?P<status>\d+)"},
        r"pattern => '(?P<verb>\w+) (?P<status>\d+)'",
        "pattern = '(?P<verb>\\w+) (?P<status>\\d+)'\n",
        [r"pattern=(?P<verb>\w+) (?P<status>\d+)"],
        [["GET", 200], ["PUT", 404]],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@pytest.mark.parametrize("name", _CASES)
def test_an_option_means_the_same_everywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data, options, sql, toml, flags, rows = _CASES[name]
    monkeypatch.chdir(tmp_path)
    Path(file).write_bytes(data)

    def as_json(dataset: mf.Dataset) -> Any:
        return json.loads(json.dumps([list(row.values()) for row in dataset.to_dicts()], default=str))

    assert as_json(mf.read(file, **options)) == rows
    assert as_json(mf.sql(f"FROM read('{file}', {sql})")) == rows
    Path("mmflow.toml").write_text(f"[sources.t]\npath = '{file}'\n{toml}")
    for command in (
        ["sql", "--config", "mmflow.toml", "FROM t", "--format", "ndjson"],
        ["sql", "FROM t", "--table", f"t={file}", "--format", "ndjson"]
        + [a for flag in flags for a in ("--opt", f"t.{flag}")],
    ):
        assert main(command) == 0
        printed = [list(json.loads(line).values()) for line in capsys.readouterr().out.splitlines()]
        assert printed == rows, command
