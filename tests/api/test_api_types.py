"""Every Arrow type through every entrance and every kind of query: as pyarrow has it, or refused by name.

`make test` puts all types into one table; the nightly test takes them one by one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.errors import MmflowError, PlanError, SinkError, SourceError
from tests.api.arrow_types import CARRIED, REFUSED, column, shown

Table = dict[str, pa.Array]
Entrance = Callable[[mf.Session, Path, pa.Table], mf.Dataset]
#: What pyarrow 26 can't write to Parquet.
_NOT_IN_PARQUET = {
    "run_end_encoded", "run_end_encoded of float16", "dense_union", "sparse_union", "list of union", "calendar interval",
    "struct of interval", "empty struct", "list of empty struct", "fixed_size_list[0]", "dictionary of views",
}  # fmt: skip

#: What Parquet, which has fewer units, makes of types.
_IN_PARQUET = {
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time32("ms"),
    pa.timestamp("s"): pa.timestamp("ms"),
}


def _from_arrow(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    return session.from_arrow(table)


def _sql_table(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    return session.sql("SELECT * FROM given", given=pa.concat_tables([table.slice(0, 4), table.slice(4)]))


def _shared(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    return session.from_arrow(mf.attach(session.share(table)))


def _parquet(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    pq.write_table(table, folder / "in.parquet", row_group_size=2)
    return session.read(folder / "in.parquet")


def _ipc_file(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    with pa.ipc.new_file(folder / "in.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return session.read(folder / "in.arrow")


def _write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def _write_ipc(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def _ipc_stream(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    with pa.ipc.new_stream(folder / "in.arrows", table.schema) as writer:
        writer.write_table(table)
    return session.read_arrow(folder / "in.arrows")


def _feather(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    feather.write_feather(table, folder / "in.feather", compression="zstd")
    return session.read(folder / "in.feather")


def _batch(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([c.combine_chunks() for c in table.columns], schema=table.schema)


def _map_batches(session: mf.Session, folder: Path, table: pa.Table) -> mf.Dataset:
    rows = session.from_arrow({"id": list(range(len(table)))})

    def looked_up(batch: pa.RecordBatch) -> pa.RecordBatch:
        if not batch.num_rows:
            return _batch(table.slice(0, 0))
        first = batch.column(0)[0].as_py()
        return _batch(table.slice(first, batch.num_rows))

    return rows.map_batches(looked_up, batch_rows=4, schema=table.schema)


_ENTRANCES: dict[str, Entrance] = {
    "from_arrow": _from_arrow,
    "sql": _sql_table,
    "share": _shared,
    "parquet": _parquet,
    "ipc_file": _ipc_file,
    "ipc_stream": _ipc_stream,
    "feather": _feather,
    "map_batches": _map_batches,
}


def _plain(values: Any) -> Any:
    """Python values that compare: UUIDs as bytes."""
    if isinstance(values, list | tuple):
        return [_plain(v) for v in values]
    if isinstance(values, dict):
        return {k: _plain(v) for k, v in values.items()}
    return getattr(values, "bytes", values)


def _rows(table: pa.Table, key: str = "id") -> list[Any]:
    return sorted(_plain(table.to_pylist()), key=lambda row: row[key])


def _check(ds: mf.Dataset, given: pa.Table, names: list[str], folder: Path, *, thorough: bool = True) -> None:
    """All kinds of queries over the columns `names` of a dataset that holds `given`."""
    session, rows = mf.Session.of(ds.context), _plain(given.to_pylist())
    assert session.sql("SELECT count(*) AS n FROM d", d=ds).to_arrow().to_pylist() == [{"n": 6}]
    assert _rows(ds.select("id").to_arrow()) == [{"id": i} for i in range(6)]
    every = ds.select("id", *names).to_arrow()
    for name in names:
        types = (every.schema.field(name).type, ds.schema.field(name).type)
        assert types == (shown(given.schema.field(name).type),) * 2, name
        assert _rows(every.select(["id", name])) == [{"id": r["id"], name: r[name]} for r in rows], name
    every.validate(full=True)
    if ds._selection is not None and not str(ds._selection.source.files[0]).endswith(".arrows"):
        assert _plain(ds.select("id", *names).take([4, 1]).to_pylist()) == [rows[4], rows[1]]
    if not thorough:
        return
    kept = ds.filter(mf.col("id") > 2).select("id", *names)
    assert _rows(kept.to_arrow()) == rows[3:]
    assert _plain(ds.sort("id", descending=True).to_arrow().to_pylist()) == rows[::-1]
    right = session.from_arrow({"id": list(range(0, 12, 2)), "o": [1] * 6})
    assert _rows(ds.join(right, on="id").drop("o").to_arrow()) == rows[::2]
    spread = ds.repartition(3, "id")
    assert _rows(spread.to_arrow()) == rows
    twice = session.sql("SELECT * FROM d UNION SELECT * FROM d", d=ds.select("id", *names))
    assert _rows(twice.to_arrow()) == rows
    for suffix, read in (("parquet", pq.read_table), ("arrow", lambda p: pa.ipc.open_file(p).read_all())):
        path = str(folder / f"out.{suffix}")
        stored = [n for n in names if suffix != "parquet" or n != "fixed_size_list[0]"]
        ds.select("id", *stored).write(path, if_exists="replace")
        back = read(path)
        assert _rows(back) == [{n: r[n] for n in ("id", *stored)} for r in rows]
        made = {n: shown(given.schema.field(n).type) for n in stored}
        if suffix == "parquet":
            made = {n: _IN_PARQUET.get(t, t) for n, t in made.items()}
        assert {n: back.schema.field(n).type for n in stored} == made


@pytest.fixture
def session() -> mf.Session:
    """Several tasks and partitions for a few rows."""
    return mf.Session(partitions=3, workers=2, shard_size="1KiB")


def _table(names: list[str]) -> pa.Table:
    return pa.table({"id": pa.array(range(6), pa.int64()), **{name: column(name) for name in names}})


@pytest.mark.parametrize("entrance", list(_ENTRANCES))
def test_every_type_passes_through_untouched(session: mf.Session, tmp_path: Path, entrance: str) -> None:
    names = [n for n in CARRIED if entrance != "parquet" or n not in _NOT_IN_PARQUET]
    given = _table(names)
    ds = _ENTRANCES[entrance](session, tmp_path, given)
    if entrance == "parquet":
        given = pq.read_table(tmp_path / "in.parquet")
    _check(ds, given, names, tmp_path, thorough=entrance == "parquet")


@pytest.mark.parametrize("entrance", ["from_arrow", "ipc_file", "share", "parquet"])
def test_types_that_are_refused_hinder_nobody_who_does_not_ask_for_them(
    session: mf.Session, tmp_path: Path, entrance: str
) -> None:
    names = [n for n in REFUSED if entrance != "parquet" or n not in _NOT_IN_PARQUET]
    ds = _ENTRANCES[entrance](session, tmp_path, _table(names))
    assert session.sql("SELECT count(*) AS n FROM d", d=ds).to_arrow().to_pylist() == [{"n": 6}]
    assert _rows(session.sql("SELECT id FROM d WHERE id > 3 ORDER BY id", d=ds).to_arrow()) == [
        {"id": 4},
        {"id": 5},
    ]
    # IGNORE NULLS is lost in Substrait: such SQL runs whole, over all that it could need.
    lagged = session.sql("SELECT id, lag(id) IGNORE NULLS OVER (ORDER BY id) AS before FROM d", d=ds)
    assert _rows(lagged.to_arrow())[5] == {"id": 5, "before": 4}
    none = _ENTRANCES[entrance](session, tmp_path, _table(names).slice(0, 0))
    assert (
        none.select("id").to_arrow().num_rows == 0
    )  # pyarrow 26 crashes on `type_codes` of a union without rows
    ds = _ENTRANCES[entrance](session, tmp_path, _table(names))
    for name in names:
        kind, why = REFUSED[name]
        assert ds.schema.field(name).type == kind or entrance == "parquet"
        queries = [f'SELECT "{name}" FROM d', f'SELECT id FROM d WHERE "{name}" IS NULL', f'SELECT count("{name}") FROM d',
                   f'SELECT id, lag("{name}") IGNORE NULLS OVER (ORDER BY id) AS before FROM d']  # fmt: skip
        for query in queries:
            with pytest.raises(PlanError, match=rf"column '{name}' has type .*{why}"):
                session.sql(query, d=ds).to_arrow()
        if entrance in ("ipc_file", "parquet"):
            with pytest.raises(PlanError, match=rf"column '{name}' has type .*{why}"):
                ds.select(name).take([0])
    with pytest.raises(MmflowError, match=rf"{names[0]}"):
        ds.write(str(tmp_path / "out.parquet"))


@pytest.mark.parametrize("name", list(REFUSED))
def test_map_batches_says_at_once_which_column_can_not_be_carried(
    session: mf.Session, tmp_path: Path, name: str
) -> None:
    with pytest.raises(PlanError, match=rf"map_batches: column '{name}' has type"):
        _map_batches(session, tmp_path, _table([name]))


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(CARRIED))
@pytest.mark.parametrize("entrance", list(_ENTRANCES))
def test_each_type_by_itself(session: mf.Session, tmp_path: Path, entrance: str, name: str) -> None:
    if entrance == "parquet" and name in _NOT_IN_PARQUET:
        with pytest.raises((pa.ArrowException, MmflowError)):
            _ENTRANCES[entrance](session, tmp_path, _table([name])).to_arrow()
        return
    given = _table([name])
    ds = _ENTRANCES[entrance](session, tmp_path, given)
    if entrance == "parquet":
        given = pq.read_table(tmp_path / "in.parquet")
    _check(ds, given, [name], tmp_path)
    grouped = session.sql(f'SELECT min(id) AS id, "{name}" FROM d GROUP BY "{name}"', d=ds)
    firsts: dict[str, Any] = {}
    for row in _plain(given.to_pylist()):
        firsts.setdefault(repr(row[name]), row)
    assert _rows(grouped.to_arrow()) == list(firsts.values())
    none = given.slice(0, 0)
    assert _ENTRANCES[entrance](session, tmp_path, none).to_arrow().num_rows == 0


def test_tables_without_columns_or_rows(session: mf.Session, tmp_path: Path) -> None:
    for entrance in ("from_arrow", "ipc_file", "parquet", "ipc_stream"):
        none = _table(["fixed_size_list", "dictionary"]).slice(0, 0)
        ds = _ENTRANCES[entrance](session, tmp_path, none)
        assert ds.to_arrow().num_rows == 0
        assert session.sql("SELECT count(*) AS n FROM d", d=ds).to_arrow().to_pylist() == [{"n": 0}]
        bare = _ENTRANCES[entrance](session, tmp_path, pa.table({}))
        assert session.sql("SELECT count(*) AS n FROM d", d=bare).to_arrow().to_pylist() == [{"n": 0}]


def test_lists_of_a_size_that_a_function_changed_are_lists(session: mf.Session) -> None:
    ds = session.from_arrow(_table(["fixed_size_list"]))
    made = session.sql("SELECT array_append(fixed_size_list, 1.0) AS x FROM d ORDER BY id", d=ds).to_arrow()
    assert made.schema.field("x").type == pa.list_(pa.float64())
    assert made["x"].to_pylist()[0] == [1.5, 2, 3, 1]
    two, three = ({"x": pa.array([[1.0] * n], pa.list_(pa.float64(), n))} for n in (2, 3))
    both = session.sql(
        "SELECT x FROM a UNION ALL SELECT x FROM b", a=pa.table(two), b=pa.table(three)
    ).to_arrow()
    assert both.schema.field("x").type == pa.list_(pa.float64())
    assert both["x"].to_pylist() == [[1, 1], [1, 1, 1]]
    with pytest.raises(
        PlanError, match=r"a list has 0 values and not 2; wrap what changes it in nullif\(..., NULL\)"
    ):
        session.sql("SELECT array_remove_all(x, 1.0) AS x FROM a", a=pa.table(two)).to_arrow()
    wrapped = session.sql(
        "SELECT nullif(array_remove_all(x, 1.0), NULL) AS x FROM a", a=pa.table(two)
    ).to_arrow()
    assert wrapped["x"].to_pylist() == [[]]


def test_types_that_text_can_not_have_are_named_where_they_are_declared(
    session: mf.Session, tmp_path: Path
) -> None:
    (tmp_path / "t.ndjson").write_text('{"v": null, "w": 1}\n')
    (tmp_path / "t.csv").write_text("v,w\n,1\n")
    for read in (session.read_ndjson, session.read_csv):
        path = tmp_path / ("t.csv" if read == session.read_csv else "t.ndjson")
        for name in (*REFUSED, "fixed_size_list", "list of fixed_size_list"):
            kind = REFUSED[name][0] if name in REFUSED else CARRIED[name][0]
            with pytest.raises(mf.ConfigError, match=r"column 'v': (CSV|NDJSON) can't be read as"):
                read(path, schema={"v": kind, "w": pa.int64()})
        for kind in (
            pa.decimal32(7, 2),
            pa.list_(pa.uuid()) if read == session.read_ndjson else pa.decimal64(9, 1),
        ):
            ds = read(path, schema={"v": kind, "w": pa.int64()})
            assert ds.schema.field("v").type == shown(kind)
            assert session.sql("SELECT w FROM d", d=ds).to_arrow()["w"].to_pylist() == [1]


def test_declared_lists_keep_their_size(session: mf.Session, tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": pa.array([[1, 2], None], pa.list_(pa.int8(), 2))}), tmp_path / "v.parquet")
    ds = session.read(tmp_path / "v.parquet", schema={"v": pa.list_(pa.int8(), 2)})
    assert ds.schema.field("v").type == ds.to_arrow().schema.field("v").type == pa.list_(pa.int8(), 2)


def test_objects_that_are_no_tables_are_named(session: mf.Session) -> None:
    for data in (7, {"a": [1], "b": [1, 2]}, {"a": [object()]}):
        with pytest.raises(mf.ConfigError, match="is no table"):
            session.from_arrow(data)
    with pytest.raises(PlanError, match="from_arrow: two columns are named 'a'"):
        session.from_arrow(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))


def test_sinks_name_what_they_can_not_hold(session: mf.Session, tmp_path: Path) -> None:
    ds = session.from_arrow(_table(["map"]))
    with pytest.raises(SinkError, match="map"):
        ds.write(str(tmp_path / "out.npy"))


def test_a_group_without_columns_in_parquet_is_named(session: mf.Session, tmp_path: Path) -> None:
    raw = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2, 3]}), raw, store_schema=False)
    content = raw.getvalue()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    # The root has two children now (thrift's zigzag numbers), and the second is a group of none.
    footer = footer.replace(
        b"\x19\x2c\x35\x00\x18\x06schema\x15\x02", b"\x19\x3c\x35\x00\x18\x06schema\x15\x04", 1
    )
    footer = footer.replace(b"\x18\x02id\x00", b"\x18\x02id\x00" + b"\x35\x02\x18\x01g\x15\x00\x00", 1)
    path = tmp_path / "group.parquet"
    path.write_bytes(content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_schema(path).names == ["id", "g"]
    ds = session.read(path)
    assert session.sql("SELECT count(*) AS n FROM d", d=ds).to_arrow().to_pylist() == [{"n": 3}]
    assert ds.select("id").to_arrow()["id"].to_pylist() == [1, 2, 3]
    with pytest.raises(PlanError, match="column 'g' has type struct<>: a struct without fields"):
        ds.to_arrow()


@pytest.mark.parametrize("write", [_write_parquet, _write_ipc])
def test_values_that_do_not_fit_their_type_are_not_called_damage(
    session: mf.Session, tmp_path: Path, write: Callable[[Path, pa.Table], None]
) -> None:
    wide = pa.array([Decimal("12345.67")], pa.decimal128(7, 2))
    digits = pa.Array.from_buffers(pa.decimal128(3, 2), 1, wide.buffers())
    hour = pa.array([3_600_000], pa.int64()).view(pa.date64())
    late = pa.array([90_000_000], pa.int32()).view(pa.time32("ms"))
    for bad, why in (
        (digits, "does not fit in precision"),
        (hour, "whole number of days"),
        (late, "not within"),
    ):
        if write is _write_parquet and bad is hour:
            continue  # Parquet has dates of days only
        path = tmp_path / "bad"
        write(path, pa.table({"id": [1], "bad": bad}))
        ds = session.read(path)
        assert ds.select("id").to_arrow().num_rows == 1
        for read in (ds.to_arrow, lambda ds=ds: ds.take([0])):
            with pytest.raises(
                SourceError, match=rf"column 'bad' .*{why}.*the program that wrote the file"
            ) as caught:
                read()
            assert "damaged" not in str(caught.value)
