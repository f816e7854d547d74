"""Sessions: where datasets are opened and run.

A session owns a planning catalog and settings. It starts nothing: threads, folders and clusters live as long as a run.

Invariant: threads may share a session and its datasets. What belongs to a call is kept by the call, or by its thread.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from mmflow.api.dataset import Dataset
from mmflow.api.options import Folder
from mmflow.api.readers import Readers
from mmflow.api.results import RunSummary, WriteResult
from mmflow.api.run_context import RunContext
from mmflow.api.sql.query import plan_query
from mmflow.api.sql.variables import caller_variables
from mmflow.api.udf import Udf
from mmflow.config import CacheName, EngineName, IoName, Settings, named_sources
from mmflow.errors import ConfigError, EngineError, PlanError
from mmflow.formats.schemas.arrow_types import plan_table
from mmflow.lazy import array_types as npt
from mmflow.lazy import difflib
from mmflow.mapping.system.huge import HugePages
from mmflow.plan.catalog import TableLeaf

if TYPE_CHECKING:
    from mmflow.api.map_array import ArraySource
    from mmflow.runs.recorder import RunRecorder
    from mmflow.scheduler.progress import Progress
    from mmflow.shm.tables import SharedTable

__all__ = ["Session", "default_session"]


class Session(Readers):
    """Session that opens datasets and runs them. Threads may share it, and its datasets.

    Parameters left out are taken from the environment (`MMFLOW_WORKERS=4`), then from the file `config`, then from the
    machine. Sizes are in bytes, or text such as `"64MiB"`.

    Parameters
    ----------
    config
        TOML file of settings.
    on_progress
        Function that is called about ten times a second during a run.
    engine
        Where tasks run: threads of this process, or workers of a Ray or Dask cluster.
    address
        Address of the cluster. By default one is started on this machine.
    shard_size
        Size of the part of a file that one task reads, rounded up to whole pages.
    workers
        Number of tasks that run at once.
    memory
        Anonymous memory of all workers together. Blocks beyond it go to `spill_dir`.
    io
        How files are read: mapped, by pread, or whichever suits the file system.
    partitions
        Number of partitions of every exchange. By default chosen from estimated sizes.
    broadcast
        Largest size of the side of a join that is copied to every task.
    spill_dir
        Folder for blocks and operators that spill.
    cache
        Whether columns of text files are kept as they are converted, so that later queries read these instead of the
        text: "off", "auto" (from the second query on that reads them) or "eager" (from the first).
    cache_dir
        Folder for pages of remote files and for these columns.
    cache_size
        Largest total size of these; 0 keeps none.
    runs_dir
        Folder or URL where recorded runs are kept.
    resumable
        Whether outputs of finished tasks of a recorded run are kept until its end, so that it can be resumed.
    metrics
        Port, or path that ends in `.prom`, for Prometheus.
    max_bad_records
        Number of bad records (an int), or their share of all records (a float, or text such as `"0.1%"`), beyond
        which a run fails.
    retries
        Number of further attempts of a task that failed for a reason that may pass.
    stall_after
        Seconds without any movement after which a task is said to be stalled, and gets a second attempt.
    stall_timeout
        Seconds without any movement after which the run fails; 0: never.

    Raises
    ------
    ConfigError
        A value does not fit its setting, or the file has an unknown one.

    Examples
    --------
    >>> import mmflow as mf
    >>> with mf.Session(workers=2, memory="512MiB") as session:
    ...     session.from_arrow({"x": [1, 2, 3]}).count()
    3
    """

    def __init__(
        self,
        *,
        config: str | Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        engine: EngineName | None = None,
        address: str | None = None,
        shard_size: int | str | None = None,
        workers: int | None = None,
        memory: int | str | None = None,
        io: IoName | None = None,
        partitions: int | None = None,
        broadcast: int | str | None = None,
        spill_dir: Folder | None = None,
        cache: CacheName | None = None,
        cache_dir: Folder | None = None,
        cache_size: int | str | None = None,
        runs_dir: Folder | None = None,
        resumable: bool | None = None,
        metrics: str | int | None = None,
        max_bad_records: float | str | None = None,
        retries: int | None = None,
        stall_after: float | None = None,
        stall_timeout: float | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "engine": engine, "address": address, "shard_size": shard_size, "workers": workers, "memory": memory,
            "io": io, "partitions": partitions, "broadcast": broadcast, "spill_dir": spill_dir,
            "cache": cache, "cache_dir": cache_dir, "cache_size": cache_size, "runs_dir": runs_dir,
            "resumable": resumable, "metrics": metrics, "max_bad_records": max_bad_records, "retries": retries,
            "stall_after": stall_after, "stall_timeout": stall_timeout,
        }  # fmt: skip
        sources = named_sources(config)
        self._open(RunContext(Settings.load(given, file=config), on_progress, sources=sources))

    def _open(self, context: RunContext) -> None:
        self.context = context
        self._lock = threading.Lock()
        #: Handles of the tables that this session shares; None: it is closed.
        self._shared: list[str] | None = []

    @classmethod
    def of(cls, context: RunContext) -> Self:
        """Return a session of this run context. It shares its settings, catalog and last runs."""
        session = cls.__new__(cls)
        session._open(context)
        return session

    @classmethod
    def recorded(
        cls,
        settings: Settings,
        recorder: RunRecorder,
        on_progress: Callable[[Progress], None] | None = None,
        sources: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Self:
        """Return a session whose plans all belong to one recorded run (`mmflow.runs`)."""
        return cls.of(RunContext(settings, on_progress, recorder, sources))

    @property
    def settings(self) -> Settings:
        """Settings of every run of the session."""
        return self.context.settings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the tables that this session shares, and refuse to share more. Idempotent.

        Nothing else is held between runs: datasets stay usable, and runs of other threads continue.
        """
        with self._lock:
            shared, self._shared = self._shared, None
        for handle in shared or ():
            from mmflow.shm.tables import unshare  # noqa: PLC0415  (slow)

            unshare(handle)

    @property
    def last_run(self) -> RunSummary | None:
        """Summary of the last run that this thread asked for; if it asked for none, of the last run of any thread."""
        return self.context.last_run

    def diagnose(self) -> dict[str, Any]:
        """Return facts about this machine, and about the cluster that the settings name, which is asked.

        Returns
        -------
        dict
            Versions (`python`, `kernel`, `packages`), the budget (`workers`, `memory_budget`), memory and limits in
            bytes, shared memory, spill space, folders of runs (`stores`), `engines`, the `verdict` (fine, works with
            limits, does not work), what keeps runs from starting (`errors`), what limits them (`warnings`), and
            `ready`: whether a run can start.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.Session().diagnose()["engines"]["local"]
        'ready'
        """
        from mmflow.api.diagnostics import diagnose  # noqa: PLC0415  (slow)

        return diagnose(self.settings)

    def __repr__(self) -> str:
        s = self.settings
        return f"Session(engine={s.engine!r}, workers={s.workers}, memory={s.memory >> 20}MiB)"

    def source(self, name: str) -> Dataset:
        """Open a source of the settings file by its name.

        Parameters
        ----------
        name
            NAME of a table `[sources.NAME]`, which has a `path`, and may have a `format` and its options.

        Raises
        ------
        ConfigError
            There is no such source, or one of its options is wrong.
        SourceError
            A file is missing, or unreadable.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> _ = Path("log.csv").write_text("a;b\\n1;2\\n")
        >>> _ = Path("mmflow.toml").write_text("[sources.logs]\\npath = 'log.csv'\\ndelimiter = ';'\\n")
        >>> mf.Session(config="mmflow.toml").source("logs").columns
        ['a', 'b']
        """
        sources = self.context.sources
        if name not in sources:
            close = difflib.get_close_matches(name, sources, 1)
            known = ", ".join(sources) or "none; write [sources.NAME] into the file of --config"
            hint = f"did you mean {close[0]!r}?" if close else f"the sources are {known}"
            raise ConfigError(f"there is no source {name!r}; {hint}")
        options = dict(sources[name])
        return self._read(options.pop("path"), options.pop("format", None), options)

    def from_arrow(self, data: Any) -> Dataset:
        """Open rows in memory.

        Parameters
        ----------
        data
            Pyarrow table or batch, a dict of columns, or anything with `__arrow_c_stream__` (Polars, pandas, DuckDB).

        Returns
        -------
        Dataset
            Rows of the table, in its order.

        Raises
        ------
        ConfigError
            `data` is no table.
        PlanError
            A value does not fit its column's type, or a name occurs twice.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).count()
        2
        """
        try:
            if isinstance(data, dict):  # pa.table would look for pandas first
                data = pa.Table.from_pydict(data)
            table = data if isinstance(data, pa.Table) else pa.table(data)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ConfigError(f"from_arrow: {type(data).__name__} is no table: {error}") from error
        twice = next((n for n, count in Counter(table.schema.names).items() if count > 1), None)
        if twice is not None:
            raise PlanError(f"from_arrow: two columns are named {twice!r}; rename one")
        table = plan_table(table)
        frame = self.context.catalog.add(TableLeaf(table))
        from mmflow.api.sampling import with_places  # noqa: PLC0415  (slow)

        return Dataset(
            self.context, frame, placed=lambda: self.context.catalog.add(TableLeaf(with_places(table)))
        )

    def from_dask(self, frame: Any) -> Dataset:
        """Open the rows of a dataframe of Dask.

        A run computes each partition for the task that needs it: on a worker of Dask with `engine="dask"`, else by the
        client of this process, or without one here. They are computed again in each run, unless `frame.persist()` keeps
        them.

        Parameters
        ----------
        frame
            Dataframe of Dask. An index with a name is a column.

        Returns
        -------
        Dataset
            Rows of the partitions, in their order.

        Raises
        ------
        ConfigError
            `frame` is something else, or a column's type is not known to Arrow.

        Examples
        --------
        >>> import mmflow as mf, pandas as pd, dask.dataframe as dd
        >>> frame = dd.from_pandas(pd.DataFrame({"a": [1, 2, 3]}), npartitions=2)
        >>> mf.from_dask(frame).agg(mf.col("a").sum()).to_arrow().to_pydict()
        {'a': [6]}
        """
        from mmflow.api.bridges.dask import DaskPartitions, dask_schema  # noqa: PLC0415  (slow)

        schema = dask_schema(frame)
        parts = DaskPartitions(frame, schema)
        return self._of_partitions(parts, len(parts), schema)

    def from_ray(self, dataset: Any) -> Dataset:
        """Open the rows of a dataset of Ray Data. It is executed now; its blocks stay in Ray's object store.

        A task of a run maps its block from there (`engine="ray"`), or gets it (`local`).

        Parameters
        ----------
        dataset
            Dataset of Ray Data.

        Returns
        -------
        Dataset
            Rows of the blocks, in their order.

        Raises
        ------
        ConfigError
            `dataset` is something else.
        """
        from mmflow.api.bridges.ray import RayBlocks  # noqa: PLC0415  (slow)

        blocks = RayBlocks(dataset)
        return self._of_partitions(blocks, blocks.count, blocks.schema)

    def _of_partitions(
        self, function: Callable[[pa.RecordBatch], pa.Table], count: int, schema: pa.Schema
    ) -> Dataset:
        """Return the rows that a function gives for the numbers of partitions, one of them for each task."""
        numbers = self.from_arrow(pa.table({"partition": pa.array(range(count), pa.int64())}))
        return numbers.repartition(max(1, count)).map_batches(function, schema)

    def share(self, data: Any, *, huge_pages: HugePages = "auto") -> SharedTable:
        """Share a table as `mf.share` does, until this session is closed (that of a job: until its run ends).

        Tables that are attached by then stay readable.

        Parameters
        ----------
        data, huge_pages
            As of `mf.share`.

        Returns
        -------
        SharedTable
            Handle for `mf.attach`.

        Raises
        ------
        ConfigError
            `data` is no table, or `huge_pages` is invalid.
        EngineError
            There is no room, or the session is closed.

        Examples
        --------
        >>> import mmflow as mf
        >>> with mf.Session() as session:
        ...     mf.attach(session.share({"x": [1]})).num_rows
        1
        """
        self._check_open()
        from mmflow.shm.tables import share  # noqa: PLC0415  (slow)

        handle = share(data, spill_dir=self.settings.spill_dir, huge_pages=huge_pages)
        with self._lock:
            if self._shared is not None:
                self._shared.append(str(handle))
                return handle
        from mmflow.shm.tables import unshare  # noqa: PLC0415  (slow)

        unshare(handle)  # closed meanwhile, by another thread
        self._check_open()
        return handle

    def _check_open(self) -> None:
        if self._shared is None:
            raise EngineError(
                "this session is closed, and its end drops the tables that it shares: share() in one that is open, or "
                "by mf.share(), which belongs to no session"
            )

    def sql(self, query: str, **values: Any) -> Dataset:
        """Select rows by SQL (docs/sql.md).

        `FROM 'path'` reads a file, `FROM name` a table of `values`, or a variable of the code that calls this.

        Parameters
        ----------
        query
            One SELECT, in DataFusion's SQL.
        **values
            Tables by their names in the query: datasets, or what `from_arrow` takes. Other values are those of the
            query's parameters: `x=1` of `$x`.

        Returns
        -------
        Dataset
            Rows of the query. Nothing runs yet.

        Raises
        ------
        PlanError
            The query is wrong, a parameter has no value, or a value no parameter.
        SourceError
            A path in it can't be read.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.Session().sql("SELECT a + $x AS b FROM t", t={"a": [1, 2]}, x=1).to_arrow().to_pydict()
        {'b': [2, 3]}
        """
        return plan_query(self, query, values, caller_variables())

    # ---- arrays -------------------------------------------------------------------------------

    def map_array(
        self,
        source: ArraySource,
        function: Callable[..., Any],
        *,
        out: str | os.PathLike[str] | None = None,
        in_place: bool = False,
        dtype: npt.DTypeLike | None = None,
        row_shape: Sequence[int] | None = None,
        overwrite: bool = False,
        skip_holes: bool = False,
        processes: bool = False,
    ) -> WriteResult:
        """Apply a function to the rows of an array, by all workers, and write one file: all of it, or nothing.

        Parameters
        ----------
        source
            npy or BMP file, or an array (`mf.open_array`, `mf.open_image`), whose file is meant.
        function
            Function of rows, an array of shape (n, ...) that it must not write to, which returns as many rows. A second
            argument, if it has one, is the number of the first of them. It must be deterministic: rows may be computed
            again.
        out
            File to write: npy if it ends in `.npy` or the source is npy, else an image like the source. It may be the
            source.
        in_place
            Whether the source itself is changed, through undo logs.
        dtype, row_shape
            Type and shape of the rows that the function returns. By default found by calling it with no rows.
        overwrite
            Whether `out` may exist.
        skip_holes
            Whether rows in holes of a sparse file stay zeros, uncomputed.
        processes
            Whether the function runs in other processes: for functions that hold the GIL.

        Returns
        -------
        WriteResult
            Path, rows and bytes, and the summary of the run.

        Raises
        ------
        SourceError
            The source is missing, no such file, or changed meanwhile.
        SinkError
            `out` exists, another process changes it, or there is no room or permission. It is as it was.
        UserFunctionError
            The function raises, or returns rows that do not fit.
        ConfigError
            Options that exclude each other.

        Examples
        --------
        >>> import mmflow as mf
        >>> import numpy as np
        >>> np.save("a.npy", np.arange(4))
        >>> _ = mf.map_array("a.npy", lambda rows: rows * 2, out="b.npy")
        >>> np.load("b.npy")
        array([0, 2, 4, 6])
        """
        from mmflow.api.map_array import map_array  # noqa: PLC0415  (slow)

        return map_array(
            self.context, source, function, out=out, in_place=in_place, dtype=dtype, row_shape=row_shape,
            overwrite=overwrite, skip_holes=skip_holes, processes=processes,
        )  # fmt: skip

    def register_udf(self, function: Udf) -> None:
        """Register a function that `mf.udf` or `mf.udaf` decorated, so that SQL can call it by its name."""
        self.context.catalog.register_function(function)
        self.context.catalog.sql_names[function.sql_name] = function.name

    def declare_environment(self, names: Sequence[str]) -> None:
        """Declare environment variables that functions read: with other values, a resumed run recomputes.

        Args:
            names: All names; they replace those that were declared before.
        """
        from mmflow.plan.fingerprint import digest  # noqa: PLC0415  (slow)

        self.context.catalog.environment = tuple((name, digest(os.environ.get(name))) for name in names)


_default: Session | None = None
_default_lock = threading.Lock()


def default_session() -> Session:
    """Return the session behind `mf.read_csv` and the like; made when first used, once for all threads."""
    global _default  # noqa: PLW0603  (one for the process, made at its first use)
    with _default_lock:
        if _default is None:
            _default = Session()
        return _default
