"""Files whose values are spelled as in other countries and by other programs."""

import datetime as dt
from decimal import Decimal

from tests.corpus.case import Case, Repeated

_UTC = dt.UTC
_DAY, _LAST = dt.date(2024, 2, 1), dt.date(2024, 12, 31)
_SEMI = {"delimiter": ";"}
_COMMA = {**_SEMI, "decimal": ","}
_EUROPE = {**_COMMA, "thousands": "."}

CASES = [
    # numbers
    Case("decimal commas", Repeated(b"v;n\n", b"1,5;1\n-0,25;2\n"), _COMMA, [{"v": 1.5, "n": 1}, {"v": -0.25, "n": 2}], types={"v": "float64"}),
    Case("decimal commas beside whole numbers", b"v;n\n1;1\n2,5;2\n", _COMMA, [{"v": 1.0, "n": 1}, {"v": 2.5, "n": 2}]),
    Case("decimal commas in quotes of a file of commas", Repeated(b"v,n\n", b'"1,5",1\n'), {"decimal": ","}, [{"v": 1.5, "n": 1}]),
    Case("points in a file of decimal commas are text", b"v;n\n1.5;1\n", _COMMA, [{"v": "1.5", "n": 1}], types={"v": "string"}),
    Case("a point among decimal commas", b"v;n\n1.5;1\n", {**_COMMA, "schema": "v:float64,n:int64"}, error="set decimal='.'"),
    Case("a comma among decimal points", b"v;n\n1,5;1\n", {**_SEMI, "schema": "v:float64,n:int64"}, error="set decimal=','"),
    Case("groups of digits that need two options", b"v;n\n1.234,5;1\n", {**_SEMI, "schema": "v:float64,n:int64"}, error="set decimal=',' and thousands='.'"),
    Case("groups of digits that need one option", b"v;n\n1,234;1\n", {**_SEMI, "schema": "v:int64,n:int64"}, error="set thousands=','"),
    Case("groups of digits by points", Repeated(b"v;n\n", b"1.234.567,89;1.000\n0,5;12\n"), _EUROPE, [{"v": 1234567.89, "n": 1000}, {"v": 0.5, "n": 12}]),
    Case("groups of digits by commas", b'v;n\n1,234,567.25;"1,000"\n', {**_SEMI, "thousands": ","}, [{"v": 1234567.25, "n": 1000}]),
    Case("groups of digits of India", b"v;n\n12,34,567;1\n", {**_SEMI, "thousands": ","}, [{"v": 1234567, "n": 1}]),
    Case("groups of digits by narrow blanks", "v;n\n1\u202f234,5;1\n".encode(), {**_COMMA, "thousands": "\u202f"}, [{"v": 1234.5, "n": 1}]),
    Case("groups of digits by apostrophes", b"v;n\n1'234.5;1\n", {**_SEMI, "thousands": "'"}, [{"v": 1234.5, "n": 1}]),
    Case("a group of two digits is no number", b"v;n\n1.23;1\n", {**_EUROPE, "schema": "v:int64,n:int64"}, error="not a value of type int64"),
    Case("groups of digits in decimals", b"v;n\n1.234,50;1\n", {**_EUROPE, "schema": "v:decimal128(12, 2),n:int64"}, [{"v": Decimal("1234.50"), "n": 1}]),
    Case("a decimal comma with an exponent", b"v;n\n1,5e3;1\n", _COMMA, [{"v": 1500.0, "n": 1}]),
    Case("shares and money are text", b"v,n\n12%,$5\n7%,$6\n", {}, [{"v": "12%", "n": "$5"}, {"v": "7%", "n": "$6"}], types={"v": "string", "n": "string"}),
    Case("leading zeros with groups are text", b"v;n\n007;1\n", _EUROPE, [{"v": "007", "n": 1}], types={"v": "string"}),
    Case("hexadecimal numbers are text", b"v,n\n0x10,1\n", {}, [{"v": "0x10", "n": 1}], types={"v": "string"}),
    Case("integers beyond uint64 are decimals", b"v,n\n18446744073709551616,1\n-1,2\n", {}, [{"v": Decimal(2**64), "n": 1}, {"v": Decimal(-1), "n": 2}], types={"v": "decimal128(38, 0)"}),
    Case("integers of 39 digits are text", b"v,n\n" + b"1" * 39 + b",1\n", {}, [{"v": "1" * 39, "n": 1}]),
    # dates and times
    Case("day first", Repeated(b"d;n\n", b"31/12/2024;1\n1/2/2024;2\n"), {**_SEMI, "date_format": "%d/%m/%Y"}, [{"d": _LAST, "n": 1}, {"d": _DAY, "n": 2}], types={"d": "date32"}),
    Case("month first", b"d,n\n12/31/2024,1\n2/1/2024,2\n", {"date_format": "%m/%d/%Y"}, [{"d": _LAST, "n": 1}, {"d": _DAY, "n": 2}]),
    Case("two formats of dates", b"d,n\n31.12.2024,1\n2024/02/01,2\n", {"date_format": ["%d.%m.%Y", "%Y/%m/%d"]}, [{"d": _LAST, "n": 1}, {"d": _DAY, "n": 2}]),
    Case("formats of dates by column", b"d,e\n31.12.2024,12/31/2024\n", {"date_format": {"d": "%d.%m.%Y", "e": "%m/%d/%Y"}}, [{"d": _LAST, "e": _LAST}]),
    Case("ISO dates beside others", b"d,e\n31.12.2024,2024-12-31\n", {"date_format": "%d.%m.%Y"}, [{"d": _LAST, "e": _LAST}]),
    Case("a date of another format", b"d,n\n31.12.2024,1\n", {"schema": "d:date32,n:int64"}, error="set date_format='%d.%m.%Y'"),
    Case("31 February", b"d,n\n31/02/2024,1\n", {"schema": "d:date32,n:int64", "date_format": "%d/%m/%Y"}, error="not a value of type date32 (value '31/02/2024')"),
    Case("31 February among nulls", b"d,n\n31/02/2024,1\n01/02/2024,2\n", {"schema": "d:date32,n:int64", "date_format": "%d/%m/%Y", "on_bad_record": "null"}, [{"d": None, "n": 1}, {"d": _DAY, "n": 2}]),
    Case("names of months", Repeated(b"d,n\n", b"1-FEB-2024,1\n"), {"date_format": "%d-%b-%Y"}, [{"d": _DAY, "n": 1}]),
    Case("names of weekdays", Repeated(b"d,n\n", b"Thu 01 Feb 2024,1\n"), {"date_format": "%a %d %b %Y"}, [{"d": _DAY, "n": 1}]),
    Case("weeks of the year", Repeated(b"d,n\n", b"2024-W05-4,1\n"), {"date_format": "%G-W%V-%u"}, [{"d": _DAY, "n": 1}]),
    Case("days of the year", b"d,n\n2024-032,1\n", {"date_format": "%Y-%j"}, [{"d": _DAY, "n": 1}]),
    Case("timestamps with halves of a day", b't,n\n"2/1/2024 3:04 PM",1\n', {"timestamp_format": "%m/%d/%Y %I:%M %p"}, [{"t": dt.datetime(2024, 2, 1, 15, 4), "n": 1}], types={"t": "timestamp"}),
    Case("timestamps with offsets", b"t,n\n01.02.2024 03:04:05 +0200,1\n", {"timestamp_format": "%d.%m.%Y %H:%M:%S %z"}, [{"t": dt.datetime(2024, 2, 1, 1, 4, 5, tzinfo=_UTC), "n": 1}]),
    Case("fractions of a second", b"t,n\n01.02.2024 03:04:05.125,1\n", {"timestamp_format": "%d.%m.%Y %H:%M:%S.%f"}, [{"t": dt.datetime(2024, 2, 1, 3, 4, 5, 125000), "n": 1}]),
    Case("times of day", b"t,n\n3:04 PM,1\n", {"timestamp_format": {"t": "%I:%M %p"}}, [{"t": dt.time(15, 4), "n": 1}], types={"t": "time64"}),
    Case("wall time of a zone", Repeated(b"t,n\n", b"2024-07-01 12:00:00,1\n2024-01-01 12:00:00,2\n"), {"time_zone": "Europe/Berlin"},
         [{"t": dt.datetime(2024, 7, 1, 10, tzinfo=_UTC), "n": 1}, {"t": dt.datetime(2024, 1, 1, 11, tzinfo=_UTC), "n": 2}]),
    Case("wall time by a format", b"t,n\n01/07/2024 12:00,1\n", {"time_zone": "Europe/Berlin", "timestamp_format": "%d/%m/%Y %H:%M"}, [{"t": dt.datetime(2024, 7, 1, 10, tzinfo=_UTC), "n": 1}]),
    Case("a wall time that comes twice", b"t,n\n2024-10-27 02:30:00,1\n", {"time_zone": "Europe/Berlin"}, error="this wall time comes twice in Europe/Berlin"),
    Case("a wall time that never was", b"t,n\n2024-03-31 02:30:00,1\n", {"time_zone": "Europe/Berlin"}, error="this wall time never was in Europe/Berlin"),
    Case("epochs", Repeated(b"s,m\n", b"1700000000,1700000000123\n"), {"epoch": {"s": "s", "m": "ms"}},
         [{"s": dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=_UTC), "m": dt.datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=_UTC)}]),
    Case("an epoch that is no timestamp", b"t,n\n1700000000123,1\n", {"schema": "t:timestamp[us],n:int64"}, error="set epoch={'t': 'ms'}"),
    Case("an epoch of a column that is not there", b"t,n\n1,1\n", {"epoch": {"tt": "s"}}, error="epoch names the column 'tt', which there is not; did you mean 't'?"),
    Case("a zone that there is not", b"t,n\n1,1\n", {"time_zone": "Europe/Berln"}, error="did you mean 'Europe/Berlin'?"),
    Case("a directive that there is not", b"t,n\n1,1\n", {"date_format": "%d.%m.%Q"}, error="unknown directive %Q"),
    Case("a format of dates with a time", b"t,n\n1,1\n", {"date_format": "%d.%m.%Y %H:%M"}, error="set timestamp_format="),
    Case("spans of time", b"t,n\n1:30:00,1\n-00:00:01.5,2\n2 days 01:00:00,3\n90000000,4\nPT1H30M,5\n", {"schema": "t:duration[us],n:int64"},
         [{"t": dt.timedelta(hours=1.5), "n": 1}, {"t": dt.timedelta(seconds=-1.5), "n": 2}, {"t": dt.timedelta(days=2, hours=1), "n": 3},
          {"t": dt.timedelta(seconds=90), "n": 4}, {"t": dt.timedelta(hours=1.5), "n": 5}]),
    Case("a span of no time", b"t,n\n1:60:00,1\n", {"schema": "t:duration[us],n:int64"}, error="not a value of type duration"),
    # null and truth
    Case("several texts of null", Repeated(b"a,b\n", b"NA,x\n-,\n3,y\n"), {"null": ["NA", "-", ""]}, [{"a": None, "b": "x"}, {"a": None, "b": None}, {"a": 3, "b": "y"}]),
    Case("texts of null by column", Repeated(b"a,b\n", b"NA,NA\n3,\n"), {"null": {"a": "NA"}}, [{"a": None, "b": "NA"}, {"a": 3, "b": None}]),
    Case("quoted null", Repeated(b"a,b\n", b'"NA","x"\n"3","NA"\n'), {"null": "NA", "quoted_null": True}, [{"a": None, "b": "x"}, {"a": 3, "b": None}]),
    Case("empty quotes as null", b'a,b\n"",x\n3,""\n', {"quoted_null": True}, [{"a": None, "b": "x"}, {"a": 3, "b": None}]),
    Case("a null that is not said", b"a,b\nN/A,1\n", {"schema": "a:int64,b:int64"}, error="set null=['', 'N/A'] if that means null"),
    Case("truth in German", Repeated(b"a,b\n", b"ja,1\nnein,2\n"), {"true_values": ["ja"], "false_values": ["nein"]}, [{"a": True, "b": 1}, {"a": False, "b": 2}], types={"a": "bool"}),
    Case("truth as Y and N beside true", b"a,b\nY,true\nN,false\n", {"true_values": "Y", "false_values": "N"}, [{"a": True, "b": True}, {"a": False, "b": False}]),
    Case("truth that is not said", b"a,b\nyes,1\n", {"schema": "a:bool,b:int64"}, error="set true_values=['yes'] and false_values=['no']"),
]  # fmt: skip
