"""Methods of the default session, as functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from mmflow.api.dataset import Dataset
from mmflow.api.session import Session, default_session
from mmflow.api.sql.query import context_of, plan_query
from mmflow.api.sql.variables import caller_variables
from mmflow.usercode.tracebacks import public

__all__ = [
    "from_arrow",
    "from_dask",
    "from_ray",
    "map_array",
    "read",
    "read_arrow",
    "read_avro",
    "read_csv",
    "read_delta",
    "read_excel",
    "read_fwf",
    "read_iceberg",
    "read_json",
    "read_ndjson",
    "read_npy",
    "read_orc",
    "read_parquet",
    "read_records",
    "read_text",
    "sql",
]

P = ParamSpec("P")
R = TypeVar("R")


def _by_default_session(method: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Return a method of `Session` as a function that calls it on the default session."""

    @public
    @functools.wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> R:
        return method(default_session(), *args, **options)

    signature = inspect.signature(method)
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])  # type: ignore[attr-defined]  # PEP 362
    call.__module__, call.__qualname__ = "mmflow", method.__name__
    return call


from_arrow = _by_default_session(Session.from_arrow)
from_dask = _by_default_session(Session.from_dask)
from_ray = _by_default_session(Session.from_ray)
map_array = _by_default_session(Session.map_array)
read = _by_default_session(Session.read)
read_arrow = _by_default_session(Session.read_arrow)
read_avro = _by_default_session(Session.read_avro)
read_csv = _by_default_session(Session.read_csv)
read_delta = _by_default_session(Session.read_delta)
read_excel = _by_default_session(Session.read_excel)
read_fwf = _by_default_session(Session.read_fwf)
read_iceberg = _by_default_session(Session.read_iceberg)
read_json = _by_default_session(Session.read_json)
read_ndjson = _by_default_session(Session.read_ndjson)
read_npy = _by_default_session(Session.read_npy)
read_orc = _by_default_session(Session.read_orc)
read_parquet = _by_default_session(Session.read_parquet)
read_records = _by_default_session(Session.read_records)
read_text = _by_default_session(Session.read_text)


@public
def sql(query: str, **values: Any) -> Dataset:
    """Select rows by SQL: from variables and files, with parameters `$x` (docs/sql.md).

    Datasets of one session are queried in that session. Parameters, returns and errors are those of `Session.sql`.

    Examples
    --------
    >>> import mmflow as mf
    >>> t = mf.from_arrow({"x": [1, 2]})
    >>> mf.sql("SELECT sum(x) AS s FROM t WHERE x >= $least", least=2).to_arrow().to_pylist()
    [{'s': 2}]
    """
    variables = caller_variables()
    context = context_of(query, values, variables)
    session = default_session() if context is None else Session.of(context)
    return plan_query(session, query, values, variables)
