"""`mmflow shell`: one session in a real terminal, scripts on standard input, and what may stand at the cursor."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmflow as mf
from mmflow.cli.main import main
from mmflow.cli.options import session_of
from mmflow.cli.parsing import Options
from mmflow.cli.shell.completion import Completer
from mmflow.cli.shell.shell import Shell
from mmflow.cli.shell.statements import Splitter, is_complete
from tests.screen import Screen, shows
from tests.waiting import wait_until

CSV = "host,status,Sent Bytes\n" + "".join(f"h{n % 7},{200 + n % 2},{n}\n" for n in range(3000))
#: No end of it is near.
LONG = "SELECT count(*) FROM range(1000000) AS a, range(1000000) AS b WHERE a.value * b.value % 7 = 9;"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Access.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMFLOW_HISTORY", str(tmp_path / "state" / "history"))
    return tmp_path


# ---- a terminal ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_session_in_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    (folder / "tmp").mkdir()
    screen = Screen(folder / "socket", folder)
    command = f"{sys.executable} -m mmflow.cli.main shell Access.csv --runs-dir runs"
    try:
        screen.type(command, "Enter")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"])

        # Rows fit the screen.
        screen.type("SELECT * FROM access;", "Enter")
        lines = shows(screen, lambda lines: lines[-1:] == ["mmflow>"] and "KiB of files" in lines[-2])
        assert lines[0] == "mmflow> SELECT * FROM access;"
        assert lines[-3] == "(3,000 rows, 16 shown)"

        # Several lines; a name in capitals is completed with the quotes that it needs.
        screen.type("SELECT status, 'a;' AS t, sum(s) AS n FROM access", "Enter", "GROUP BY ALL", "Enter")
        screen.type("Up", "Up", "C-a", *["Right"] * len("SELECT status, 'a;' AS t, sum(s"), "Tab")
        shows(screen, lambda lines: any("Sent Bytes" in line and "int64" in line for line in lines))
        screen.type("Tab", "Tab")
        shows(screen, lambda lines: any('sum("Sent Bytes")' in line for line in lines))
        screen.type("Enter")
        screen.type("Down", "Down", "ORDER BY 1;", "Enter")
        lines = shows(screen, lambda lines: lines[-1:] == ["mmflow>"] and "(2 rows)" in lines[-3:-1])
        assert [line.split() for line in lines[-5:-3]] == [["200", "a;", "2248500"], ["201", "a;", "2250000"]]

        # A wrong statement is told, and stays in the history.
        screen.type("SELECT nope FROM access;", "Enter")
        lines = shows(screen, lambda lines: lines[-1:] == ["mmflow>"] and lines[-2].startswith("code:"))
        assert lines[-3] == "error: SQL: there is no column nope; the columns are host, status, Sent Bytes"
        screen.type("C-r", "nope")
        shows(screen, lambda lines: any("SELECT nope FROM access;" in line for line in lines[-3:]))
        screen.type("C-c")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"])

        # Ctrl-C clears what is typed, and cancels what runs.
        screen.type("SELECT 1 +", "Enter", "C-c")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"])
        screen.type(LONG, "Enter")
        shows(screen, lambda lines: lines[-1].startswith("0%"))
        screen.type("C-c")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"] and lines[-2].startswith("cancelled after"))
        screen.type("SELECT 7 AS seven;", "Enter")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"] and lines[-3] == "(1 row)")

        screen.type("C-d")
        shows(screen, lambda lines: lines[-1:] == ["$"])
        screen.type("echo $?", "Enter")
        shows(screen, lambda lines: lines[-2:] == ["0", "$"])

        # Signals end what Ctrl-C does not.
        screen.type(f"clear; {command}", "Enter")
        shows(screen, lambda lines: lines[-1:] == ["mmflow>"])
        screen.kill(signal.SIGTERM)
        shows(screen, lambda lines: lines[-2:] == ["interrupted", "$"])
    finally:
        screen.close()
    history = folder / "state" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+SELECT nope FROM access;\n" in history.read_text()
    assert not (folder / "runs").exists()
    assert list((folder / "tmp").iterdir()) == []


# ---- scripts ---------------------------------------------------------------------------------------

SCRIPTS = [
    ("SELECT 1 AS a; SELECT ';' AS b\n", "a\n1\nb\n;\n", "", 0),  # the last ; may be missing
    ("\n-- all;\n\nSELECT nope\n  FROM access;\nSELECT 1;", "", "error: stdin, line 4: SQL: there is no column nope; the columns are host, status, Sent Bytes\ncode:  MMF-PLN-002\n", 1),
    (".mode ndjson\nFROM access LIMIT 1;", '{"host":"h0","status":200,"Sent Bytes":0}\n', "", 0),
    (".table t Access.csv header=false\nSELECT count(*) AS n FROM t;", "n\n3001\n", "", 0),
    (".tabls\n", "", "error: stdin, line 1: there is no command .tabls; did you mean .tables?\ncode:  MMF-CFG-001\n", 1),
    (".mode tabel", "", "error: stdin, line 1: .mode tabel: must be table, csv, json, ndjson or markdown; did you mean table?\ncode:  MMF-CFG-001\n", 1),
    (".timing maybe", "", "error: stdin, line 1: .timing maybe: must be on or off\ncode:  MMF-CFG-001\n", 1),
    (".table t", "", "error: stdin, line 1: .table: write .table NAME PATH [opt=value…]\ncode:  MMF-CFG-001\n", 1),
    (".output x.foo/\n.output - \nSELECT $p AS p;\n.quit\nSELECT 2;", "p\n5\n", "", 0),
    (".read missing.sql", "", "error: stdin, line 1: .read missing.sql: can't read it: No such file or directory\ncode:  MMF-CFG-001\n", 1),
    (".read inner.sql\nSELECT 3;", "a\n1\n", "error: inner.sql, line 2: SQL: there is no table 'u'; give it by name, or write FROM 'path' for a file\ncode:  MMF-PLN-006\n", 1),
    ("EXPLAIN SELECT 1 AS a;", "plan\n", None, 0),
    (".schema access\n", "column      type\n", "", 0),
]  # fmt: skip


@pytest.mark.parametrize(("script", "out", "err", "code"), SCRIPTS)
def test_scripts(
    script: str,
    out: str,
    err: str | None,
    code: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    (folder / "inner.sql").write_text("SELECT 1 AS a;\nFROM u;")
    monkeypatch.setattr(sys, "stdin", io.StringIO(script))
    found = main(["shell", "Access.csv", "--table", "t=Access.csv", "--param", "p=5"])
    written = capfdbinary.readouterr()
    assert written.out.decode().startswith(out) if out else not written.out
    if err is not None:
        assert written.err.decode() == err
    assert found == code
    assert not (folder / "state").exists()  # scripts have no history


def test_rows_go_to_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = ".timing on\n.output o.parquet\nFROM access LIMIT 4;\n.output -\nSELECT 1 AS a;"
    monkeypatch.setattr(sys, "stdin", io.StringIO(script))
    assert main(["shell", "Access.csv"]) == 0
    out, err = capfd.readouterr()
    assert out == "a\n1\n"
    wrote, _, after = err.splitlines()
    assert wrote.startswith("wrote 4 rows in 1 file")
    assert after.startswith("1 row, ")
    assert mf.read("o.parquet").count() == 4


def test_wrong_files_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "access.txt").write_text("a\n1\n")
    assert main(["shell", "Access.csv", "access.txt"]) == 2
    assert "would both be table access: name one with --table NAME=access.txt" in capsys.readouterr().err
    assert main(["shell", "*.csv"]) == 2
    assert capsys.readouterr().err == (
        "error: *.csv has no name of a table in it: name it with --table NAME=*.csv\ncode:  MMF-CFG-001\n"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a;\nb; c\n;d", [("a", 1), ("b", 2), ("c", 2)]),
        ("';' ;", [("';'", 1)]),
        ("/* ;\n.help\n*/ x;", [("/* ;\n.help\n*/ x", 3)]),
        ("-- ;\n.help me\nx;", [(".help me", 2), ("x", 3)]),
        ("$$;$$;", [("$$;$$", 1)]),
        ('"a;', []),
    ],
)
def test_statements(text: str, found: list[tuple[str, int]]) -> None:
    splitter = Splitter()
    made = [s for line in text.splitlines(keepends=True) for s in splitter.feed(line)]
    assert [(s.text, s.line) for s in made] == found


@pytest.mark.parametrize(("text", "complete"), [("", True), ("a", False), ("a;", True), ("a;b", False), ("';", False), ("a; -- b", True), ("/* a;", False), ("a; /*", False)])  # fmt: skip
def test_complete_input(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


# ---- completion ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Completer]:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "Access.csv").write_text(CSV)
    (folder / "logs").mkdir()
    before = os.getcwd()
    os.chdir(folder)
    options = Options(files=["Access.csv"], table=[], opt=[], param=[], config=None, json_rows=False)
    with session_of(options) as session:

        @mf.udf("int64", "int64")
        def doubled(values: object) -> object:
            return values

        session.register_udf(doubled)
        with contextlib.closing(Completer(Shell(session, options, is_interactive=True))) as made:
            yield made
    os.chdir(before)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT s| FROM access", ["status", '"Sent Bytes"']),
        ("SELECT a.h| FROM access AS a", ["host"]),
        ("SELECT a.| FROM access a JOIN 'Access.csv' b", ["host", "status", '"Sent Bytes"']),
        ("SELECT x.| FROM (SELECT host AS q FROM access) x", ["q"]),
        ("WITH w AS (SELECT 1 AS one) SELECT o| FROM w", ["one"]),
        ("SELECT * FROM a, access WHERE hos|", ["host"]),
        ("SELECT * FROM read_csv('Access.csv', header => true) WHERE hos|", ["host"]),
        ("SELECT 1; SELECT hos| FROM access; SELECT 2", ["host"]),
        ('SELECT "S| FROM access', ['status"', 'Sent Bytes"']),
        ("FROM acc|", ["access"]),
        ("FROM Acc|", ["access", "'Access.csv'"]),
        ("SELECT * FROM access, acc|", ["access"]),
        ("FROM 'Ac|", ["Access.csv'"]),
        ("FROM 'lo|", ["logs/"]),
        ("FROM read_cs|", ["read_csv("]),
        ("SELECT dou| FROM access", ["doubled("]),
        ("SELECT starts| FROM access", ["starts_with("]),
        ("sel|", ["select"]),
        ("SEL|", ["SELECT"]),
        ("SELECT 'host|", []),
        ("SELECT 1 -- hos|", []),
        (".sch|", [".schema"]),
        (".mode nd|", ["ndjson"]),
        (".schema acc|", ["access"]),
        (".table t Ac|", ["Access.csv"]),
    ],
)
def test_candidates(completer: Completer, text: str, found: list[str]) -> None:
    cursor = text.index("|")
    text = text.replace("|", "")

    def made() -> list[str]:
        return [c.text for c in completer.candidates(text, cursor)][: max(1, len(found))]

    if found:
        wait_until(lambda: made() == found, f"{found}, not {made()}", 10)  # columns come from a thread
    else:
        assert made() == []
