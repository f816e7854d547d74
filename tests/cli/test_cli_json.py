"""Output of commands with --json, compared with the schemas in the package."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from mmflow.cli.main import main
from mmflow.cli.parsing import Command, Group
from mmflow.cli.tree import command_line

ROOT = Path(__file__).parents[2]
SCHEMAS = json.loads((ROOT / "mmflow" / "cli" / "schemas.json").read_text())
JOB = """
import mmflow as mf

@mf.job
def keep(session, *, source: str = "a.csv"):
    return session.read_csv(source, schema={"a": "int64", "b": "string"}, on_bad_record="quarantine")
"""


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Command]]:
    if isinstance(command, Group):
        for name in command.list_commands(click.Context(command)):
            yield from _commands(command.command_of(name), (*path, name))
    else:
        assert isinstance(command, Command)
        yield " ".join(path), command


def _check(value: Any, schema: Mapping[str, Any]) -> None:
    jsonschema.Draft202012Validator({**SCHEMAS, **schema}).validate(value)


def test_every_command_has_the_option_and_a_schema() -> None:
    commands = dict(_commands(command_line()))
    assert [n for n, c in commands.items() if not any("--json" in p.opts for p in c.params)] == []
    assert commands.keys() == SCHEMAS["commands"].keys()
    for name in commands:
        jsonschema.Draft202012Validator.check_schema({**SCHEMAS, "$ref": f"#/commands/{name}"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMFLOW_RUNS_DIR", str(tmp_path / "runs"))
    Path("a.csv").write_text("a,b\n1,x\n2,y\nz,w\n")
    Path("job.py").write_text(JOB)
    Path("fail.py").write_text(JOB.replace('"a.csv"', '"none.csv"'))
    return tmp_path


@pytest.fixture
def ran(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str, str]]:
    del folder

    def run(*words: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main([*words, "--json"])
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def test_output_fits_its_schema(
    ran: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def checked(name: str, *words: str, code: int = 0) -> Any:
        seen.add(name)
        ended, out, err = ran(*name.split(), *words)
        assert ended == code, err
        documents = [json.loads(line) for line in out.splitlines()] if name == "logs" else [json.loads(out)]
        for each in documents:
            _check(each, {"$ref": f"#/commands/{name}"})
        return documents[0]

    assert checked("head", "a.csv", "-n", "1") == [{"a": "1", "b": "x"}]
    assert checked("tail", "a.csv", "-n", "1") == [{"a": "z", "b": "w"}]
    assert checked("take", "a.csv", "1") == [{"a": "2", "b": "y"}]
    assert checked("sql", "SELECT count(*) AS n FROM 'a.csv'") == [{"n": 3}]
    assert [*checked("sql", "EXPLAIN SELECT 1 AS n")[0]] == ["plan"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 1 AS n;"))
    assert checked("shell") == [{"n": 1}]
    assert "scan" in " ".join(checked("explain", "SELECT * FROM 'a.csv'")["plan"])
    assert checked("inspect", "a.csv")["format"] == "csv"
    assert checked("doctor")["ready"] is True
    kept = ("--cache-dir", "kept")
    assert checked("cache show", *kept)["entries"] == []
    assert checked("cache verify", *kept)["right"] == 0
    assert checked("cache clear", *kept) == {"removed": 0, "bytes": 0}
    summary = checked("run", "job.py", "--name", "good", "--output", "out.csv")
    assert (summary["rows"], summary["bad_records"]) == (2, 1)
    assert checked("quarantine show", "good")[0]["path"].endswith("a.csv")
    assert checked("status", "good")["state"] == "done"
    assert checked("logs", "good")["event"] == "run_started"
    assert ran("run", "fail.py", "--name", "bad", "--output", "out2.csv")[0] != 0
    assert checked("status", "bad", code=1)["error"]["code"] == "MMF-SRC-002"
    assert {run["run"] for run in checked("list")} == {"good", "bad"}
    assert [run["run"] for run in checked("clean", "bad", "--dry-run")["removed"]] == ["bad"]
    assert checked("submit", "job.py", "--name", "good", "--output", "out.csv") == {"run": "good"}
    config = str(ROOT / "configs" / "k8s.toml")
    made = checked("k8s render", "job.py", "--config", config, "--output", "s3://b/o")
    assert made["items"]
    assert checked("completion", "bash")["shell"] == "bash"
    assert checked("cancel", "good", code=1)["state"] == "done"
    assert seen == {*SCHEMAS["commands"]}


def test_errors_fit_their_schema(ran: Callable[..., tuple[int, str, str]]) -> None:
    for words in (
        ["head", "none.csv"],
        ["sql", "SELECT nope FROM 'a.csv'"],
        ["status", "nobody"],
        ["run", "fail.py", "--output", "o.csv"],
        ["sql", "SELECT 1", "--format", "csv"],
        ["head", "a.csv", "--output", "o.csv"],
    ):
        code, out, err = ran(*words)
        assert code in (1, 2)
        assert out == ""
        _check(json.loads(err.splitlines()[-1]), {"$ref": "#/$defs/error"})
