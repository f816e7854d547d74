"""mmflow: columnar jobs over files too large to load.

    import mmflow as mf
    from mmflow import col

    ds = mf.read_csv("access/*.csv", delimiter=";")
    errors = ds.filter(col("status") >= 500).group_by("host").agg(n=mf.len())
    errors.sort("n", descending=True).limit(10).show()

Names are imported when first used, so that `import mmflow` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmflow.distribution import VERSION
from mmflow.errors import (
    BadRecordError,
    ConfigError,
    EngineError,
    MmflowError,
    OutOfRangeError,
    PeerLostError,
    PlanError,
    SilentServerWarning,
    SinkError,
    SourceChangedError,
    SourceError,
    StalledError,
    StalledWarning,
    UnverifiableSourceWarning,
    UserFunctionError,
    WorkerLostError,
)
from mmflow.usercode.tracebacks import near, public

if TYPE_CHECKING:
    from mmflow.api import functions
    from mmflow.api.dataset import Dataset
    from mmflow.api.expressions import Expr, coalesce, col, concat_str, element, lit, selectors, when
    from mmflow.api.expressions import length as len  # noqa: A004  (it is mf.len)
    from mmflow.api.jobs import job
    from mmflow.api.progress import progress
    from mmflow.api.reading import (
        from_arrow,
        from_dask,
        from_ray,
        map_array,
        read,
        read_arrow,
        read_avro,
        read_csv,
        read_delta,
        read_excel,
        read_fwf,
        read_iceberg,
        read_json,
        read_ndjson,
        read_npy,
        read_orc,
        read_parquet,
        read_records,
        read_text,
        sql,
    )
    from mmflow.api.results import BadFilesWarning, BadRecordsWarning, RunSummary, WriteResult
    from mmflow.api.session import Session
    from mmflow.api.udf import udaf, udf
    from mmflow.api.verbs.joining import concat
    from mmflow.arrays import MappedArray, create_array, open_array, open_image
    from mmflow.shm.channel import Receiver, Sender, channel
    from mmflow.shm.tables import SharedTable, attach, share

__version__ = VERSION

_READ = ("from_arrow", "from_dask", "from_ray", "map_array", "read", "read_arrow", "read_avro", "read_csv",
         "read_delta", "read_excel", "read_fwf", "read_iceberg", "read_json", "read_ndjson", "read_npy", "read_orc",
         "read_parquet", "read_records", "read_text", "sql")  # fmt: skip
_LAZY = {
    "__narwhals_namespace__": "integrations.narwhals",  # `backend=mmflow` of narwhals' functions
    "BadFilesWarning": "api.results",
    "BadRecordsWarning": "api.results",
    "Dataset": "api.dataset",
    "MappedArray": "arrays",
    "Receiver": "shm.channel",
    "RunSummary": "api.results",
    "Sender": "shm.channel",
    "Session": "api.session",
    "SourceInfo": "api.source_info",
    "SharedTable": "shm.tables",
    "WriteResult": "api.results",
    "attach": "shm.tables",
    "channel": "shm.channel",
    "concat": "api.verbs.joining",
    "create_array": "arrays",
    "job": "api.jobs",
    "len": "api.expressions",
    "open_array": "arrays",
    "open_image": "arrays",
    "progress": "api.progress",
    "share": "shm.tables",
    "udaf": "api.udf",
    "udf": "api.udf",
    **dict.fromkeys(_READ, "api.reading"),
    **dict.fromkeys(("Expr", "coalesce", "col", "concat_str", "element", "lit", "when"), "api.expressions"),
}

_MODULES = {"functions": "api.functions", "selectors": "api.expressions.selectors"}

__all__ = [  # noqa: RUF022  (grouped by topic)
    # Sessions and datasets
    "Session",
    "Dataset",
    "RunSummary",
    "SourceInfo",
    "WriteResult",
    # Readers: rows of files, of memory and of SQL
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
    "from_arrow",
    "from_dask",
    "from_ray",
    "concat",
    "sql",
    # Expressions and functions
    "Expr",
    "col",
    "lit",
    "when",
    "coalesce",
    "concat_str",
    "element",
    "len",
    "selectors",
    "functions",
    "udf",
    "udaf",
    # Jobs
    "job",
    # Display of runs
    "progress",
    # Arrays in files
    "MappedArray",
    "create_array",
    "map_array",
    "open_array",
    "open_image",
    # Shared memory of one host
    "SharedTable",
    "attach",
    "share",
    "Receiver",
    "Sender",
    "channel",
    # Errors
    "MmflowError",
    "BadRecordError",
    "ConfigError",
    "EngineError",
    "OutOfRangeError",
    "PeerLostError",
    "PlanError",
    "SinkError",
    "SourceChangedError",
    "SourceError",
    "StalledError",
    "UserFunctionError",
    "WorkerLostError",
    # Warnings
    "BadFilesWarning",
    "BadRecordsWarning",
    "SilentServerWarning",
    "StalledWarning",
    "UnverifiableSourceWarning",
]


if not TYPE_CHECKING:  # checkers know the names above, and no others

    @public
    def __getattr__(name: str) -> Any:
        if name in _LAZY or name in _MODULES:
            from mmflow.private_apis import pyarrow_pandas  # noqa: PLC0415  (before pyarrow or datafusion are imported)
            from mmflow.startup import limit_address_space  # noqa: PLC0415  (before pyarrow or datafusion are imported)

            limit_address_space()
            pyarrow_pandas.defer_import()
            if name in _MODULES:
                return importlib.import_module(f"mmflow.{_MODULES[name]}")
            value = getattr(
                importlib.import_module(f"mmflow.{_LAZY[name]}"), "length" if name == "len" else name
            )
            globals()[name] = value
            return value
        hint = "" if name.startswith("_") else near(name, [*__all__, "__version__"], "mmflow")
        raise AttributeError(f"mmflow has no attribute {name!r}{hint}", name=name, obj=None)


def __dir__() -> list[str]:
    return sorted(__all__)
