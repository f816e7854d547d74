"""Codes of errors: each is raised, listed and explained, and is shown where a script looks for it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmflow as mf
from mmflow import errors
from mmflow.cli.main import main
from mmflow.error_codes import CODES, OF_CLASS, USAGE

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"MMF-[A-Z]{3}-[0-9]{3}")
TABLE = ROOT / "mmflow" / "error_codes.py"


def _raised() -> Iterator[str]:
    """Yield the codes in the package's own code, without its documentation and the table."""
    for path in (ROOT / "mmflow").rglob("*.py"):
        text = path.read_text()
        if path == TABLE or "MMF-" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                yield node.value


def test_each_code_is_raised_and_each_one_that_is_raised_is_in_the_table() -> None:
    assert {*_raised(), *OF_CLASS.values(), USAGE} == CODES.keys()


def test_the_troubleshooting_page_explains_each_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    explained = [
        code for line in page.splitlines() if line.startswith("Code: ") for code in CODE.findall(line)
    ]
    assert sorted(explained) == sorted(CODES)


def test_each_class_has_a_code() -> None:
    classes = {
        name for name in errors.__all__ if isinstance(cls := getattr(errors, name), type)
        if issubclass(cls, mf.MmflowError)
    }  # fmt: skip
    assert classes == OF_CLASS.keys()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM 'none.csv'", "MMF-SRC-002"),
        ("SELECT nope FROM 'a.csv'", "MMF-PLN-002"),
        ("SELECT * FROM nope", "MMF-PLN-006"),
        ("SELECT CAST(b AS bigint) FROM 'a.csv'", "MMF-PLN-003"),
        ("SELECT uper(b) FROM 'a.csv'", "MMF-PLN-001"),
        ("SELECT * FROM 'odd.xyz'", "MMF-SRC-003"),
    ],
)
def test_queries_that_fail_have_the_code_of_their_kind(
    query: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("a,b\n1,x\n")
    Path("odd.xyz").write_bytes(bytes(range(256)))
    with pytest.raises(mf.MmflowError) as caught:
        mf.sql(query).to_arrow()
    assert caught.value.code == code
    assert main(["sql", query]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"code:  {code}"


def test_records_differ_by_whether_their_structure_or_a_value_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\nx,3\n")
    with pytest.raises(mf.BadRecordError) as value:
        mf.read_csv(path, schema={"a": "int64", "b": "int64"}).to_arrow()
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(mf.BadRecordError) as structure:
        mf.read_csv(path, schema={"a": "int64", "b": "int64"}).to_arrow()
    assert (value.value.code, structure.value.code) == ("MMF-REC-002", "MMF-REC-001")


def test_a_code_goes_with_an_error_of_a_function_to_its_batch() -> None:
    error = errors.UserFunctionError("can't be sent", function="f", code="MMF-FUN-002")
    assert error.from_batch("a.csv", 3).code == "MMF-FUN-002"


def test_errors_of_a_command_with_json_are_an_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "none.csv"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    error = json.loads(err.splitlines()[-1])["error"]
    assert (error["class"], error["code"]) == ("SourceError", "MMF-SRC-002")
    assert error["message"].startswith("no such file or folder")
