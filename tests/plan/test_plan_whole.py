"""Parts of queries that run whole: the rows of both readers of Parquet, which files DataFusion gets, and when."""

from __future__ import annotations

import datetime as dt
import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import mmflow as mf

DIRECT = "by DataFusion"


@pytest.fixture(scope="module")
def whole() -> Iterator[mf.Session]:
    """A session in which nothing says how work is cut."""
    with mf.Session(workers=2) as session:
        yield session


@pytest.fixture(scope="module")
def cut() -> Iterator[mf.Session]:
    """A session that cuts files into shards, which pyarrow reads."""
    with mf.Session(workers=2, shard_size="4KiB", partitions=2) as session:
        yield session


# ---- the same rows by both readers ------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A type of a column, its values, and how SQL writes one."""

    type: pa.DataType
    values: st.SearchStrategy[Any]

    def literal(self, value: Any) -> str:
        match value:
            case bool():
                return str(value).lower()
            case float():
                return f"arrow_cast('{value!r}', 'Float64')"
            case str():
                return "'" + value.replace("'", "''") + "'"
            case dt.datetime():
                return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
            case dt.date():
                return f"DATE '{value}'"
            case Decimal():
                return f"arrow_cast('{value}', 'Decimal128({self.type.precision}, {self.type.scale})')"
        return f"arrow_cast('{value}', '{str(self.type).capitalize().replace('Uint', 'UInt')}')"


def _decimals(precision: int, scale: int) -> Kind:
    most = 10**precision - 1
    numbers = st.sampled_from([0, 1, -1, 250, most, -most]) | st.integers(-most, most)
    return Kind(
        pa.decimal128(precision, scale),
        numbers.map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale))),
    )


_TIMES = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
_FLOATS = st.sampled_from([-1.5, -0.0, 0.0, 1.5, math.inf, -math.inf, math.nan])
_TEXT = st.sampled_from(["", "a", "ab", "é", "it's", "z" * 70, "z" * 70 + "a", "\U0010ffff"]) | st.text(
    max_size=20
)
KINDS = {
    "i8": Kind(pa.int8(), st.integers(-128, 127)),
    "i64": Kind(pa.int64(), st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)),
    "u32": Kind(pa.uint32(), st.integers(0, 3) | st.integers(0, 2**32 - 1)),
    "u64": Kind(pa.uint64(), st.integers(0, 3) | st.integers(0, 2**64 - 1)),
    "f32": Kind(pa.float32(), _FLOATS),
    "f64": Kind(pa.float64(), _FLOATS),
    "bool": Kind(pa.bool_(), st.booleans()),
    "date": Kind(pa.date32(), st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
    "d5": _decimals(5, 2),
    "d15": _decimals(15, 2),
    "d38": _decimals(38, 6),
    "ms": Kind(pa.timestamp("ms"), _TIMES.map(lambda t: t.replace(microsecond=1000))),
    "us": Kind(pa.timestamp("us"), _TIMES),
    "ns": Kind(pa.timestamp("ns"), _TIMES),
    "text": Kind(pa.string(), _TEXT.filter(lambda t: "\0" not in t)),
    "large": Kind(pa.large_string(), st.sampled_from(["", "b", "long text of more than twelve bytes"])),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table of some columns whose values repeat, so that there are groups, pages and dictionaries of all kinds."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(0, 400))
    seed = random.Random(draw(st.integers(0, 1000)))
    columns = {}
    for name in names:
        few = draw(st.lists(st.none() | KINDS[name].values, min_size=1, max_size=6))
        ordered = draw(st.booleans())
        numbers = [n * len(few) // max(1, rows) if ordered else seed.randrange(len(few)) for n in range(rows)]
        columns[name] = pa.array([few[n] for n in numbers], KINDS[name].type)
    return pa.table(columns)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Options of the writer."""
    return {
        "row_group_size": draw(st.sampled_from([1, 7, 50, 1000])),
        "data_page_size": draw(st.sampled_from([1, 100, 1 << 20])),
        "write_batch_size": draw(st.sampled_from([1, 10, 1024])),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "compression": draw(st.sampled_from(["none", "snappy", "gzip", "brotli", "zstd", "lz4"])),
        "use_dictionary": draw(st.booleans()),
        "write_page_index": draw(st.booleans()),
        "write_statistics": draw(st.booleans()),
        "store_schema": draw(st.booleans()),
        "store_decimal_as_integer": draw(st.booleans()),
        "version": draw(st.sampled_from(["2.4", "2.6"])),
    }


@st.composite
def filters(draw: st.DrawFn, table: pa.Table) -> str:
    """A condition over columns of a table and values in it."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(table.column_names))
        kind = KINDS[name]
        present = [v for v in table[name].unique().to_pylist() if v is not None]
        one = st.sampled_from(present) | kind.values if present else kind.values
        if name == "ns":
            one = kind.values
        values = [kind.literal(draw(one)) for _ in range(2)]
        op = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "in", "between", "null", "not null"]))
        match op:
            case "in":
                parts.append(f"{name} IN ({', '.join(values)})")
            case "between":
                parts.append(f"{name} BETWEEN {values[0]} AND {values[1]}")
            case "null" | "not null":
                parts.append(f"{name} IS {op.upper()}")
            case _:
                parts.append(f"{name} {op} {values[0]}")
    joined = draw(st.sampled_from([" AND ", " OR "])).join(parts)
    return f"WHERE {joined}" if parts else ""


def _rows(table: pa.Table) -> Counter[str]:
    """Rows, each NaN and each zero as it is."""
    return Counter(map(repr, zip(*(c.cast(c.type).to_pylist() for c in table.columns), strict=True)))


@given(data=st.data(), table=tables(), layout=layouts(), several=st.booleans())
@settings(
    phases=[
        Phase.reuse,
        Phase.generate,
    ],  # each example writes files and runs queries: to shrink one takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_both_readers_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory,
    whole: mf.Session,
    cut: mf.Session,
    data: st.DataObject,
    table: pa.Table,
    layout: dict[str, Any],
    several: bool,
) -> None:
    folder = tmp_path_factory.mktemp("both")
    pq.write_table(table, folder / "a.parquet", **layout)
    if several:
        # Other columns in another order: they are found by name.
        other = table.append_column("more", pa.nulls(len(table), pa.int8()))
        same = {k: layout[k] for k in ("version", "store_schema")}  # of which the types of columns depend
        layout = data.draw(layouts()) | same
        pq.write_table(other.select(other.column_names[::-1]), folder / "b.parquet", **layout)
    names = ", ".join(table.column_names)
    query = f"SELECT {names}, count(*) AS n FROM t {data.draw(filters(table))} GROUP BY {names}"
    made = []
    for session in (whole, cut):
        t = session.read_parquet(str(folder / "*.parquet"), extra_columns="ignore")
        ds = session.sql(query, t=t)
        # Statistics decide of decimals and text (`test_files_that_pyarrow_reads`).
        sure = not any(name in ("text", "large") or name.startswith("d") for name in table.column_names)
        explained = ds.explain()
        if (session is cut or sure) and "  reads " in explained:  # not where the filter contradicts itself
            assert (DIRECT in explained) == (session is whole)
        made.append(ds.to_arrow())
    assert made[0].schema == made[1].schema
    assert _rows(made[0]) == _rows(made[1])


@pytest.mark.parametrize(
    ("condition", "counts"), [("v > 5", [1]), ("v = 1.5", [2]), ("v <> 1.5", [1]), ("v >= 1.6", [1])]
)
def test_nan_is_found_though_statistics_leave_it_out(
    tmp_path: Path, whole: mf.Session, condition: str, counts: list[int]
) -> None:
    """With its statistics, DataFusion 55 takes the column for 1.5 in all rows."""
    path = _write(tmp_path / "t.parquet", pa.table({"v": [1.5, math.nan, 1.5]}))
    query = f"SELECT v, count(*) AS n FROM t WHERE {condition} GROUP BY v"
    ds = whole.sql(query, t=whole.read_parquet(path))
    assert DIRECT in ds.explain()
    assert ds.to_arrow()["n"].to_pylist() == counts


# ---- groups that a join drops are not made ------------------------------------------------------------

JOINED = {
    "inner": "SELECT p.k, s.n, s.v FROM p JOIN ({groups}) s ON p.k = s.k WHERE {few} ORDER BY p.k",
    "other side": "SELECT p.k, s.n, s.v FROM ({groups}) s JOIN p ON p.k = s.k WHERE {few} ORDER BY p.k",
    "left": "SELECT q.k, s.n, s.v FROM (SELECT k FROM p WHERE {few}) q LEFT JOIN ({groups}) s ON q.k = s.k ORDER BY q.k",
    "semi": "SELECT k, g FROM p WHERE {few} AND EXISTS (SELECT 1 FROM ({groups}) s WHERE s.k = p.k AND s.n > p.g) ORDER BY k",
    "correlated": (
        "SELECT count(*) AS n, sum(t.v) AS v FROM t, p WHERE p.k = t.k AND {few}"
        " AND t.v < (SELECT 2 * min(v) FROM t WHERE k = p.k)"
    ),
    "through joins": (
        "SELECT p.k, s.n FROM p JOIN t ON p.k = t.k JOIN ({groups}) s ON s.k = t.k WHERE {few} ORDER BY p.k, s.n"
    ),
}
MADE_GROUPS = "SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k"


def _large_and_small(folder: Path, keys: pa.Array, seed: int = 0) -> dict[str, str]:
    """A table of 4,000 rows, and one of 40, whose keys are some of `keys`."""
    chosen = random.Random(seed)
    large = pa.table(
        {
            "k": keys.take([chosen.randrange(len(keys)) for _ in range(4_000)]),
            "v": pa.array([chosen.randrange(100) for _ in range(4_000)], pa.int32()),
        }
    )
    small = pa.table(
        {
            "k": keys.take([chosen.randrange(len(keys)) for _ in range(40)]),
            "g": pa.array([chosen.randrange(4) for _ in range(40)], pa.int32()),
        }
    )
    pq.write_table(large, folder / "t.parquet", row_group_size=500)
    pq.write_table(small, folder / "p.parquet")
    return {"t": str(folder / "t.parquet"), "p": str(folder / "p.parquet")}


_KEYS = {
    "integers": pa.array([*range(200), None]),
    "text": pa.array([*(f"key {i}" for i in range(200)), "", None]),
    "decimals": pa.array([*(Decimal(i) / 4 for i in range(200)), None], pa.decimal128(9, 2)),
}


@pytest.mark.parametrize("how", JOINED)
@pytest.mark.parametrize("keys", _KEYS)
def test_groups_that_a_join_drops_are_not_made(
    tmp_path: Path, whole: mf.Session, cut: mf.Session, how: str, keys: str
) -> None:
    paths = _large_and_small(tmp_path, _KEYS[keys], seed=len(how))
    for few in ("p.g = 1", "p.g IN (0, 3)", "p.g = 9"):
        query = JOINED[how].format(groups=MADE_GROUPS, few=few if how != "left" else few.removeprefix("p."))
        made = {}
        for name, session in (("whole", whole), ("cut", cut)):
            ds = session.sql(query, **{n: session.read_parquet(p) for n, p in paths.items()})
            assert ("left semi join, aggregate" in ds.explain()) == (name == "whole")
            made[name] = ds.to_arrow()
        with duckdb.connect() as peer:
            for name, path in paths.items():
                peer.execute(f"CREATE VIEW {name} AS SELECT * FROM '{path}'")
            expected = peer.sql(query).to_arrow_table()
        assert _rows(made["whole"]) == _rows(made["cut"]) == _rows(expected.cast(made["whole"].schema))


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        (JOINED["inner"].format(groups=MADE_GROUPS, few="p.g > 1"), "integers"),  # many rows may pass
        (JOINED["inner"].format(groups=MADE_GROUPS, few="p.g = 1 AND random() < 2"), "integers"),
        (
            f"SELECT t2.k, s.n FROM t t2 JOIN ({MADE_GROUPS}) s ON t2.k = s.k WHERE t2.v = 1 ORDER BY t2.k",
            "integers",
        ),  # as large as what is grouped
        (
            f"SELECT q.k, s.n FROM ({MADE_GROUPS}) s LEFT JOIN (SELECT k FROM p WHERE g = 1) q ON q.k = s.k ORDER BY q.k",
            "integers",
        ),  # keeps all groups
        (
            f"SELECT p.k, s.n FROM p JOIN ({MADE_GROUPS}) s ON p.k IS NOT DISTINCT FROM s.k WHERE p.g = 1 ORDER BY p.k",
            "integers",
        ),
        (JOINED["inner"].format(groups=MADE_GROUPS, few="p.g = 1"), "floats"),  # -0.0 and 0.0 are one group
    ],
)
def test_groups_that_a_join_may_want_are_made(
    tmp_path: Path, whole: mf.Session, cut: mf.Session, query: str, keys: str
) -> None:
    some = _KEYS.get(keys, pa.array([*(i / 2 for i in range(200)), 0.0, -0.0, None]))
    paths = _large_and_small(tmp_path, some)
    rows = []
    for session in (whole, cut):
        ds = session.sql(query, **{n: session.read_parquet(p) for n, p in paths.items() if f" {n} " in query})
        assert "semi join" not in ds.explain()
        rows.append(sorted(map(repr, ds.to_arrow().to_pylist())))
    assert rows[0] == rows[1]


# ---- what runs whole, and why other parts don't -----------------------------------------------------

GROUPS = "SELECT k, count(*) AS n FROM t GROUP BY k"


def _write(path: Path, table: pa.Table | None = None, **options: Any) -> str:
    whole = pa.table(
        {"k": [1, 2, 2, None], "v": [0.5, 1.5, -0.0, 2.5], "d": pa.array([1, 2, 3, 4], pa.int32())}
    )
    pq.write_table(whole if table is None else table, path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("query", "whole_"),
    [
        (GROUPS, True),
        (
            "SELECT k, sum(d), avg(d), min(v), max(v) FROM t GROUP BY k",
            False,
        ),  # avg of integers is one of floats
        ("SELECT k, sum(d), min(v), max(v), count(DISTINCT d) FROM t GROUP BY k ORDER BY k LIMIT 2", True),
        ("SELECT DISTINCT k FROM t", True),
        ("SELECT count(k) AS n FROM t WHERE d > (SELECT sum(d) / 4 FROM t)", True),
        ("SELECT a.k, count(*) AS n FROM t a JOIN t b ON a.k = b.k GROUP BY a.k", True),
        ("SELECT a.k FROM t a LEFT JOIN t b ON a.k = b.d ORDER BY a.k", True),
        ("SELECT count(*) AS n FROM t WHERE k NOT IN (SELECT d FROM t)", True),
        ("SELECT count(*) AS n FROM t", False),
        ("SELECT max(d) FROM t", False),
        (
            "SELECT max(k) FROM (SELECT k, sum(d) AS s FROM t GROUP BY k)",
            True,
        ),  # of what the part below gives
        ("SELECT max(s) FROM (SELECT k, sum(d) AS s FROM t GROUP BY k) WHERE k > 0", True),
        ("SELECT k FROM t WHERE d > 1", False),
        ("SELECT k FROM t ORDER BY k", False),
        ("SELECT k, sum(v) FROM t GROUP BY k", False),
        ("SELECT k, array_agg(d ORDER BY d) FROM t GROUP BY k", False),
        ("SELECT k, count(*) FROM (SELECT k FROM t LIMIT 3) GROUP BY k", False),
        (
            "SELECT k, count(*) FROM (SELECT k, rank() OVER (ORDER BY d) AS r FROM t) WHERE r < 3 GROUP BY k",
            False,
        ),
        ("SELECT k, count(*) FROM (SELECT k FROM t UNION ALL SELECT d FROM t) GROUP BY k", False),
    ],
)
def test_parts_that_run_whole(
    tmp_path: Path, whole: mf.Session, cut: mf.Session, query: str, whole_: bool
) -> None:
    path = _write(tmp_path / "t.parquet")
    made = []
    for session in (whole, cut):
        ds = session.sql(query, t=session.read_parquet(path))
        assert (DIRECT in ds.explain()) == (whole_ and session is whole)
        made.append(ds.to_arrow())
    assert made[0].schema == made[1].schema
    if "array_agg" not in query:
        assert _rows(made[0]) == _rows(made[1])


def _times(unit: str) -> pa.Table:
    return pa.table({"k": pa.array([dt.datetime(2024, 1, 1)], pa.timestamp(unit))})


def _one(values: list[Any], kind: pa.DataType) -> pa.Table:
    return pa.table({"k": pa.array(values, kind)})


@pytest.mark.parametrize(
    ("name", "table", "options", "why"),
    [
        ("checksums", None, {"write_page_checksum": True}, "its pages have checksums"),
        ("int96", _times("us"), {"use_deprecated_int96_timestamps": True}, "'k' has INT96 timestamps"),
        ("dictionary", _one(["a"], pa.dictionary(pa.int8(), pa.string())), {}, "'k' is dictionary"),
        ("zone", _one([0], pa.timestamp("us", "UTC")), {}, "'k' is timestamp"),
        ("nested", _one([[1]], pa.list_(pa.int8())), {}, "'k' is list"),
        ("binary", _one([b"a"], pa.binary()), {}, "'k' is binary"),
        ("half", _one([1.5], pa.float16()), {}, "'k' is halffloat"),
        ("time", _one([dt.time(1)], pa.time64("us")), {}, "'k' is time64"),
        (
            "decimal", _one([Decimal(1)], pa.decimal128(9, 2)), {"write_statistics": False},
            "'k' has no statistics that show that its decimals fit",
        ),
        ("path [1]", None, {}, "its path has characters"),
        ("long", _one(["x" * 40], pa.string()), {}, "'k' has statistics that may be cut short"),
    ],
)  # fmt: skip
def test_files_that_pyarrow_reads(
    tmp_path: Path, whole: mf.Session, name: str, table: pa.Table | None, options: dict[str, Any], why: str
) -> None:
    path = _write(tmp_path / f"{name}.parquet", table, **options)
    ds = whole.sql(GROUPS, t=whole.read_parquet(path.replace("[", "[[]")))
    explained = ds.explain()
    assert DIRECT not in explained
    assert why in explained
    assert sum(ds.to_arrow()["n"].to_pylist()) == (4 if table is None else 1)


def test_decimals_beyond_their_digits_are_an_error_as_ever(tmp_path: Path, whole: mf.Session) -> None:
    raw = pa.Array.from_buffers(pa.decimal128(3, 1), 1, [None, pa.py_buffer((99_999).to_bytes(16, "little"))])
    path = _write(tmp_path / "t.parquet", pa.table({"k": raw}), store_decimal_as_integer=True)
    ds = whole.sql(GROUPS, t=whole.read_parquet(path))
    assert "its decimals fit their type" in ds.explain()
    with pytest.raises(mf.SourceError, match=r"t\.parquet: column 'k'"):
        ds.to_arrow()


@pytest.mark.parametrize(
    ("settings_", "why"),
    [
        ({"shard_size": "1MiB"}, "shard_size or partitions is set"),
        ({"partitions": 3}, "shard_size or partitions is set"),
        ({"memory": "16KiB"}, "its row groups are large"),
        ({"memory": "512KiB"}, "what it reads may not fit in memory"),
    ],
)
def test_settings_that_cut(tmp_path: Path, settings_: dict[str, Any], why: str) -> None:
    table = pa.table({"k": pa.array(range(20_000)), "v": pa.array(range(20_000))})
    with mf.Session(workers=2, **settings_) as session:
        ds = session.sql(
            GROUPS, t=session.read_parquet(_write(tmp_path / "t.parquet", table, row_group_size=1000))
        )
        assert f"read by pyarrow, in shards: {why}" in ds.explain().replace(f"{tmp_path}/t.parquet: ", "")


def test_folders_and_functions_of_users_are_cut(tmp_path: Path) -> None:
    (tmp_path / "y=1").mkdir()
    _write(tmp_path / "y=1" / "t.parquet")
    with mf.Session(workers=2) as session:
        by_year = session.sql("SELECT y, count(k) AS n FROM t GROUP BY y", t=session.read_parquet(tmp_path))
        assert "columns that are not in its files" in by_year.explain()
        assert by_year.to_arrow().to_pylist() == [{"y": 1, "n": 3}]

        @mf.udf("int64", "int64")
        def twice(k: pa.Array) -> pa.Array:
            return pa.array([None if v is None else 2 * v for v in k.to_pylist()], pa.int64())

        session.register_udf(twice)
        t = session.read_parquet(str(tmp_path / "y=1" / "t.parquet"))
        called = session.sql("SELECT twice(k) AS k, count(*) AS n FROM t GROUP BY 1", t=t)
        assert "it calls Python functions" in called.explain()


# ---- reports, changes, damage, an end in between ----------------------------------------------------


def test_reports_count_what_was_read(tmp_path: Path, whole: mf.Session) -> None:
    """Metrics are read by their names and texts in DataFusion 55: this fails where another version has others."""
    path = _write(tmp_path / "t.parquet", pa.table({"k": range(1000), "v": range(1000)}), row_group_size=100)
    whole.sql(
        "SELECT k, count(*) AS n FROM t WHERE k >= 950 GROUP BY k", t=whole.read_parquet(path)
    ).to_arrow()
    run = whole.last_run
    assert run is not None
    assert (run.rows, run.records, run.pruned) == (50, 1000, 9)
    assert run.bytes_read == Path(path).stat().st_size
    assert "DataFusion" in run.reasons[0]


def test_a_file_that_changed_since_it_was_planned(tmp_path: Path, whole: mf.Session) -> None:
    path = _write(tmp_path / "t.parquet")
    ds = whole.sql(GROUPS, t=whole.read_parquet(path))
    _write(
        tmp_path / "t.parquet", pa.table({"k": [7, 8, 9], "v": [0.0] * 3, "d": pa.array([1] * 3, pa.int32())})
    )
    with pytest.raises(mf.SourceChangedError, match=r"t\.parquet"):
        ds.to_arrow()
    assert ds.count() == 3  # planned anew


def test_a_damaged_page_is_an_error_of_the_file(tmp_path: Path, whole: mf.Session) -> None:
    path = tmp_path / "t.parquet"
    _write(path, pa.table({"k": range(1000)}), row_group_size=500)
    data = bytearray(path.read_bytes())
    place = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[place : place + 20] = b"\xff" * 20
    path.write_bytes(data)
    ds = whole.sql(GROUPS, t=whole.read_parquet(path))
    assert DIRECT in ds.explain()
    with pytest.raises(mf.SourceError, match=r"can't read .*t\.parquet"):
        ds.to_arrow()


@pytest.mark.alone
def test_ctrl_c_ends_the_threads_of_datafusion(tmp_path: Path, whole: mf.Session) -> None:
    """An aggregate gives no batch for long, and ends at once all the same."""
    rows = np.arange(200_000)
    path = _write(tmp_path / "t.parquet", pa.table({"k": rows, "v": rows % 10}))
    query = "SELECT a.v, count(DISTINCT a.k * 1000 + b.k) AS n FROM t a JOIN t b ON a.v = b.v GROUP BY a.v"
    ds = whole.sql(query, t=whole.read_parquet(path))
    assert DIRECT in ds.explain()
    threading.Timer(1, signal.raise_signal, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        ds.to_arrow()
    for _ in range(60):  # the query itself would take minutes
        before = time.process_time()
        time.sleep(0.5)
        if time.process_time() - before < 0.1:
            return
    pytest.fail("DataFusion's threads go on")


# ---- sums of decimals -------------------------------------------------------------------------------

_SUMS = (
    "SELECT k, sum(a * (1 - b)) AS s, sum(a * b * b) AS c, sum(CASE WHEN a > 0 THEN a * b ELSE 0 END) AS d, "
    "sum(a - b) AS e FROM (SELECT x.k, x.a, y.b FROM t x JOIN t y ON x.k = y.k WHERE x.a <> 7) GROUP BY k"
)


@given(
    a=st.lists(_decimals(15, 2).values, min_size=1, max_size=5),
    b=st.lists(
        st.sampled_from([Decimal("0.05"), Decimal("-1.00")]) | _decimals(15, 2).values, min_size=1, max_size=5
    ),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_sums_of_decimals_are_exact(
    tmp_path_factory: pytest.TempPathFactory, whole: mf.Session, a: list[Decimal], b: list[Decimal]
) -> None:
    """Values as large as their types allow, or small: the sums are those of Python, or an error that they don't fit."""
    rows = [(n % 2, a[n % len(a)], b[n % len(b)]) for n in range(max(len(a), len(b)))]
    kinds = [pa.int64(), pa.decimal128(15, 2), pa.decimal128(15, 2)]
    columns = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), kinds, strict=True)]
    path = _write(
        tmp_path_factory.mktemp("sums") / "t.parquet", pa.table(dict(zip("kab", columns, strict=True)))
    )
    ds = whole.sql(_SUMS, t=whole.read_parquet(path))
    assert DIRECT in ds.explain()
    wanted: dict[int, list[Fraction]] = {}
    for key, one, _ in rows:
        for other_key, _, other in rows:
            if key == other_key and one != 7:
                x, y = Fraction(one), Fraction(other)
                sums = wanted.setdefault(key, [Fraction(0)] * 4)
                new = x * (1 - y), x * y * y, x * y if x > 0 else Fraction(0), x - y
                wanted[key] = [s + n for s, n in zip(sums, new, strict=True)]
    try:
        found = {row["k"]: row for row in ds.to_arrow().to_pylist()}
    except mf.PlanError as error:
        assert "overflow" in str(error) or "fit" in str(error)
        assert max(abs(v) for sums in wanted.values() for v in sums) > 10**20 or max(map(abs, a)) > 10**9
        return
    assert {k: [Fraction(row[c]) for c in "scde"] for k, row in found.items()} == wanted


@pytest.mark.parametrize(("largest", "wide"), [("104949.50", False), ("9999999999999.99", True)])
def test_sums_are_wide_only_where_values_may_be(
    tmp_path: Path, whole: mf.Session, largest: str, wide: bool
) -> None:
    kind = pa.decimal128(15, 2)
    table = pa.table(
        {
            "k": [1, 1],
            "a": pa.array([Decimal(largest), None], kind),
            "b": pa.array([Decimal(largest)] * 2, kind),
        }
    )
    ds = whole.sql(_SUMS, t=whole.read_parquet(_write(tmp_path / "t.parquet", table)))
    assert any("sum_decimal" in f.name for f in ds.context.plan(ds.frame).functions.all) == wide
