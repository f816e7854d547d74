"""Command lines that are wrong, help, and which words belong to options, arguments and jobs."""

from __future__ import annotations

import io
import itertools
import re
import shlex
import sys
from pathlib import Path
from typing import get_args

import click
import pytest

from mmflow.api.options import WriteFormat
from mmflow.cli import parameters
from mmflow.cli.main import main
from mmflow.cli.parsing import Command, Group
from mmflow.cli.tree import command_line
from mmflow.config import EngineName, IoName
from mmflow.sinks.base import IfExists
from mmflow.sinks.stdout import STDOUT_FORMATS
from mmflow.submit.base import BACKENDS
from tests.cli.command_reference import PAGE, with_reference

ROOT = PAGE.parents[1]


def command(*names: str) -> Command:
    found: click.Command = command_line()
    for name in names:
        assert isinstance(found, Group)
        found = found.command_of(name)
    assert isinstance(found, Command)
    return found


@pytest.mark.parametrize(
    ("words", "message", "path"),
    [
        ("", "missing command", "mmflow"),
        ("sqll", "no such command sqll; did you mean sql?", "mmflow"),
        ("xyzzy", "no such command xyzzy", "mmflow"),
        ("--vesion", "no such option --vesion; did you mean --version?", "mmflow"),
        ("sql", "no query: give SQL, -f FILE, or SQL on standard input", "mmflow sql"),
        ("sql q -f x.sql", "give a query or -f x.sql, not both", "mmflow sql"),
        ("explain q --top 3", "no such option --top", "mmflow explain"),
        ("sql q --ouput x", "no such option --ouput; did you mean --output?", "mmflow sql"),
        ("sql q --outp x", "no such option --outp; did you mean --output?", "mmflow sql"),  # no abbreviation
        ("sql q --output", "--output needs a value", "mmflow sql"),
        ("sql q --profile=yes", "--profile takes no value", "mmflow sql"),
        ("sql q r", "unexpected argument 'r'", "mmflow sql"),
        ("sql q --io mmmap", "--io must be auto, mmap or pread, not 'mmmap'; did you mean mmap?", "mmflow sql"),
        ("sql q --if-exists rplace", "--if-exists must be error, replace, append or replace-partitions, not 'rplace'; did you mean replace?", "mmflow sql"),
        ("head x -n many", "-n must be a whole number from 0, not 'many'", "mmflow head"),
        ("take x", "missing argument ROW...", "mmflow take"),
        ("take x 3 -y", "no such option -y", "mmflow take"),
        ("sql q --workers many", "--workers 'many': must be a whole number of at least 1", "mmflow sql"),
        ("sql q --memory lots", "--memory 'lots' is not a size; write 64MiB, 4GB, 512k or a number of bytes", "mmflow sql"),
        ("sql q --max-bad-records nan", "--max-bad-records 'nan': must be a count such as 100, or a share", "mmflow sql"),
        ("run", "missing argument JOB", "mmflow run"),
        ("run --sorce x j.py", "no such option --sorce; the parameters of a job follow its file", "mmflow run"),
        ("run --shard-sise 1 j.py", "no such option --shard-sise; did you mean --shard-size?", "mmflow run"),
        ("submit", "missing argument JOB", "mmflow submit"),
        ("k8s", "missing command", "mmflow k8s"),
        ("k8s rendr", "no such command rendr; did you mean render?", "mmflow k8s"),
        ("k8s render", "missing argument JOB", "mmflow k8s render"),
        ("quarantine show", "missing argument RUN", "mmflow quarantine show"),
    ],
)  # fmt: skip
def test_wrong_usage_is_three_lines(
    words: str,
    message: str,
    path: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert first.startswith(f"error: {message}")
    assert second == "code:  MMF-USE-001"
    assert third == f"help:  {path} --help"


@pytest.mark.parametrize(
    ("words", "job", "rest"),
    [
        (["j.py", "--top", "3"], "j.py", ["--top", "3"]),
        (["--io", "mmap", "j.py", "--top", "-3", "--workers=2"], "j.py", ["--top", "-3"]),
        (["--top=3", "j.py"], "j.py", ["--top=3"]),
        (["--resume", "r", "--top", "3"], None, ["--top", "3"]),
        (["--resume", "r", "j.py", "--top", "3"], "j.py", ["--top", "3"]),
        (["--resume", "r", "--top=3", "j.py"], "j.py", ["--top=3"]),
    ],
)
def test_words_of_a_job(words: list[str], job: str | None, rest: list[str]) -> None:
    options = command("run").options_of(words)
    assert (options.job, options.rest) == (job, rest)


def test_an_option_of_explain_is_no_parameter_of_a_job() -> None:
    options = command("explain").options_of(["j.py", "--file", "a.csv", "--io", "mmap"])
    assert (options.query, options.file, options.rest) == ("j.py", None, ["--file", "a.csv"])


def test_words_that_begin_with_a_dash_and_are_arguments() -> None:
    query = "-- the number\nSELECT 1 AS a"
    assert command("sql").options_of([query, "--io", "mmap"]).query == query
    assert command("sql").options_of(["--param", "-x", query]).param == ("-x",)
    take = command("take")
    assert take.options_of(["x", "-5:", "3", "--columns", "a", "-1"]).rows == ("-5:", "3", "-1")
    assert take.options_of(["x", "--", "-5:", "-"]).rows == ("-5:", "-")


def test_choices_are_those_of_the_modules_that_take_them() -> None:
    assert get_args(EngineName) == parameters.ENGINES
    assert get_args(IoName) == parameters.IO_MODES
    assert get_args(IfExists) == parameters.IF_EXISTS
    assert get_args(WriteFormat) == parameters.WRITE_FORMATS
    assert STDOUT_FORMATS == parameters.STDOUT_FORMATS
    assert {*BACKENDS, "kubernetes"} == set(parameters.BACKENDS)  # the command line adds it


def commands(found: click.Command, path: str = "mmflow") -> list[tuple[str, click.Command]]:
    if not isinstance(found, Group):
        return [(path, found)]
    ctx = click.Context(found)
    return [e for n in found.list_commands(ctx) for e in commands(found.command_of(n), f"{path} {n}")]


def test_every_command_has_an_example_and_fits_80_columns() -> None:
    for path, each in commands(command_line()):
        assert isinstance(each, Command)
        assert each.examples, path
        for line in each.get_help(each.context_class(each, info_name=path)).splitlines():
            assert len(line) <= 80, line
        assert all(example.startswith(path) for example in each.examples)


def _documented() -> list[str]:
    """Command lines of the help and of the documentation."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [re.sub(r"\\\n\s+", "", page.read_text()) for page in pages]
    # Behind several spaces stands what a command does.
    shown = [
        re.split(r" {3,}", line)[0]
        for t in texts
        for line in re.findall(r"^ {4}(mmflow .+)", t, re.MULTILINE)
    ]
    return [*shown, *(e for _, c in commands(command_line()) if isinstance(c, Command) for e in c.examples)]


@pytest.mark.parametrize("line", dict.fromkeys(_documented()))
def test_documented_command_lines_are_right(line: str) -> None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    lexer.whitespace_split = True
    words = list(itertools.takewhile(lambda w: not set(w) <= set("|>;&"), lexer))
    found: click.Command = command_line()
    for name in words[1:3]:
        if isinstance(found, Group):
            found = found.command_of(name)
    assert isinstance(found, Command)
    words = words[3 if words[1] in ("k8s", "quarantine", "cache") else 2 :]
    found.options_of([w for w in words if w != "…" and not w.startswith("[-")])


JOB = """
import mmflow as mf

@mf.job
def job(session, *, what: str):
    if what == "setting":
        return mf.Session(shard_size="many")
    if what == "none":
        return None
    return session.read("a.csv").select("nosuch")
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sql", "SELEC 1"], 1),
        (["sql", "SELECT nosuch FROM 'a.csv'"], 1),
        (["sql", "SELECT 1 / 0 FROM 'a.csv'"], 1),
        (["sql", "SELECT * FROM 'none.csv'"], 1),
        (["sql", "SELECT $x"], 2),
        (["sql", "SELECT 1", "--opt", "t.header=true"], 2),
        (["sql", "SELECT 1", "--shard-size", "many"], 2),
        (["sql", "SELECT 1", "--config", "none.toml"], 2),
        (["sql", "SELECT 1", "-o", "a.xlsx"], 2),
        (["head", "a.csv", "-o", "a.xlsx"], 2),
        (["run", "job.py", "--what", "none", "-o", "a.xlsx"], 2),
        (["sql", "SELECT 1", "--if-exists", "append"], 2),
        (["sql", "SELECT 1", "--format", "npy"], 2),
        (["head", "a.csv", "-o", "a.csv"], 1),
        (["explain", "SELECT nosuch FROM 'a.csv'"], 1),
        (["inspect", "none.csv"], 1),
        (["inspect", "a.csv", "--opt", "delimitr=;"], 2),
        (["head", "a.csv", "--columns", "nosuch"], 1),
        (["take", "a.csv", "17"], 1),
        (["take", "a.csv", "many"], 2),
        (["run", "none.py"], 2),
        (["run", "job.py", "--what", "column"], 1),
        (["run", "job.py", "--what", "setting"], 1),
        (["run", "job.py", "--what", "none"], 1),
        (["run", "job.py", "--what", "none", "--what-else", "x"], 2),
        (["status", "nosuch"], 2),
    ],
)
def test_codes_tell_wrong_usage_from_failures(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMFLOW_RUNS_DIR", str(tmp_path / "runs"))
    Path("a.csv").write_text("a\n1\n")
    Path("job.py").write_text(JOB)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "error: " in err


def test_the_reference_in_the_documentation_is_current() -> None:
    page = PAGE.read_text()
    assert with_reference(page) == page, "run python -m tests.cli.command_reference"


@pytest.mark.parametrize("words", ["sql --help --bogus", "sql --bogus -h", "take -h", "k8s render -h"])
def test_help_wins_over_what_is_wrong(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: mmflow ")
    assert err == ""
