"""The work that clusters are measured by: mmflow's way, and those of Ray Data and Dask DataFrame.

Peers are used as their documentation says, and given what mmflow is given: types, and the columns that are wanted. Ray
Data comes twice: by its defaults, which read in new processes each time, and cut one file into up to 200 blocks and 200
partitions, each a task; and tuned to do neither, which its documentation calls rarely needed.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from local_clusters import CORES
from timing import bare_read, drop, same_rows
from works import LOG_GROUP, LOG_SCHEMA, Q1, Q6

import mmflow as mf

__all__ = ["Work", "same", "works"]

#: Number of blocks and partitions of Ray Data where it is given.
_FEW = 2 * CORES
#: Bytes of a partition of NDJSON, for which Dask has no default; that of CSV.
_DASK_BLOCK = 64_000_000

SORT = "SELECT k, v, s FROM t ORDER BY k"
# Rows of a join of two tables of N rows, about N, are not written, but grouped by a text column of one side: all
# three systems can say this, and have to bring keys, numbers and texts together for it.
JOIN = """SELECT t.s, count(*) AS n, sum(t.v * u.v) AS p FROM t JOIN u ON t.k = u.k GROUP BY t.s"""


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes:
        mmflow: Computes it with an engine, given as settings of a session; `out` is a folder to write to, if it writes.
        peers: Functions by engine, and by name of the variant.
        writes: Folder under which it writes; its results are folders then (see `same`).
    """

    mmflow: Callable[[Mapping[str, Any], Path], Any]
    peers: Mapping[str, Mapping[str, Callable[[Path], Any]]]
    writes: Path | None = None

    def clear(self) -> None:
        """Remove what it has written."""
        if self.writes is not None:
            shutil.rmtree(self.writes, ignore_errors=True)
            self.writes.mkdir()


def same(a: Any, b: Any) -> bool:
    """Equal rows; of folders of Parquet: equal rows in any order, and in the right one if mmflow wrote them.

    Dask promises no order of files, and Ray Data's one file of ten million rows was not sorted here, whatever
    `preserve_order` said.
    """
    for result in (a, b):
        if isinstance(result, Path) and result.name.startswith("mmflow"):
            assert _ordered(result), f"{result} is not sorted"
    return same_rows(*(digest(r) if isinstance(r, Path) else r for r in (a, b)))


def _ordered(folder: Path) -> bool:
    k = np.concatenate([pq.read_table(p, columns=["k"])["k"] for p in sorted(folder.rglob("*.parquet"))])
    return bool((k[1:] >= k[:-1]).all())


def digest(folder: Path) -> pa.Table:
    """Count of the rows, and sums that say whether values still stand beside their keys."""
    rows = pa.concat_tables(pq.read_table(p, columns=["k", "v", "s"]) for p in folder.rglob("*.parquet"))
    k = rows["k"].to_numpy().astype(np.uint64)
    v = np.round(rows["v"].to_numpy() * 1000).astype(np.uint64)
    text = pc.cast(pc.utf8_slice_codeunits(rows["s"], 2), pa.uint64()).to_numpy()
    sums = [(k * beside).sum(dtype=np.uint64) for beside in (k, v, text)]
    return pa.table({"rows": [len(k)], "sums": [" ".join(map(str, sums))]})


# ---- TPC-H on CSV -------------------------------------------------------------------------------------------

_ARROW = {
    "string": pa.string(),
    "date32": pa.date32(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
}
_DASK = {"string": "string", "int64": "int64", "int32": "int32", "float64": "float64"}


def _tune(tuned: bool, *, ordered: bool = False) -> None:
    from ray.data import DataContext  # noqa: PLC0415  (as everywhere here: only who measures it has it)

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.isolate_read_workers = not tuned
    # Without it, sorted blocks are written as they come, out of order.
    context.execution_options.preserve_order = ordered


def _ray_csv(
    path: Path, types: Mapping[str, str], columns: list[str], tuned: bool, *, ordered: bool = False
) -> Any:
    import ray  # noqa: PLC0415  (only who measures it has it)

    _tune(tuned, ordered=ordered)
    convert = pacsv.ConvertOptions(
        column_types={n: _ARROW[t] for n, t in types.items()}, include_columns=columns
    )
    return ray.data.read_csv(str(path), convert_options=convert, override_num_blocks=_FEW if tuned else None)


def _dask_csv(path: Path, types: Mapping[str, str], columns: list[str]) -> Any:
    import dask.dataframe as dd  # noqa: PLC0415  (only who measures it has it)

    dtype = {n: _DASK[types[n]] for n in columns if types[n] in _DASK}
    dates = [n for n in columns if n not in dtype]
    return dd.read_csv(str(path), usecols=columns, dtype=dtype, parse_dates=dates or False)


def _table(frame: Any) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


_Q6 = ["l_quantity", "l_extendedprice", "l_discount", "l_shipdate"]
_Q1 = [
    "l_quantity",
    "l_extendedprice",
    "l_discount",
    "l_tax",
    "l_returnflag",
    "l_linestatus",
    "l_shipdate",
]
_Q1_KEYS = ["l_returnflag", "l_linestatus"]
#: Name of each aggregate of Q1, its column, and what Dask calls it.
_Q1_AGGREGATES = {
    "sum_qty": ("l_quantity", "sum"),
    "sum_base": ("l_extendedprice", "sum"),
    "sum_disc": ("disc", "sum"),
    "sum_charge": ("charge", "sum"),
    "avg_qty": ("l_quantity", "mean"),
    "avg_price": ("l_extendedprice", "mean"),
    "avg_disc": ("l_discount", "mean"),
    "n": ("l_quantity", "count"),
}


def _ray_q6(path: Path, tuned: bool) -> pa.Table:
    from ray.data.expressions import col  # noqa: PLC0415  (only who measures it has it)

    chosen = _ray_csv(path, data.LINEITEM, _Q6, tuned).filter(
        expr=(col("l_shipdate") >= dt.date(1994, 1, 1))
        & (col("l_shipdate") < dt.date(1995, 1, 1))
        & (col("l_discount") >= 0.05)
        & (col("l_discount") <= 0.07)
        & (col("l_quantity") < 24)
    )
    revenue = chosen.with_column("revenue", col("l_extendedprice") * col("l_discount")).sum("revenue")
    return pa.table({"revenue": [revenue]})


def _dask_q6(path: Path) -> pa.Table:
    t = _dask_csv(path, data.LINEITEM, _Q6)
    t = t[
        (t.l_shipdate >= "1994-01-01")
        & (t.l_shipdate < "1995-01-01")
        & (t.l_discount >= 0.05)
        & (t.l_discount <= 0.07)
        & (t.l_quantity < 24)
    ]
    return pa.table({"revenue": [float((t.l_extendedprice * t.l_discount).sum().compute())]})


def _ray_q1(path: Path, tuned: bool) -> pa.Table:
    from ray.data.aggregate import Count, Mean, Sum  # noqa: PLC0415  (only who measures it has it)
    from ray.data.expressions import col  # noqa: PLC0415  (only who measures it has it)

    made = {"sum": Sum, "mean": Mean}
    aggregates = [
        made[kind](column, alias_name=name) if kind in made else Count(alias_name=name)
        for name, (column, kind) in _Q1_AGGREGATES.items()
    ]
    t = _ray_csv(path, data.LINEITEM, _Q1, tuned).filter(expr=col("l_shipdate") <= dt.date(1998, 9, 2))
    t = t.with_column("disc", col("l_extendedprice") * (1 - col("l_discount")))
    t = t.with_column("charge", col("disc") * (1 + col("l_tax")))
    grouped = t.groupby(_Q1_KEYS, num_partitions=_FEW if tuned else None).aggregate(*aggregates)
    return _table(grouped.to_pandas().sort_values(_Q1_KEYS))


def _dask_q1(path: Path) -> pa.Table:
    t = _dask_csv(path, data.LINEITEM, _Q1)
    t = t[t.l_shipdate <= "1998-09-02"]
    t = t.assign(disc=t.l_extendedprice * (1 - t.l_discount))
    t = t.assign(charge=t.disc * (1 + t.l_tax))
    grouped = t.groupby(_Q1_KEYS).agg(**_Q1_AGGREGATES).compute()
    return _table(grouped.reset_index().sort_values(_Q1_KEYS))


def _lineitem(path: Path, query: str, ray: Callable[..., Any], dask: Callable[..., Any]) -> Work:
    def mmflow(settings: Mapping[str, Any], out: Path) -> pa.Table:
        del out
        with mf.Session(**settings) as s:
            return s.sql(query.format(t="t"), t=s.read_csv(str(path), schema=data.LINEITEM)).to_arrow()

    return Work(mmflow, _peers(lambda tuned, _: ray(path, tuned), lambda _: dask(path)))


def _peers(
    ray: Callable[[bool, Path], Any], dask: Callable[[Path], Any]
) -> dict[str, dict[str, Callable[[Path], Any]]]:
    return {
        "ray": {
            "Ray Data": lambda out: ray(False, out),
            "Ray Data, tuned": lambda out: ray(True, out),
        },
        "dask": {"Dask DataFrame": dask},
    }


# ---- NDJSON ---------------------------------------------------------------------------------------------------


def _ray_ndjson(path: Path, tuned: bool) -> pa.Table:
    import ray  # noqa: PLC0415  (only who measures it has it)
    from ray.data.aggregate import Count, Mean  # noqa: PLC0415  (only who measures it has it)
    from ray.data.expressions import col  # noqa: PLC0415  (only who measures it has it)

    _tune(tuned)
    # `lines=True`, pandas' reader, is the documented way; pyarrow's, without it, is faster.
    how: dict[str, Any] = {"override_num_blocks": _FEW} if tuned else {"lines": True}
    t = ray.data.read_json(str(path), file_extensions=["ndjson"], **how).filter(expr=col("status") >= 500)
    grouped = t.groupby("path", num_partitions=_FEW if tuned else None)
    return _table(grouped.aggregate(Count(alias_name="n"), Mean("ms", alias_name="ms")).to_pandas())


def _dask_ndjson(path: Path) -> pa.Table:
    import dask.dataframe as dd  # noqa: PLC0415  (only who measures it has it)

    t = dd.read_json(str(path), lines=True, blocksize=_DASK_BLOCK)
    t = t[t.status >= 500]
    return _table(t.groupby("path").agg(n=("ms", "count"), ms=("ms", "mean")).compute().reset_index())


def _ndjson(path: Path) -> Work:
    def mmflow(settings: Mapping[str, Any], out: Path) -> pa.Table:
        del out
        with mf.Session(**settings) as s:
            return s.sql(LOG_GROUP.format(t="t"), t=s.read_ndjson(str(path), schema=LOG_SCHEMA)).to_arrow()

    return Work(mmflow, _peers(lambda tuned, _: _ray_ndjson(path, tuned), lambda _: _dask_ndjson(path)))


# ---- sort, join ---------------------------------------------------------------------------------------------


def _sort(path: Path, writes: Path) -> Work:
    columns = list(data.KEYED)

    def mmflow(settings: Mapping[str, Any], out: Path) -> Path:
        with mf.Session(**settings) as s:
            s.sql(SORT, t=s.read_csv(str(path), schema=data.KEYED)).write_parquet(str(out))
        return out

    def ray(tuned: bool, out: Path) -> Path:
        _ray_csv(path, data.KEYED, columns, tuned, ordered=True).sort("k").write_parquet(str(out))
        return out

    def dask(out: Path) -> Path:
        _dask_csv(path, data.KEYED, columns).sort_values("k").to_parquet(str(out), write_index=False)
        return out

    return Work(mmflow, _peers(ray, dask), writes)


def _join(left: Path, right: Path) -> Work:
    def mmflow(settings: Mapping[str, Any], out: Path) -> pa.Table:
        del out
        with mf.Session(**settings) as s:
            t, u = (s.read_csv(str(p), schema=data.KEYED) for p in (left, right))
            return s.sql(JOIN, t=t, u=u).to_arrow()

    def ray(tuned: bool, out: Path) -> pa.Table:
        del out
        from ray.data.aggregate import Count, Sum  # noqa: PLC0415  (only who measures it has it)
        from ray.data.expressions import col  # noqa: PLC0415  (only who measures it has it)

        t = _ray_csv(left, data.KEYED, ["k", "v", "s"], tuned)
        u = _ray_csv(right, data.KEYED, ["k", "v"], tuned)
        # A join has no default for its partitions.
        joined = t.join(u, join_type="inner", num_partitions=_FEW, on=("k",), right_suffix="_u")
        made = joined.with_column("p", col("v") * col("v_u"))
        grouped = made.groupby("s", num_partitions=_FEW if tuned else None)
        return _table(grouped.aggregate(Count(alias_name="n"), Sum("p", alias_name="p")).to_pandas())

    def dask(out: Path) -> pa.Table:
        del out
        t = _dask_csv(left, data.KEYED, ["k", "v", "s"])
        u = _dask_csv(right, data.KEYED, ["k", "v"])
        joined = t.merge(u, on="k", suffixes=("", "_u"))
        made = joined.assign(p=joined.v * joined.v_u)
        return _table(made.groupby("s").agg(n=("p", "count"), p=("p", "sum")).compute().reset_index())

    return Work(mmflow, _peers(ray, dask))


def works(folder: Path, scale: float, log_rows: int, rows: int) -> Mapping[str, Callable[[], Work]]:
    """Work by name; making it makes the data that it needs.

    Args:
        folder: Folder of the data and of outputs.
        scale: Scale factor of TPC-H.
        log_rows: Number of rows of the web log.
        rows: Number of rows of each table that is sorted or joined.
    """
    return {
        "csv-q6": lambda: _lineitem(_read(data.lineitem_csv(folder, scale)), Q6, _ray_q6, _dask_q6),
        "csv-q1": lambda: _lineitem(_read(data.lineitem_csv(folder, scale)), Q1, _ray_q1, _dask_q1),
        "ndjson": lambda: _ndjson(_read(data.log_ndjson(folder, log_rows))),
        "sort": lambda: _sort(_read(data.keyed_csv(folder, rows, 1)), folder / "out-clusters"),
        "join": lambda: _join(*(_read(data.keyed_csv(folder, rows, seed)) for seed in (1, 2))),
    }


def _read(path: Path) -> Path:
    """A file whose pages are in the cache as reading leaves them: those of one just written are small."""
    drop(path)
    bare_read(path)
    return path
