"""Lines that are split into fields: against Python's re and datetime, a parser of logfmt by characters, and by number."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats.text.conversion import parse_log_times
from mmflow.formats.text.logfmt import LogfmtSplitter
from mmflow.formats.text.patterns import group_names, read_pattern, with_groups
from mmflow.formats.text.splitting import RegexSplitter

_PATTERNS = (
    r"^(?P<a>[^ ]+) (?P<b>[^ ]*)$",
    r"(?P<a>x+)(?P<b>[0-9]*)",
    r"^(?P<a>[a-c]*)(?: (?P<b>[0-9]{1,2}))? ?(?P<c>.*)$",
    r'^(?P<a>x|"[^"]*") (?P<b>-|[0-9]+)',
    r"^\[(?P<a>[^]]*)] (?P<b>\d+)?",
)


@given(st.sampled_from(_PATTERNS), st.lists(st.text('ab x0-9"[]é', max_size=12), min_size=1, max_size=20))
def test_patterns_find_what_python_finds(pattern: str, lines: list[str]) -> None:
    read = read_pattern(pattern)
    names = group_names(read)
    split = RegexSplitter(read, {n: n for n in names}).split(pa.array(lines, pa.string()), names)
    for row, line in enumerate(lines):
        match = re.search(pattern, line, re.ASCII)
        if match is None:
            assert row in split.bad or (split.left_out is not None and split.left_out[row] and not line)
            continue
        assert row not in split.bad
        assert {n: split.texts[n][row].as_py() for n in names} == {n: match[n] or "" for n in names}


def test_groups_that_are_not_wanted_do_not_capture() -> None:
    pattern = read_pattern(r"(?<a>\(?P<b>x) ([(?P<c>]) (?P<d>y)")
    assert pattern == r"(?P<a>\(?P<b>x) (?:[(?P<c>]) (?P<d>y)"
    assert group_names(pattern) == ("a", "d")
    assert with_groups(pattern, {"d"}) == r"(?:\(?P<b>x) (?:[(?P<c>]) (?P<d>y)"


@given(
    st.lists(
        st.tuples(
            st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)),
            st.integers(-23 * 60 - 59, 23 * 60 + 59),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_times_of_web_servers(moments: list[tuple[dt.datetime, int]]) -> None:
    zoned = [m.replace(microsecond=0, tzinfo=dt.timezone(dt.timedelta(minutes=z))) for m, z in moments]
    texts = [
        f"{m:%d/%b/}{m.year:04}{m:%H:%M:%S %z}".replace(f"{m.year:04}", f"{m.year:04}:", 1) for m in zoned
    ]
    found = parse_log_times(pa.array([None, *texts]))
    assert found is not None
    assert found[0][1:].tolist() == [
        (m - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1) for m in zoned
    ]
    assert found[1].tolist() == [True] + [False] * len(texts)


@pytest.mark.parametrize("text", [
    "31/Feb/2024:00:00:00 +0000", "30/Feb/2024:00:00:00 +0000", "29/Feb/2023:00:00:00 +0000", "00/Jan/2024:00:00:00 +0000",
    "01/jan/2024:00:00:00 +0000", "01/Jan/2024:24:00:00 +0000", "01/Jan/2024:00:60:00 +0000", "01/Jan/2024:00:00:60 +0000",
    "01/Jan/2024:00:00:00 *0000", "01/Jan/2024:00:00:00 +0060", "01/Jan/2024:00:00:00 +2400", "01-Jan/2024:00:00:00 +0000",
    "0x/Jan/2024:00:00:00 +0000", "01/Jan/2024:00:00:00+00000",
])  # fmt: skip
def test_times_that_do_not_exist(text: str) -> None:
    assert parse_log_times(pa.array([text])) is None


def _logfmt(line: str) -> dict[str, str] | None:
    """Return the fields of a line, character by character; None where it is not logfmt."""
    fields: dict[str, str] = {}
    some = False
    for word in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^ "]|")+', line):
        key, sign, value = word.partition("=")
        if '"' in key:
            return None
        some |= bool(sign)
        if not sign:
            fields[key] = "true"
        elif '"' not in value:
            fields[key] = value
        elif re.fullmatch(r'"(?:[^"\\]|\\.)*"', value):
            fields[key] = json.loads(value)
        else:
            return None
    return fields if some else None


_WORD = st.sampled_from(
    ["a", "b", "ab", "a=", "b=1", 'b="x y"', 'ab="\\"="', 'a="', 'a=x"y"', "c=é", "=2", 'a=""', 'b="\\\\"']
)


@given(st.lists(st.lists(_WORD, max_size=4).map(" ".join), min_size=1, max_size=8))
def test_logfmt_as_read_by_characters(lines: list[str]) -> None:
    names = ("a", "b", "ab", "c", "")
    split = LogfmtSplitter(names, closed=False).split(pa.array(lines, pa.string()), names)
    for row, line in enumerate(lines):
        wanted = _logfmt(line)
        if not line:
            assert row not in split.bad
        elif wanted is None or len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2:
            assert row in split.bad, line
        else:
            assert row not in split.bad, (line, split.bad)
            assert {n: split.texts[n][row].as_py() for n in names} == {n: wanted.get(n) for n in names}


def test_rows_by_number_and_conditions(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(f"k{i} {i}\n\n" for i in range(5000)))
    read = mf.read_text(path, pattern=r"^(?P<k>\S+) (?P<n>\d+)$")
    assert read.take([4999, 3]).to_pylist() == [{"k": "k4999", "n": 4999}, {"k": "k3", "n": 3}]
    assert len(read) == 5000
    assert read.filter(mf.col("k") == "k77").to_arrow().to_pylist() == [{"k": "k77", "n": 77}]
    assert read.filter(mf.col("n") == 78).to_arrow().to_pylist() == [{"k": "k78", "n": 78}]
    assert read.filter(mf.col("n") > 4998).count() == 1


def test_what_a_condition_leaves_out_is_not_split(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a 1\n\nb\nc 2\nc\n")
    read = mf.read_text(path, pattern=r"^(?P<k>\S) (?P<n>\d)$", schema="k:string,n:int64")
    assert read.filter(mf.col("k") == "a").to_arrow().to_pylist() == [{"k": "a", "n": 1}]
    with pytest.raises(mf.BadRecordError, match="line 5, record 3, byte offset 11"):
        read.filter(mf.col("k") == "c").to_arrow()
    with pytest.raises(mf.BadRecordError, match="line 3, record 1, byte offset 5"):
        mf.read_text(
            path, pattern=r"^(?P<k>\S) (?P<n>\d)$", schema="k:string,n:int64", validate="all"
        ).filter(mf.col("k") == "a").to_arrow()


def test_sql_and_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "x.log.gz"
    path.write_bytes(gzip.compress(b"level=info ms=1\nlevel=warn ms=20\n"))
    found = mf.sql(
        f"SELECT sum(ms) AS s FROM read_text('{path}', pattern => 'logfmt', schema => {{'ms': 'int32'}})"
    )
    assert found.to_arrow().to_pylist() == [{"s": 21}]


@pytest.mark.parametrize(("options", "message"), [
    ({"pattern": "common", "on_new_field": "ignore"}, "on_new_field is for pattern='logfmt' and 'json'"),
    ({"pattern": "json", "null": "-"}, "null is not for pattern='json'"),
    ({"pattern": "common", "null": {"host": "-"}}, "null by column is for csv"),
    ({"null": "-"}, "null is for text with pattern="),
    ({"schema": "a:int64"}, "text without pattern= has one column"),
    ({"pattern": "(?P<a>x)", "schema": {"a": pa.duration("s")}}, "can't be read as"),
])  # fmt: skip
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = tmp_path / "x.log"
    path.write_text("x\n")
    with pytest.raises(mf.ConfigError, match=re.escape(message)):
        mf.read_text(path, **options)  # type: ignore[arg-type]
