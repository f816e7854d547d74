"""Sessions: where datasets are opened and run.

A session owns a planning catalog and settings. It starts nothing: threads, folders and clusters live as long as a run.
"""

from __future__ import annotations

import os
import re
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from mmflow.access.source import Selection
from mmflow.array_maps import ArraySource, map_array
from mmflow.config import Settings
from mmflow.dataset import Dataset
from mmflow.engines.progress import Progress
from mmflow.engines.run import Outcome, Run, execute
from mmflow.errors import ConfigError, PlanError, plain_text
from mmflow.exec.source import open_source
from mmflow.exec.stage import Plan, Source
from mmflow.expressions import mentions_virtual
from mmflow.formats import PLACE, VIRTUAL_COLUMNS, detect
from mmflow.formats.carried import carried_table
from mmflow.mapping.huge import HugePages
from mmflow.picking import with_places
from mmflow.plan.frontend import Catalog, SourceLeaf, TableLeaf
from mmflow.plan.planner import why_not_split
from mmflow.remote.reach import reaching, storage_text
from mmflow.runs.directory import RunDirectory
from mmflow.runs.quarantine import quarantine_name, write_quarantine
from mmflow.runs.recorder import RunRecorder
from mmflow.shards import find_files
from mmflow.store.sharing import SharedTable, share, unshare
from mmflow.summary import BadRecordsWarning, RunSummary, WriteResult
from mmflow.udfs import CALLED, Udf

__all__ = ["ExplainedSignal", "Session", "default_session"]

_CSV_ONLY = {"delimiter", "header", "quote", "escape", "null"}

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class ExplainedSignal(Exception):  # noqa: N818  (a signal, not an error)
    """A session that only explains came to a plan that would write."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class Session:
    """Opens datasets and runs them.

    Args:
        config: A TOML file of settings.
        on_progress: Called about ten times a second during a run.
        settings: Any key of `mmflow.config.Settings`: `engine`, `address`, `shard_size`, `workers`, `memory`, `io`,
            `partitions`, `broadcast`, `spill_dir`, `cache_dir`, `cache_size`, `runs_dir`, `max_bad_records`, `metrics`,
            `retries`. Sizes may be text, as `64MiB`.

    Raises:
        ConfigError: An unknown key, or a value that does not fit.
    """

    def __init__(
        self,
        *,
        config: str | Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.load(settings, file=config)
        self.catalog = Catalog()
        self.on_progress = on_progress
        #: What the last run read, gave and set aside.
        self.last_run: RunSummary | None = None
        #: Keeps what runs here do, where it is kept (`mmflow.runs`).
        self.recorder: RunRecorder | None = None
        #: Plans that write are not run, but given in an `ExplainedSignal`.
        self.explaining = False
        self._started = 0
        self._shared: list[str] = []

    @classmethod
    def recorded(
        cls, settings: Settings, recorder: RunRecorder, on_progress: Callable[[Progress], None] | None = None
    ) -> Self:
        """A session whose runs are one run that is kept (`mmflow.runs`)."""
        session = cls(on_progress=on_progress)
        session.settings, session.recorder = settings, recorder
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the tables that were shared here. Nothing else is held between runs; datasets stay usable."""
        shared, self._shared = self._shared, []
        for handle in shared:
            unshare(handle)

    def __repr__(self) -> str:
        s = self.settings
        return f"Session(engine={s.engine!r}, workers={s.workers}, memory={s.memory >> 20}MiB)"

    # ---- sources ------------------------------------------------------------------------------

    def read(self, path: Paths, format: str | None = None, **options: Any) -> Dataset:  # noqa: A002
        """Files of any format.

        Args:
            path: A file, glob, folder, or list of them; URLs too (docs/remote.md).
            format: csv, ndjson, text, records, arrow, npy, parquet; None: by name and first bytes.
            options: Of the format (see docs/formats.md); `schema` among them. `hive=False`: folders `name=value` are
                no columns. `storage_options`: a dict, or JSON of one, for the fsspec file system of URLs; no secrets,
                which the environment gives.

        Raises:
            SourceError: A file is missing, unreadable, not of its format, or has other columns than the first.
            ConfigError: An unknown format or option.
        """
        storage = storage_text(options.pop("storage_options", None))
        with reaching(replace(self.settings.reach, storage=storage)):
            files = find_files(path)
            if not files:
                raise ConfigError("no files were given")
            if format is None and _CSV_ONLY & set(options):
                format = "csv"  # noqa: A001  (whatever the file is called)
            if format is None:
                format, found = detect(files[0])  # noqa: A001
                options = {**found, **options}
            label = str(path) if isinstance(path, str | os.PathLike) else f"{files[0]}, ..."
            source = open_source(files, format, label, storage, options)
        offer = cache(lambda names: self.catalog.add(SourceLeaf(source, names)))
        return Dataset(self, offer(()), _hidden(source), Selection.all(source), offer=offer)

    def read_csv(self, path: Paths, **options: Any) -> Dataset:
        """CSV. Options: delimiter header quote escape null schema on_bad_record validate exact. Raises as `read`."""
        return self.read(path, "csv", **options)

    def read_ndjson(self, path: Paths, **options: Any) -> Dataset:
        """One JSON object a line. Options: schema unknown_fields on_bad_record validate exact. Raises as `read`."""
        return self.read(path, "ndjson", **options)

    def read_text(self, path: Paths, **options: Any) -> Dataset:
        """Lines, as column `line`. Options: on_bad_record. Raises as `read`."""
        return self.read(path, "text", **options)

    def read_records(self, path: Paths, **options: Any) -> Dataset:
        """Fixed-width binary records. Options: layout record_size header_bytes on_bad_record. Raises as `read`."""
        return self.read(path, "records", **options)

    def read_arrow(self, path: Paths, **options: Any) -> Dataset:
        """Arrow IPC files, streams, Feather v2. Raises as `read`."""
        return self.read(path, "arrow_ipc", **options)

    def read_npy(self, path: Paths, **options: Any) -> Dataset:
        """numpy's .npy, one or two dimensions, or structured. Raises as `read`."""
        return self.read(path, "npy", **options)

    def read_parquet(self, path: Paths, **options: Any) -> Dataset:
        """Parquet. Raises as `read`."""
        return self.read(path, "parquet", **options)

    def from_arrow(self, data: Any) -> Dataset:
        """Rows in memory: a pyarrow table or batch, or anything with `__arrow_c_stream__` (Polars, pandas, DuckDB).

        Raises:
            ConfigError: `data` is no table.
            PlanError: A value does not fit its column's type, or a name is there twice.
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
        table = carried_table(table)
        frame = self.catalog.add(TableLeaf(table))
        return Dataset(self, frame, placed=lambda: self.catalog.add(TableLeaf(with_places(table))))

    def share(self, data: Any, *, huge_pages: HugePages = "auto") -> SharedTable:
        """`mf.share`, for no longer than this session: its end (of a job's session, the run's) drops the table.

        Tables that are attached by then stay readable, where they are.

        Raises:
            ConfigError: `data` is no table, or another `huge_pages`.
            EngineError: There is no room.
        """
        handle = share(data, spill_dir=self.settings.spill_dir, huge_pages=huge_pages)
        self._shared.append(str(handle))
        return handle

    def sql(self, query: str, **tables: Any) -> Dataset:
        """A SELECT. Tables are given by name; `FROM 'path'` reads a file by its name and first bytes.

        Args:
            query: One SELECT, in DataFusion's SQL.
            tables: Datasets, or what `from_arrow` takes, by the name that the query calls them.

        Raises:
            PlanError: The query is wrong.
            SourceError: A path in it can't be read.
        """
        # Names of files that are not UTF-8 stand in the query as messages show them.
        given = {plain_text(name): name for pair in _QUOTED.findall(query) for name in pair if name}
        query = plain_text(query)
        virtual = mentions_virtual([query])
        frames = {
            n: (t if isinstance(t, Dataset) else self.from_arrow(t)).with_virtual(virtual)
            for n, t in tables.items()
        }

        def resolve(name: str) -> Any:
            """A table that the query names and nobody gave: a path, if it looks like one."""
            name = given.get(name, name)
            if not re.search(r"[./*\\]", name) and not os.path.exists(name):
                return None
            return self.read(name).with_virtual(virtual)

        unsplit = partial(why_not_split, catalog=self.catalog, settings=self.settings)
        return Dataset(self, self.catalog.sql(query, frames, resolve, unsplit))

    # ---- arrays -------------------------------------------------------------------------------

    def map_array(self, source: ArraySource, function: Callable[..., Any], **options: Any) -> WriteResult:
        """A function over the rows of an array, by all workers, into one file: all or nothing.

        Args:
            source: An npy or BMP file, or an array (`mf.open_array`, `mf.open_image`), whose file is meant.
            function: Takes rows, an array of (n, ...) that is not to be written to, gives as many; and takes the number
                of the first of them if it has a second argument. Deterministic: it may be called again.
            options: `out`: the file to write, npy if it ends in .npy or the source is, else an image as the source;
                it may be the source. `in_place=True`: change the source itself, through undo logs of all that is
                changed. `dtype`, `row_shape`: of what the function gives; else found by calling it with no rows.
                `overwrite`: `out` may be there. `skip_holes`: rows in holes of a sparse file stay zeros, uncomputed.
                `processes`: run the function in other processes: for functions that hold the GIL.

        Raises:
            SourceError: The source is missing, no such file, or changed meanwhile.
            SinkError: `out` exists, somebody else is changing it, no room, no permission; it is as it was.
            UserFunctionError: The function raises, or gives what does not fit.
            ConfigError: Options that don't go together.
        """
        return map_array(self, source, function, **options)

    def register_udf(self, function: Udf) -> None:
        """Make a function that `mf.udf` or `mf.udaf` decorated known to SQL by its name."""
        self.catalog.register_function(function)

    def register_called(self) -> None:
        """Make the functions that expressions may hold known to plans."""
        for function in CALLED.values():
            self.register_udf(function)

    # ---- runs ---------------------------------------------------------------------------------

    def start(self, plan: Plan, run: str) -> Run:
        """Start a plan; rows come as they are asked for. See `engines.run.execute`."""
        return execute(plan, self.settings, run=run, on_progress=self.on_progress, record=self.recorder)

    def explained(self, plan: Plan) -> None:
        """To be called before a plan is run that writes.

        Raises:
            ExplainedSignal: It is not to be.
        """
        if self.explaining:
            raise ExplainedSignal(plan)

    def new_run(self) -> str:
        """A name for a run; of a recorded one its own, and for further plans of its job with a number."""
        if self.recorder is None:
            return uuid.uuid4().hex[:12]
        number, self._started = self._started, self._started + 1
        name = self.recorder.directory.name
        return f"{name}.{number}" if number else name

    def finished(self, run: str, outcome: Outcome, quarantine: str | None) -> RunSummary:
        """Note what a run did, and say so where records were set aside (`set_aside`)."""
        summary = RunSummary.of(run, outcome, quarantine=quarantine)
        self.last_run = summary
        if summary.bad_records:
            warnings.warn(summary.bad_message(), BadRecordsWarning, stacklevel=4)
        return summary

    def committed_before(self, run: str, rows: int) -> RunSummary:
        """Note that there was nothing to do: this run wrote its output before its driver died; counts are of then."""
        assert self.recorder is not None  # else nothing is known of before
        before = self.recorder.progress_before(run)
        directory, (_, _, number) = self.recorder.directory, run.partition(".")
        aside = quarantine_name(number)
        self.last_run = RunSummary(
            run, rows, before.records, before.bytes_done, before.bad,
            directory.path(aside) if directory.exists(aside) else None, before.pruned, before.retries, before.reruns,
            before.second, before.restored, before.elapsed, reasons=(),
        )  # fmt: skip
        return self.last_run

    def set_aside(self, run: str, rejects: Sequence[pa.RecordBatch]) -> str | None:
        """Write bad records to the run's quarantine.

        Returns:
            Its path or URL; None: there are none.

        Raises:
            EngineError: It can't be written.
        """
        if not rejects:
            return None
        name, _, number = run.partition(".")
        directory = RunDirectory(self.settings.runs_dir, name)
        directory.make()
        return write_quarantine(directory, number, rejects)


def _hidden(source: Source) -> tuple[str, ...]:
    """Virtual columns: there when they are named, not in `SELECT *` of the Python API."""
    own = source.schema.names
    virtual = [*VIRTUAL_COLUMNS, PLACE] if source.format.record_oriented else [PLACE]
    if source.format.record_oriented and "_offset" in own:
        virtual.remove(PLACE)  # which is found by the virtual column of that name
    return tuple(n for n in virtual if n not in own)


#: What may name a file in a query: `FROM 'path'` and `FROM "path"`.
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")

_default: Session | None = None


def default_session() -> Session:
    """The session behind `mf.read_csv` and the like; made when first used."""
    global _default  # noqa: PLW0603
    if _default is None:
        _default = Session()
    return _default
