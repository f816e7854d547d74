"""Values of CSV in other spellings: as Python's strptime, DuckDB, Polars and pandas read them."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, ConfigError
from mmflow.formats import from_spec, open_format
from mmflow.formats.csv.strptime import parse_moment, time_format
from mmflow.formats.csv.styles import ValueStyles, style_option

# Where no number follows another one at once, as Python's own parser takes them.
FORMATS = ["%d/%m/%Y", "%m-%d-%Y", "%d.%m.%y", "%Y-%m-%d %H:%M:%S", "%d %b %Y %I:%M %p", "%B %d, %Y", "%Y/%j", "%d/%m/%Y %H:%M:%S.%f",
           "%Y-%m-%dT%H:%M:%S%z", "%a %d %b %Y", "%Y%m%d", "%Y%m%d%H%M%S"]  # fmt: skip


@given(
    moment=st.datetimes(timezones=st.just(dt.UTC)),
    form=st.sampled_from(FORMATS),
    at=st.integers(0, 30),
    what=st.sampled_from(["", "", "0", "1", "3", "9", "/", "x"]),
    drops=st.booleans(),
)
def test_moments_are_those_of_python(moment: dt.datetime, form: str, at: int, what: str, drops: bool) -> None:
    text = moment.strftime(form)
    if drops:
        text = text[:at] + what + text[at + 1 :]
    try:
        wanted = dt.datetime.strptime(text, form)
    except ValueError:
        wanted = None
    found = parse_moment(text, time_format(form))
    if found is None:
        # Numbers that touch have all their digits here; and a time zone ends behind its minutes.
        assert wanted is None or "%Y%m" in form or ("%z" in form and text.count(":") > 3) or "\u0660" in text
        return
    if wanted is None and len(found.fraction) > 6:
        return  # Python has microseconds at most
    assert wanted is not None
    assert dt.date(1970, 1, 1) + dt.timedelta(days=found.days) == wanted.date()
    clock = wanted.hour * 3600 + wanted.minute * 60 + wanted.second
    assert (found.seconds, int(f"{found.fraction:0<6}"[:6])) == (clock, wanted.microsecond)
    offset = wanted.utcoffset()
    assert found.east == (None if offset is None else offset.total_seconds())


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("%d/%m", "a date needs a year"), ("%H:%M %p", "%I and %p go together"), ("%M:%S", "a time needs an hour"), ("%d%", "lone %"),
        ("%d/%m/%Y %y", "the same part twice"), ("%d/%d/%Y", "%d stands twice"), ("%Q", "unknown directive %Q"), ("day", "no directive"),
        ("%s %d", "%s is a whole moment"),
    ],
)  # fmt: skip
def test_formats_that_give_no_moment_are_refused(form: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        time_format(form)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decimal", ";", "must be '.' or ','"), ("thousands", "ab", "must be one character"), ("thousands", "5", "must be one character"),
        ("time_zone", "Mars", "no such time zone"), ("epoch", "ms", "units by column"), ("epoch", {"a": "min"}, "must be one of s, ms, us, ns"),
        ("quoted_null", "maybe", "must be true or false"), ("null", "a,b", "looks like a list"), ("timestamp_format", "%H:%M", "gives no date"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_their_option(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        style_option(key, value)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="decimal and thousands are both ','"):
        ValueStyles.of({"decimal": ",", "thousands": ","})
    with pytest.raises(ConfigError, match="in true_values and in false_values"):
        ValueStyles.of({"true_values": ("y",), "false_values": ("y",)})


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as a program in Europe writes it."""
    draw = random.Random(7)
    path = tmp_path_factory.mktemp("styles") / "odd.csv"
    lines = ["day;moment;amount;grouped;share;local"]
    for _ in range(2000):
        # No hour in which clocks are set.
        day = dt.datetime(1990, 1, 1) + dt.timedelta(days=draw.randrange(12_000))
        moment = day + dt.timedelta(seconds=draw.randrange(5 * 3600, 86400))
        amount = f"{draw.uniform(-1e4, 1e4):.{draw.randrange(1, 9)}f}".replace(".", ",")
        grouped = f"{draw.uniform(-1e7, 1e7):,.2f}".translate(str.maketrans(",.", ".,"))
        local = dt.datetime(2024, 3, 11) + dt.timedelta(minutes=draw.randrange(70 * 1440))
        share = repr(draw.random()).replace(".", ",")
        lines.append(
            f"{moment:%d.%m.%Y};{moment:%d/%m/%Y %H:%M:%S};{amount};{grouped};{share};{local:%Y-%m-%d %H:%M:%S}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


OPTIONS: dict[str, Any] = {
    "delimiter": ";", "decimal": ",", "thousands": ".", "date_format": "%d.%m.%Y", "time_zone": "America/New_York",
    "timestamp_format": {"moment": "%d/%m/%Y %H:%M:%S"},
}  # fmt: skip


@pytest.fixture(scope="module")
def ours(odd: Path) -> pa.Table:
    return mf.read_csv(odd, **OPTIONS).to_arrow()


def test_types_are_inferred_in_the_style(ours: pa.Table) -> None:
    utc = pa.timestamp("us", "UTC")
    assert ours.schema.types == [pa.date32(), utc, pa.float64(), pa.float64(), pa.float64(), utc]


def test_duckdb_reads_the_same(odd: Path, ours: pa.Table) -> None:
    theirs = duckdb.sql(
        f"""SELECT day, moment, CAST(replace(amount, ',', '.') AS DOUBLE) amount,
            CAST(replace(replace(grouped, '.', ''), ',', '.') AS DOUBLE) grouped, CAST(replace(share, ',', '.') AS DOUBLE) share
            FROM (SELECT strptime(day, '%d.%m.%Y')::DATE AS day, strptime(moment, '%d/%m/%Y %H:%M:%S') AS moment, amount, grouped, share
            FROM read_csv('{odd}', delim = ';', all_varchar = true))"""
    ).to_arrow_table()
    for name in ("day", "amount", "grouped", "share"):
        assert ours[name].to_pylist() == theirs[name].to_pylist()


def test_polars_reads_the_same(odd: Path, ours: pa.Table) -> None:
    theirs = pl.read_csv(odd, separator=";", decimal_comma=True, schema_overrides={"grouped": pl.String})
    assert ours["amount"].to_pylist() == theirs["amount"].to_list()
    assert ours["share"].to_pylist() == theirs["share"].to_list()
    assert ours["day"].to_pylist() == theirs["day"].str.to_date("%d.%m.%Y").to_list()
    for name, form in (("moment", "%d/%m/%Y %H:%M:%S"), ("local", "%Y-%m-%d %H:%M:%S")):
        moments = theirs[name].str.to_datetime(form, time_unit="us")
        zoned = moments.dt.replace_time_zone("America/New_York", ambiguous="null", non_existent="null")
        wanted = zoned.dt.convert_time_zone("UTC").to_list()
        assert ours[name].to_pylist() == wanted


def test_pandas_reads_the_same(odd: Path, ours: pa.Table) -> None:
    theirs = pd.read_csv(odd, sep=";", decimal=",", thousands=".", engine="python")
    assert ours["grouped"].to_pylist() == theirs["grouped"].tolist()
    assert ours["share"].to_pylist() == theirs["share"].tolist()


def test_conditions_reach_the_kernel_in_the_style(odd: Path, ours: pa.Table) -> None:
    read = mf.read_csv(odd, **OPTIONS)
    day = dt.date(2000, 1, 1)
    found = (
        read.filter((mf.col("day") < mf.lit(day)) & (mf.col("grouped") > mf.lit(2.5e6)))
        .select("share")
        .to_arrow()
    )
    wanted = [
        row["share"]
        for row in ours.select(["day", "grouped", "share"]).to_pylist()
        if row["day"] < day and row["grouped"] > 2.5e6
    ]
    assert found["share"].to_pylist() == wanted
    assert wanted


def test_a_spec_gives_the_same_format_again(odd: Path) -> None:
    given = {**OPTIONS, "null": {"day": ["-"]}, "epoch": {}, "true_values": ["ja"], "quoted_null": True}
    form = open_format("csv", [str(odd)], **given)
    again = from_spec(form.spec())
    assert again == form
    assert from_spec(again.spec()) == form


def test_options_in_sql_and_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("d;v;w\n31.12.2024;1,5;NA\n01.01.2025;2,5;-\n")
    wanted = [
        {"d": dt.date(2024, 12, 31), "v": 1.5, "w": None},
        {"d": dt.date(2025, 1, 1), "v": 2.5, "w": None},
    ]
    query = f"""SELECT * FROM read_csv('{path}', delimiter => ';', decimal => ',', date_format => {{'d': '%d.%m.%Y'}},
                null => ['NA', '-'])"""
    assert mf.sql(query).to_dicts() == wanted
    options = ["delimiter=;", "decimal=,", 'date_format={"d": "%d.%m.%Y"}', 'null=["NA", "-"]']
    command = [
        sys.executable,
        "-m",
        "mmflow",
        "head",
        str(path),
        "--format",
        "csv",
        *(a for o in options for a in ("--opt", o)),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["d,v,w", "2024-12-31,1.5,", "2025-01-01,2.5,"]


def test_what_is_written_reads_back_whatever_the_style(tmp_path: Path) -> None:
    table = pa.table({"a": [1234.5, None], "d": [dt.date(2024, 12, 31), None], "b": [True, False]})
    mf.from_arrow(table).write_csv(str(tmp_path / "t.csv"), null="NA")
    read = mf.read_csv(
        tmp_path / "t.csv",
        null=["NA", "-"],
        thousands=",",
        date_format="%d.%m.%Y",
        true_values="ja",
        time_zone="Asia/Tokyo",
    )
    assert read.to_arrow().cast(table.schema).equals(table)


def test_a_late_value_in_another_style_names_the_option(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("v;n\n" + "1;1\n" * 200_000 + "1,5;1\n" + "1;1\n" * 200_000)
    with pytest.raises(BadRecordError, match=r"line 200,002, .*set decimal=','"):
        mf.read_csv(path, delimiter=";", schema="v:float64,n:int64").to_arrow()
