"""Queries come from files and standard input, and rows go to files and standard output, in every format."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from mmflow.cli.main import main
from mmflow.sinks.parquet_stream import write_parquet_stream

MMFLOW = str(Path(sys.executable).with_name("mmflow"))
ROWS = [{"k": "a", "v": 1}, {"k": 'b "|\nc', "v": None}, {"k": "d", "v": 3}]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.csv"
    path.write_text('k,v\na,1\n"b ""|\nc",\nd,3\n')
    return path


READ: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "csv": lambda b: pc.read_csv(io.BytesIO(b), parse_options=pc.ParseOptions(newlines_in_values=True)).to_pylist(),
    "json": json.loads,
    "ndjson": lambda b: [json.loads(line) for line in b.splitlines()],
    "arrow": lambda b: pa.ipc.open_stream(b).read_all().to_pylist(),
    "parquet": lambda b: pq.read_table(io.BytesIO(b)).to_pylist(),
}  # fmt: skip


@pytest.mark.parametrize("form", READ)
def test_formats_of_standard_output(
    form: str, source: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for command in (["sql", "FROM 'a.csv'"], ["head", "a.csv"], ["tail", "a.csv"], ["take", "a.csv", "0:3"]):
        assert main([*command, "-o", "-", "--format", form]) == 0
        assert READ[form](capfdbinary.readouterr().out) == ROWS
    assert main(["sql", "SELECT * FROM 'a.csv' WHERE k = 'z'", "--format", form]) == 0
    assert READ[form](capfdbinary.readouterr().out) == []


def test_markdown(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["head", "a.csv", "--format", "markdown"]) == 0
    assert capfd.readouterr().out == (
        '| k | v |\n| --- | --: |\n| a | 1 |\n| b "\\|\\\\nc | NULL |\n| d | 3 |\n'
    )
    assert main(["sql", "SELECT '<b>*x*' AS \"a|b\", DATE '2026-11-30' AS d", "--format", "markdown"]) == 0
    assert capfd.readouterr().out.splitlines()[::2] == ["| a\\|b | d |", "| &lt;b>\\*x\\* | 2026-11-30 |"]


def test_parquet_that_is_broken_off_has_no_footer() -> None:
    schema = pa.schema({"a": pa.int64()})

    def batches() -> Any:
        yield pa.record_batch([pa.array(range(2_000_000))], schema=schema)
        raise KeyError("broken off")

    stream = io.BytesIO()
    with pytest.raises(KeyError):
        write_parquet_stream(batches(), schema, stream)
    assert stream.getvalue()[:4] == b"PAR1"
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(io.BytesIO(stream.getvalue()))


def test_binary_formats_are_refused_on_terminals(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for command in (["sql", "FROM 'a.csv'"], ["head", "a.csv"]):
        for form in ("arrow", "parquet"):
            assert main([*command, "--format", form]) == 2
            out, err = capfd.readouterr()
            assert out == ""
            assert f"send it to a file (> rows.{form}) or into a pipe" in err


def test_rows_by_number_into_files(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["take", "a.csv", "2", "0", "-o", "b.parquet"]) == 0
    assert main(["head", "a.csv", "-n", "1", "-o", "b.parquet"]) == 1
    assert "b.parquet" in capfd.readouterr().err
    assert pq.read_table("b.parquet").to_pylist() == [ROWS[2], ROWS[0]]
    assert main(["head", "a.csv", "-n", "1", "-o", "b.parquet", "--if-exists", "replace"]) == 0
    assert pq.read_table("b.parquet").to_pylist() == ROWS[:1]


def test_queries_from_files_and_standard_input(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    query = "-- of some\nSELECT v FROM 'a.csv' WHERE v >= $least;\n"
    Path("q.sql").write_text(query, encoding="utf-8-sig")
    for words in (["-f", "q.sql"], ["-f-"], ["-"], []):
        monkeypatch.setattr(sys, "stdin", io.StringIO(query))
        assert main(["sql", *words, "--param", "least=2"]) == 0
        assert capfd.readouterr().out == "v\n3\n"
        monkeypatch.setattr(sys, "stdin", io.StringIO(query))
        assert main(["explain", *words, "--param", "least=2"]) == 0
        assert "v >= 2" in capfd.readouterr().out
    Path("latin.sql").write_bytes(b"SELECT 'caf\xe9'")
    for name, why in (("none.sql", "No such file or directory"), ("latin.sql", "it is not text in UTF-8")):
        assert main(["sql", "-f", name]) == 2
        assert capfd.readouterr().err == f"error: can't read the query in {name}: {why}\ncode:  MMF-CFG-001\n"


def test_a_query_is_piped(source: Path) -> None:
    done = subprocess.run(
        [MMFLOW, "sql", "--format", "ndjson"],
        input="SELECT 1 AS a",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('{"a":1}\n', "", 0)
