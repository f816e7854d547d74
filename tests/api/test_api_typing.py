"""Type checkers know what calls mean: basedpyright finds each wrong call of a file, and no right one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mmflow as mf
from tests.api.functions_stub import stub

_PACKAGE = Path(mf.__file__).parent


def test_the_stub_of_functions_is_that_of_the_installed_datafusion() -> None:
    assert (_PACKAGE / "api" / "functions.pyi").read_text() == stub(), "run tests/api/functions_stub.py"


def test_the_package_says_that_it_is_typed() -> None:
    assert (_PACKAGE / "py.typed").is_file()


def test_basedpyright_finds_every_wrong_call_and_no_right_one(tmp_path: Path) -> None:
    source = (Path(__file__).parent / "typed_calls.txt").read_text()
    (tmp_path / "calls.py").write_text(source)
    config = {"typeCheckingMode": "standard", "include": ["calls.py"], "extraPaths": [str(_PACKAGE.parent)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "-p",
        str(tmp_path),
        "--pythonpath",
        sys.executable,
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    found = [d for d in json.loads(run.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    lines = {d["range"]["start"]["line"]: d["message"] for d in found}
    wrong = {n for n, line in enumerate(source.splitlines()) if line.endswith("# wrong")}
    assert {source.splitlines()[n]: lines[n] for n in set(lines) - wrong} == {}
    assert [source.splitlines()[n] for n in sorted(wrong - set(lines))] == []
