"""The ten most common mistakes, each through Python and through the command line, and what people are told.

python -m tests.errors.mistakes > tests/errors/mistakes.txt      after a message was changed on purpose
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmflow as mf
from mmflow import col
from mmflow.cli.main import main

ACCESS = "host,status,ms\na,200,1\nb,500,2\nc,404,x\n"
NUMBERS = "id,value\n1,10\n2,0\n3,7\n"

JOBS = {
    "ratio.py": """
        import mmflow as mf

        def inverse(row):
            return {"inverse": 1 / row["value"]}

        @mf.job
        def ratio(session):
            return session.read_csv("numbers.csv").map(inverse, schema={"inverse": "float64"})
        """,
    "both.py": """
        import mmflow as mf
        from mmflow import col

        @mf.job
        def both(session):
            rows = session.read_csv("access.csv")
            return rows.filter((col("status") >= 400) and (col("host") == "b"))
        """,
}


def _inverse(row: dict[str, Any]) -> dict[str, Any]:
    return {"inverse": 1 / row["value"]}


def _access() -> mf.Dataset:
    return mf.read_csv("access.csv")


#: Name, what is done in Python, and the words of the command line.
MISTAKES: list[tuple[str, Callable[[], Any], list[str]]] = [
    (
        "wrong column",
        lambda: _access().filter(col("hots") == "a"),
        ["sql", "SELECT hots FROM 'access.csv'"],
    ),
    (
        "wrong type",
        lambda: _access().select(next=col("host") + 1),
        ["sql", "SELECT host + 1 FROM 'access.csv'"],
    ),
    (
        "text in an integer column",
        lambda: mf.read_csv(
            "access.csv", schema={"host": "string", "status": "int64", "ms": "int64"}
        ).to_arrow(),
        ["sql", "SELECT sum(CAST(ms AS BIGINT)) AS ms FROM 'access.csv'"],
    ),
    (
        "missing file",
        lambda: mf.read_csv("acess.csv"),
        ["head", "acess.csv"],
    ),
    (
        "wrong option",
        lambda: mf.read_csv("access.csv", delimeter=";"),  # type: ignore[call-arg]  # the mistake
        ["head", "access.csv", "--opt", "delimeter=;"],
    ),
    (
        "a function raises",
        lambda: mf.read_csv("numbers.csv").map(_inverse, schema={"inverse": "float64"}).to_arrow(),
        ["run", "ratio.py"],
    ),
    (
        "`and` for `&`",
        lambda: _access().filter((col("status") >= 400) and (col("host") == "b")),
        ["run", "both.py"],
    ),
    (
        "forgotten alias",
        lambda: _access().group_by("host").agg(col("status").min(), col("status").max()),
        ["sql", "SELECT min(status) AS s, max(status) AS s FROM 'access.csv'"],
    ),
    (
        "list instead of arguments, which works",
        lambda: _access().select(["host", "status"]).limit(1).to_arrow().to_pylist(),
        ["head", "access.csv", "--columns", "host,status", "-n", "1", "--format", "csv"],
    ),
    (
        "unknown function",
        lambda: mf.sql("SELECT uper(host) FROM 'access.csv'"),
        ["sql", "SELECT uper(host) FROM 'access.csv'"],
    ),
]


@contextlib.contextmanager
def folder_of_mistakes(path: Path) -> Iterator[None]:
    """Write the files that the mistakes are about, and work in their folder."""
    import textwrap

    (path / "access.csv").write_text(ACCESS)
    (path / "numbers.csv").write_text(NUMBERS)
    for name, text in JOBS.items():
        (path / name).write_text(textwrap.dedent(text).lstrip())
    with contextlib.chdir(path):
        yield


def told_in_python(mistake: Callable[[], Any]) -> str:
    """Return the message at the end of a traceback, or the result of what is no mistake."""
    try:
        return repr(mistake())
    except Exception as error:
        return "".join(traceback.format_exception_only(error))


def told_by_command(words: list[str]) -> str:
    """Return what a command prints, and its exit code."""
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(words)
    return f"{out.buffer.getvalue().decode()}(exit code {code})"


def transcript() -> str:
    """Return all mistakes and what people are told; line numbers, times and names of runs are the same each time."""
    parts = []
    for name, mistake, words in MISTAKES:
        shown = " ".join(f'"{w}"' if " " in w else w for w in words)
        told = told_in_python(mistake).rstrip(), told_by_command(words).rstrip()
        parts.append(f"# {name}\n\nPython\n{_indented(told[0])}\n\nmmflow {shown}\n{_indented(told[1])}\n")
    text = "\n".join(parts).replace(os.getcwd() + os.sep, "")
    text = re.sub(r"\S*tests/errors/mistakes\.py:\d+", "mistakes.py:N", text)
    return re.sub(r"\b[0-9a-f]{12}\b", "RUN", text)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made, folder_of_mistakes(Path(made)):
        sys.stdout.write(transcript())
