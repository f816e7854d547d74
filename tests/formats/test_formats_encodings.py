"""Text in any encoding gives the rows of the same text in UTF-8: at every shard size, by every way to rows and options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col
from mmflow.formats.encodings.encoding import find_encoding
from tests.fork_server import command

_LETTERS = {
    "latin-1": "éüß",
    "windows-1252": "é€–",
    "koi8-r": "Жды",
    "cp500": "éü",
    "utf-16-le": "éЖ日😀ਊ",
    "utf-16-be": "éЖ日😀ਊ",
    "utf-32-be": "éЖ日😀",
    "shift_jis": "表ソｱ日",
    "gb18030": "é中😀镕",
    "big5": "功許中",
    "euc_jp": "表ｱ丂",
    "iso2022_jp": "表日",
    "utf-7": "é日+",
}


def _text(letters: str) -> st.SearchStrategy[str]:
    cell = st.text(st.sampled_from('ab ",\n' + letters), max_size=6)
    row = st.tuples(st.integers(0, 99), cell)
    return st.lists(row, min_size=1, max_size=40).map(
        lambda rows: "n,t\n" + "".join(f'{n},"{t.replace(chr(34), chr(34) * 2)}"\n' for n, t in rows)
    )


@pytest.mark.parametrize("encoding", _LETTERS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_are_those_of_the_same_text_in_utf8(encoding: str, tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(_text(_LETTERS[encoding]))
    shard = data.draw(st.integers(1, 400))
    plain, coded = tmp_path / "plain.csv", tmp_path / "coded.csv"
    plain.write_bytes(text.encode())
    coded.write_bytes(text.encode(encoding))
    session = mf.Session(shard_size=shard, workers=2)
    options: dict[str, Any] = {"schema": "n:int64,t:string"}
    expected = session.read_csv(plain, **options).select("n", "t", "_line").to_arrow()
    found = (
        session.read_csv(coded, encoding=encoding, **options).select("n", "t", "_line", "_offset").to_arrow()
    )
    assert found.drop_columns(["_offset"]) == expected
    # Offsets are bytes of the file: what begins there is the record.
    if not find_encoding(encoding).stateful:
        raw = coded.read_bytes()
        for row in found.to_pylist():
            assert raw[row["_offset"] :].decode(encoding).startswith(f"{row['n']},")


def _write(tmp_path: Path, encoding: str, count: int = 3000) -> Path:
    path = tmp_path / f"{encoding}.csv"
    letters = _LETTERS[encoding]
    rows = "".join(f"{n},{letters[n % len(letters)]}{n % 7}\r\n" for n in range(count))
    path.write_bytes(f"n,t\r\n{rows}".encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "utf-16-be", "gb18030", "cp500"])
def test_rows_by_number(encoding: str, tmp_path: Path) -> None:
    ds = mf.read_csv(_write(tmp_path, encoding), encoding=encoding)
    letters = _LETTERS[encoding]
    wanted = [2999, 5, 1234, 5]
    expected = [{"n": n, "t": f"{letters[n % len(letters)]}{n % 7}"} for n in wanted]
    assert ds.take(wanted).to_pylist() == expected
    assert ds[-1:].to_pylist() == expected[:1]
    lines = ds.select("n", "_line").take([7]).to_pylist()
    assert lines == [{"n": 7, "_line": 9}]


def test_rows_of_an_encoding_with_a_state_have_no_numbers(tmp_path: Path) -> None:
    ds = mf.read_csv(_write(tmp_path, "iso2022_jp"), encoding="iso-2022-jp")
    assert ds.count() == 3000
    with pytest.raises(mf.MmflowError, match="iso-2022-jp, which can only be read from its start"):
        ds.take([1])


@pytest.mark.parametrize("encoding", ["koi8-r", "utf-16-be", "shift_jis"])
def test_filters_compare_text_not_bytes(encoding: str, tmp_path: Path) -> None:
    ds = mf.Session(shard_size=4096).read_csv(_write(tmp_path, encoding), encoding=encoding)
    letter = _LETTERS[encoding][1]
    found = ds.filter(col("t") == f"{letter}3").to_arrow()
    assert set(found["t"].to_pylist()) == {f"{letter}3"}
    expected = sum(
        1 for n in range(3000) if n % 7 == 3 and _LETTERS[encoding][n % len(_LETTERS[encoding])] == letter
    )
    assert found.num_rows == expected
    like = mf.read_text(tmp_path / f"{encoding}.csv", encoding=encoding).filter(
        col("line").str.contains(letter)
    )
    assert like.count() == sum(
        1 for n in range(3000) if _LETTERS[encoding][n % len(_LETTERS[encoding])] == letter
    )


def test_the_quarantine_keeps_bytes_of_the_file(tmp_path: Path) -> None:
    bad = b"2\0,\0\x00\xd8z\0"
    raw = "a,b\n1,é\n".encode("utf-16") + bad + "\n3,日\n".encode("utf-16-le")
    (tmp_path / "a.csv").write_bytes(raw)
    session = mf.Session(runs_dir=tmp_path / "runs")
    with pytest.warns(Warning, match="1 bad record was"):
        rows = session.read_csv(tmp_path / "a.csv", encoding="utf-16", on_bad_record="quarantine").to_dicts()
    assert rows == [{"a": 1, "b": "é"}, {"a": 3, "b": "日"}]
    run = session.last_run
    assert run is not None
    assert run.quarantine is not None
    with pa.ipc.open_file(pa.memory_map(str(run.quarantine))) as file:
        (kept,) = file.read_all().to_pylist()
    assert kept["raw"] == bad
    assert raw[kept["byte_offset"] :].startswith(bad)
    assert (kept["line"], kept["column"]) == (3, "b")
    assert kept["reason"].startswith("not valid utf-16-le at byte 4 (0x00) of the record")


def test_files_of_both_orders_are_read_together(tmp_path: Path) -> None:
    for name, encoding in (("a", "utf-16-le"), ("b", "utf-16-be")):
        (tmp_path / f"{name}.csv").write_bytes("\ufeffa,b\n1,é\n".encode(encoding))
    assert mf.read_csv(tmp_path / "*.csv", encoding="utf-16").to_dicts() == [{"a": 1, "b": "é"}] * 2


def test_the_option_in_sql_toml_and_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_bytes("a,b\n1,é\n".encode("utf-16"))
    Path("b.ndjson").write_bytes('{"b": "é"}\n'.encode("latin-1"))
    Path("c.txt").write_bytes("é\n".encode("cp437"))
    assert mf.sql("SELECT b FROM read_csv('a.csv', encoding => 'utf-16')").to_dicts() == [{"b": "é"}]
    assert mf.sql("SELECT b FROM read_ndjson('b.ndjson', encoding => 'latin-1')").to_dicts() == [{"b": "é"}]
    assert mf.sql("SELECT line FROM read_text('c.txt', encoding => 'cp437')").to_dicts() == [{"line": "é"}]
    Path("mmflow.toml").write_text("[sources.a]\npath = 'a.csv'\nencoding = 'utf-16'\n")
    assert mf.Session(config="mmflow.toml").sql("SELECT b FROM a").to_dicts() == [{"b": "é"}]
    assert command("head", "a.csv", "--opt", "encoding=utf-16", "--format", "ndjson") == 0
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": "é"}


def test_a_format_keeps_its_encoding(tmp_path: Path) -> None:
    from mmflow.formats import from_spec, open_format

    (tmp_path / "a.csv").write_bytes("é\n1\n".encode("latin-1"))
    for name in ("csv", "ndjson", "text"):
        options = {} if name == "text" else {"schema": "é:int64"}
        form = open_format(name, [str(tmp_path / "a.csv")], encoding="ISO-8859-1", **options)
        assert form.spec()["encoding"] == "latin-1"
        assert from_spec(form.spec()) == form


def test_a_name_of_an_encoding_that_is_nearly_right() -> None:
    with pytest.raises(mf.ConfigError, match="did you mean 'windows-1252'"):
        find_encoding("windows-1252x")
