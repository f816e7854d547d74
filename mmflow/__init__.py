"""mmflow: columnar jobs over files too large to load.

    import mmflow as mf
    from mmflow import col, functions as F

    ds = mf.read_csv("access/*.csv", delimiter=";")
    errors = ds.filter(col("status") >= 500).group_by("host").agg(F.count().alias("n"))
    errors.sort("n", descending=True).limit(10).show()

Names are imported when first used, so that `import mmflow` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmflow.errors import (
    BadRecordError,
    ConfigError,
    EngineError,
    MmflowError,
    OutOfRangeError,
    PeerLostError,
    PlanError,
    SinkError,
    SourceChangedError,
    SourceError,
    UnverifiableSourceWarning,
    UserFunctionError,
    WorkerLostError,
)

if TYPE_CHECKING:
    from mmflow import functions
    from mmflow.arrays import MappedArray, create_array, open_array, open_image
    from mmflow.dataset import Dataset
    from mmflow.expressions import col, lit
    from mmflow.jobs import job
    from mmflow.reading import (
        from_arrow,
        map_array,
        read,
        read_arrow,
        read_csv,
        read_ndjson,
        read_npy,
        read_parquet,
        read_records,
        read_text,
        sql,
    )
    from mmflow.session import Session
    from mmflow.store.channel import Receiver, Sender, channel
    from mmflow.store.sharing import SharedTable, attach, share
    from mmflow.summary import BadRecordsWarning, RunSummary, WriteResult
    from mmflow.udfs import udaf, udf

__version__ = "0.1.0"

_READ = ("from_arrow", "map_array", "read", "read_arrow", "read_csv", "read_ndjson", "read_npy", "read_parquet",
         "read_records", "read_text", "sql")  # fmt: skip
_LAZY = {
    "BadRecordsWarning": "summary",
    "Dataset": "dataset",
    "MappedArray": "arrays",
    "Receiver": "store.channel",
    "RunSummary": "summary",
    "Sender": "store.channel",
    "Session": "session",
    "SharedTable": "store.sharing",
    "WriteResult": "summary",
    "attach": "store.sharing",
    "channel": "store.channel",
    "col": "expressions",
    "create_array": "arrays",
    "job": "jobs",
    "lit": "expressions",
    "open_array": "arrays",
    "open_image": "arrays",
    "share": "store.sharing",
    "udaf": "udfs",
    "udf": "udfs",
    **dict.fromkeys(_READ, "reading"),
}

__all__ = [
    "BadRecordError",
    "BadRecordsWarning",
    "ConfigError",
    "Dataset",
    "EngineError",
    "MappedArray",
    "MmflowError",
    "OutOfRangeError",
    "PeerLostError",
    "PlanError",
    "Receiver",
    "RunSummary",
    "Sender",
    "Session",
    "SharedTable",
    "SinkError",
    "SourceChangedError",
    "SourceError",
    "UnverifiableSourceWarning",
    "UserFunctionError",
    "WorkerLostError",
    "WriteResult",
    "attach",
    "channel",
    "col",
    "create_array",
    "from_arrow",
    "functions",
    "job",
    "lit",
    "map_array",
    "open_array",
    "open_image",
    "read",
    "read_arrow",
    "read_csv",
    "read_ndjson",
    "read_npy",
    "read_parquet",
    "read_records",
    "read_text",
    "share",
    "sql",
    "udaf",
    "udf",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY or name == "functions":
        from mmflow import address_space, pandas_gate  # noqa: PLC0415  (before pyarrow or datafusion are imported)

        address_space.prepare()
        pandas_gate.close()
        if name == "functions":
            return importlib.import_module("mmflow.functions")
        value = getattr(importlib.import_module(f"mmflow.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mmflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
