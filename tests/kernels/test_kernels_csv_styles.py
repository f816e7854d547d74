"""The CSV kernel equals the reference where values are spelled unlike usual, on every instruction set."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.base import Comparison
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.kernel_styles import wall_clock
from mmflow.formats.csv.strptime import time_format
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.csv.styles import ColumnStyle
from mmflow.formats.decoding.kernel_types import KernelDecoder

from .draining import agree, drained
from .guarded import guarded

COMMA = ColumnStyle(decimal=",")
POINTS = ColumnStyle(decimal=",", thousands=".")
BLANKS = ColumnStyle(decimal=",", thousands="\u202f")
COMMAS = ColumnStyle(thousands=",")
BERLIN = ColumnStyle(zone="Europe/Berlin")
US, UTC = pa.timestamp("us"), pa.timestamp("us", "UTC")

NUMBERS = [
    "", "0", "1", "-1", "1,5", "-1,5", "1.5", "1.234", "1.234,5", "-1.234.567,25", "1,234", "1,234.5", "12,34,567", "12.34.567,8",
    "1.23", "1.2345", ".123", "1..234", "1.234.", ",5", "5,", "5.", ".5", ",", ".", "-", "1,5,6", "1,5e3", "1,5E-3", "1e3", "1.234e2",
    "0,1", "0,30000000000000004", "123456,789", "9007199254740993,5", "1,7976931348623157e308", "1,8e308", "4,9e-324", "-0,0", "007",
    "00,5", "1.000.000.000.000.000.000", "18.446.744.073.709.551.615", "1\u202f234,5", "1 234,5", "1'234,5", "nan", "inf", "x", "1,234,567",
    "123,456,789.25", "1234,567.5", "99.999,99", "999,99", "0x10", "+1,5", " 1,5", "1,5 ", "1_000", "123456789,123456789", "1,2 3",
]  # fmt: skip
DATES = ["31/12/2024", "1/2/2024", "01/02/2024", "29/02/2023", "29/02/2024", "31/02/2024", "00/01/2024", "1/13/2024", "01/02/0000",
         "01/02/24", "01-02-2024", "2024-02-01", "31.12.2024", "01/02/20244", "1 /2/2024", "", " 01/02/2024", "01/02/2024 ", "٠١/02/2024"]  # fmt: skip
TIMES = [
    "31/12/2024 10:11:12", "1/2/2024 1:2:3", "31/12/2024 24:00:00", "31/12/2024 23:59:60", "31/12/2024  10:11:12", "31/12/2024T10:11:12",
    "31/12/2024 10:11", "31/12/2024", "30/02/2024 10:11:12", "01/01/0001 00:00:00", "31/12/9999 23:59:59", "31/12/2024 10:11:12.5",
    "31/03/2024 02:30:00", "27/10/2024 02:30:00", "01/01/1850 00:00:00", "",
]  # fmt: skip
NAMED = ["Jan 5 2024 3:04 PM", "jan 05 2024 12:04 am", "Feb 30 2024 1:00 AM", "FEB 29 2024 12:59 pM", "Foo 1 2024 1:00 AM", "May 1 2024 13:00 PM",
         "May 1 2024 0:30 AM", "Mar 1 2024 1:00 XM"]  # fmt: skip
ZONED = ["2024-05-06 07:08:09.123456+0200", "2024-05-06 07:08:09.1-01:30", "2024-05-06 07:08:09.000000000Z", "2024-05-06 07:08:09.1234567+00",
         "2024-05-06 07:08:09.5", "2024-05-06 07:08:09.5+24:00", "2024-05-06 07:08:09.5+02:60", "0001-01-01 00:00:00.0+01:00",
         "9999-12-31 23:59:59.9-01:00", "2024-05-06 07:08:09.+0200"]  # fmt: skip
EPOCHS = ["0", "1700000000", "-1", "1700000000.5", "1700000000123", "253402300799", "253402300800", "-62135596800", "-62135596801", "1e9",
          "99999999999999999999", "007", "", "1.", ".5", "x", "1700000000.123456789"]  # fmt: skip
WALLS = ["2024-01-01 12:00:00", "2024-07-01T12:00:00.25", "2024-03-31 02:30:00", "2024-10-27 02:30:00", "2024-10-27 03:00:00", "2024-01-01", "2024-01-01 12",
         "2024-01-01 12:00", "1850-01-01 00:00:00", "2099-12-31 23:00:00", "2150-06-01 00:00:00", "2024-01-01 12:00:00Z", "2024-01-01 12:00:00+05:00",
         "2024-02-30 00:00:00", "", "x"]  # fmt: skip


def formats(*texts: str) -> ColumnStyle:
    return ColumnStyle(formats=tuple(map(time_format, texts)))


STAMPS = formats("%d/%m/%Y %H:%M:%S")
# Name, type, style, texts, number of texts that the kernel reads by itself at least.
CASES: list[tuple[str, pa.DataType, ColumnStyle, list[str], int]] = [
    ("comma float64", pa.float64(), COMMA, NUMBERS, 12),
    ("comma float32", pa.float32(), COMMA, NUMBERS, 12),
    ("comma decimal", pa.decimal128(15, 2), COMMA, NUMBERS, 7),
    ("points float64", pa.float64(), POINTS, NUMBERS, 14),
    ("points int64", pa.int64(), POINTS, NUMBERS, 5),
    ("points uint64", pa.uint64(), POINTS, NUMBERS, 4),
    ("points int16", pa.int16(), POINTS, NUMBERS, 3),
    ("points decimal", pa.decimal128(18, 2), POINTS, NUMBERS, 7),
    ("blanks float64", pa.float64(), BLANKS, NUMBERS, 12),
    ("commas float64", pa.float64(), COMMAS, NUMBERS, 12),
    ("commas decimal", pa.decimal128(18, 2), COMMAS, NUMBERS, 7),
    ("day first", pa.date32(), formats("%d/%m/%Y"), DATES, 4),
    ("one of two", pa.date32(), formats("%d/%m/%Y", "%d.%m.%Y"), DATES, 5),
    ("two digits", pa.date32(), formats("%d/%m/%y"), DATES, 1),
    ("digits alone", pa.date32(), formats("%Y%m%d"), ["20240131", "20240231", "2024131", "202401311", ""], 1),
    ("day of year", pa.date32(), formats("%Y-%j"), ["2024-366", "2023-366", "2024-1", "2024-000", "2023-365"], 3),
    ("stamps", US, STAMPS, TIMES, 4),
    ("stamps s", pa.timestamp("s"), STAMPS, TIMES, 4),
    ("stamps ns", pa.timestamp("ns"), STAMPS, TIMES, 2),
    ("stamps of a zone", UTC, ColumnStyle(formats=STAMPS.formats, zone="Europe/Berlin"), TIMES, 2),
    ("stamps without their zone", UTC, STAMPS, TIMES, 0),
    ("names", US, formats("%b %d %Y %I:%M %p"), NAMED, 3),
    ("weekdays", pa.date32(), formats("%a, %d %b %Y"), ["Thu, 01 Feb 2024", "thu, 1 feb 2024", "Xxx, 01 Feb 2024", "Thursday, 01 Feb 2024"], 2),
    ("long names", pa.date32(), formats("%d %B %Y"), ["1 May 2024", "1 september 2024", "1 Sep 2024", "32 May 2024"], 2),
    ("offsets", UTC, formats("%Y-%m-%d %H:%M:%S.%f%z"), ZONED, 3),
    ("offsets ns", pa.timestamp("ns", "UTC"), formats("%Y-%m-%d %H:%M:%S.%f%z"), ZONED, 4),
    ("utc", UTC, formats("%Y-%m-%d %H:%M:%S %Z"), ["2024-01-01 00:00:00 UTC", "2024-01-01 00:00:00 gmt", "2024-01-01 00:00:00 CET"], 2),
    ("seconds", UTC, formats("%s"), ["1700000000", "-1", "x", "1.5"], 2),
    ("percent", pa.date32(), formats("%Y%%%m%%%d é"), ["2024%01%31 é", "2024%01%31 e"], 1),
    ("times", pa.time64("us"), formats("%I:%M %p"), ["3:04 PM", "12:00 AM", "0:00 AM", "13:00 PM", "3:60 PM"], 2),
    ("times s", pa.time32("s"), formats("%H.%M"), ["23.59", "24.00", "7.5"], 2),
    ("epoch s", pa.timestamp("s", "UTC"), ColumnStyle(epoch="s"), EPOCHS, 4),
    ("epoch s in us", UTC, ColumnStyle(epoch="s"), EPOCHS, 5),
    ("epoch ms in us", UTC, ColumnStyle(epoch="ms"), EPOCHS, 5),
    ("epoch ms in s", pa.timestamp("s"), ColumnStyle(epoch="ms"), EPOCHS, 0),
    ("epoch ns", pa.timestamp("ns"), ColumnStyle(epoch="ns"), EPOCHS, 5),
    ("walls", UTC, BERLIN, WALLS, 7),
    ("walls ns", pa.timestamp("ns", "UTC"), BERLIN, WALLS, 5),
    ("truth", pa.bool_(), ColumnStyle(true_values=("ja", "1"), false_values=("nein", "")), ["ja", "nein", "1", "0", "true", "False", "x", "", "Ja"], 5),
    ("own nulls", pa.int64(), ColumnStyle(nulls=("-", "n/a")), ["-", "n/a", "5", "", "--"], 3),
    ("own nulls of text", pa.string_view(), ColumnStyle(nulls=("-", "")), ["-", "n/a", "5", "", "--"], 5),
]  # fmt: skip


def both(text: bytes, types: CsvTypes, *, policy: Literal["error", "null", "skip"] = "null", side: Literal["front", "back"] = "back") -> None:  # fmt: skip
    dialect = Dialect(b";")
    agree(
        CsvDecoder(("v",), types, dialect, policy),
        lambda: csv_decoder(("v",), types, dialect, policy),
        guarded(text, side),
        len(text),
        final=True,
    )


@pytest.mark.parametrize(("name", "kind", "style", "texts", "least"), CASES, ids=[c[0] for c in CASES])
def test_values_at_the_edges_of_a_style(
    name: str, kind: pa.DataType, style: ColumnStyle, texts: list[str], least: int
) -> None:
    exact = name not in ("comma float32", "points decimal", "blanks float64", "points int16", "truth")
    types = CsvTypes(("v", "n"), {"v": kind, "n": pa.int64()}, ("",), exact, False, {"v": style})
    forms = [form for text in texts for form in (text, f'"{text}"')]
    both("".join(f"{form};1\n" for form in forms).encode(), types)
    decoder = csv_decoder(("v",), types, Dialect(b";"), "null")
    assert isinstance(decoder, KernelDecoder)
    kernel = decoder._reader(False)
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        read = 0
        for text in texts:
            data = guarded(f"{text};1\n".encode(), "back")
            read += kernel.decode(data.address, data.size, 1, True, data)[0] == 0
        assert read >= least, isa


_STYLES = st.sampled_from([COMMA, POINTS, BLANKS, COMMAS, ColumnStyle(thousands="'")])


@given(
    values=st.lists(st.text("0123456789.,'\u202f-e", max_size=14), min_size=1, max_size=8),
    style=_STYLES,
    kind=st.sampled_from([pa.float64(), pa.float32(), pa.int64(), pa.uint8(), pa.decimal128(12, 3)]),
    exact=st.booleans(),
)
def test_any_text_as_a_number(values: list[str], style: ColumnStyle, kind: pa.DataType, exact: bool) -> None:
    types = CsvTypes(("n", "v"), {"v": kind, "n": pa.int64()}, ("",), exact, False, {"v": style})
    both("".join(f"1;{value}\n" for value in values).encode(), types)


@given(value=st.floats(allow_nan=False, allow_infinity=False), groups=st.booleans())
def test_floats_are_correctly_rounded_with_a_comma(value: float, groups: bool) -> None:
    kinds = {"v": pa.float64()}
    for text in (repr(value), f"{value:,.3f}", f"{value:.17e}"):
        spelled = text.translate(str.maketrans(".,", ",."))
        for style in (POINTS, COMMA) if groups or "." not in spelled else (POINTS,):
            decoder = csv_decoder(
                ("v",), CsvTypes(("v",), kinds, ("",), styles={"v": style}), Dialect(b";"), "null"
            )
            rows = drained(decoder, guarded(f"{spelled}\n".encode(), "back"), len(spelled) + 1, final=True)[0]
            wanted = None if style is COMMA and "." in spelled else float(text.replace(",", "")).hex()
            assert rows[0][0] == wanted


_FORMATS = ["%d/%m/%Y", "%Y%m%d", "%d.%m.%y", "%b %d, %Y", "%d %B %Y", "%Y-%j", "%d/%m/%Y %H:%M:%S.%f", "%m-%d-%Y %I:%M %p",
            "%Y-%m-%dT%H:%M:%S%z", "%y%m%d%H%M%S", "%A %d %B %Y"]  # fmt: skip


@given(
    moments=st.lists(st.datetimes(min_value=dt.datetime(1000, 1, 1), timezones=st.just(dt.UTC)), min_size=1, max_size=6),
    form=st.sampled_from(_FORMATS),
    mutation=st.tuples(st.integers(0, 30), st.sampled_from(["", "0", "9", "/", " ", "x", "-"])),
    zone=st.sampled_from(["", "America/New_York"]),
)  # fmt: skip
def test_moments_and_near_misses(
    moments: list[dt.datetime], form: str, mutation: tuple[int, str], zone: str
) -> None:
    texts = [moment.strftime(form) for moment in moments]
    at, what = mutation
    texts.append(texts[0][:at] + what + texts[0][at + 1 :])
    compiled = time_format(form)
    kind = UTC if compiled.zoned or zone else US
    style = ColumnStyle(formats=(compiled,), zone=zone)
    types = CsvTypes(("n", "v"), {"v": kind}, ("",), False, False, {"v": style})
    both("".join(f"1;{text}\n" for text in texts).encode(), types)


@pytest.mark.parametrize("text", ["NA", '"NA"', '""', "", '"N""A"', "x"])
def test_nulls_in_quotes(text: str) -> None:
    for nulls in (("NA", ""), ('N"A', "NA")):
        types = CsvTypes(("v", "n"), {"v": pa.string_view(), "n": pa.int64()}, nulls, False, True)
        data = f"{text};1\n".encode()
        decoder = csv_decoder(("v",), types, Dialect(b";"), "null")
        wanted = drained(
            CsvDecoder(("v",), types, Dialect(b";"), "null"), guarded(data, "back"), len(data), final=True
        )
        assert drained(decoder, guarded(data, "back"), len(data), final=True) == wanted


@pytest.mark.parametrize(
    ("kind", "style", "texts", "condition", "kept"),
    [
        (pa.float64(), POINTS, ["1.234,5", "2,5", "7", "-1.000.000,0"], Comparison("v", "gt", 2.5), 3),
        (pa.int64(), POINTS, ["1.234", "2", "7", "-1.000.000"], Comparison("v", "gt", 6), 2),
        (pa.date32(), formats("%d/%m/%Y"), ["31/12/2024", "1/1/2024", "02/01/2024"], Comparison("v", "eq", dt.date(2024, 1, 1)), 1),
        (pa.date32(), formats("%d %b %Y"), ["31 dec 2024", "1 Jan 2024"], Comparison("v", "ge", dt.date(2024, 6, 1)), 1),
        (pa.string_view(), ColumnStyle(nulls=("x",)), ["x", "y", "x"], Comparison("v", "is_not_null", None), 1),
    ],
)  # fmt: skip
def test_conditions_are_tested_in_the_style(
    kind: pa.DataType, style: ColumnStyle, texts: list[str], condition: Comparison, kept: int
) -> None:
    types = CsvTypes(("v", "n"), {"v": kind, "n": pa.int64()}, ("",), True, False, {"v": style})
    data = "".join(f"{text};1\n" for text in texts * 50).encode()
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        decoder = csv_decoder(("n",), types, Dialect(b";"), "error", prune=[condition])
        assert isinstance(decoder, KernelDecoder)
        rows = drained(decoder, guarded(data, "back"), len(data), final=True)[0]
        assert len(rows) == kept * 50


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Africa/Casablanca", "Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Dublin", "UTC"])  # fmt: skip
def test_the_table_of_a_zone_is_that_of_python(zone: str) -> None:
    starts, offsets = (np.frombuffer(part, np.int64) for part in wall_clock(zone))
    assert (np.diff(starts) > 0).all()
    place, epoch = zoneinfo.ZoneInfo(zone), dt.datetime(1970, 1, 1)
    around = np.unique(np.concatenate([starts[1:-1] + shift for shift in (-86400, -1, 0, 1, 1800, 86400)]))
    for second in around[:: 1 + len(around) // 1500].tolist():
        if not starts[0] <= second < starts[-1]:
            continue
        wall = (epoch + dt.timedelta(seconds=second)).replace(tzinfo=place)
        first, last = (wall.replace(fold=fold).utcoffset() for fold in (0, 1))
        assert first is not None
        wanted = int(first.total_seconds()) if first == last else None
        found = int(offsets[np.searchsorted(starts, second, side="right") - 1])
        assert (None if found == -(1 << 63) else found) == wanted, second
