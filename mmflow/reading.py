"""What sessions do, without one: by the default one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmflow.array_maps import ArraySource
from mmflow.dataset import Dataset
from mmflow.session import Paths, default_session
from mmflow.summary import WriteResult

__all__ = [
    "from_arrow",
    "map_array",
    "read",
    "read_arrow",
    "read_csv",
    "read_ndjson",
    "read_npy",
    "read_parquet",
    "read_records",
    "read_text",
    "sql",
]


def read(path: Paths, format: str | None = None, **options: Any) -> Dataset:  # noqa: A002
    """Files of any format. See `Session.read`, also for what is raised."""
    return default_session().read(path, format, **options)


def read_csv(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_csv`, also for what is raised."""
    return read(path, "csv", **options)


def read_ndjson(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_ndjson`, also for what is raised."""
    return read(path, "ndjson", **options)


def read_text(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_text`, also for what is raised."""
    return read(path, "text", **options)


def read_records(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_records`, also for what is raised."""
    return read(path, "records", **options)


def read_arrow(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_arrow`, also for what is raised."""
    return read(path, "arrow_ipc", **options)


def read_npy(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_npy`, also for what is raised."""
    return read(path, "npy", **options)


def read_parquet(path: Paths, **options: Any) -> Dataset:
    """See `Session.read_parquet`, also for what is raised."""
    return read(path, "parquet", **options)


def from_arrow(data: Any) -> Dataset:
    """See `Session.from_arrow`, also for what is raised."""
    return default_session().from_arrow(data)


def map_array(source: ArraySource, function: Callable[..., Any], **options: Any) -> WriteResult:
    """See `Session.map_array`, also for what is raised."""
    return default_session().map_array(source, function, **options)


def sql(query: str, **tables: Any) -> Dataset:
    """A SELECT over datasets by name, and over files: `FROM 'path'`. See `Session.sql`.

    Datasets of one session are queried in that session.
    """
    sessions = [t.session for t in tables.values() if isinstance(t, Dataset)]
    return (sessions[0] if sessions else default_session()).sql(query, **tables)
