"""`map_array`: a function over the rows of an array, by all workers of an engine, into one file.

    rows of the change (`arrays.change`)  --scan-->  regions  --`RegionWriter`-->  seams  -->  the driver writes them

A task is a shard of a file that is as large as the array's and has nothing in it. So regions are cut, placed, tried
again, reported and resumed as all shards are. That file lives as long as the change: what was finished of a change that
was undone can't be taken for a part of a later one.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from mmflow.api.destinations import Note
from mmflow.api.results import WriteResult
from mmflow.api.run_context import RunContext
from mmflow.arrays import MappedArray
from mmflow.arrays.change import Change
from mmflow.arrays.header import build_header, read_npy_layout
from mmflow.arrays.holes import has_holes
from mmflow.arrays.images import is_bmp, read_bmp_layout
from mmflow.arrays.layout import ArrayLayout, packed_row_bytes
from mmflow.arrays.regions import REGION, SEAMS, RegionFormat, RegionWriter, read_seams
from mmflow.engines.loop import Outcome
from mmflow.errors import ConfigError, UserFunctionError
from mmflow.formats import Format
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.fingerprint import digest
from mmflow.plan.stages import Functions, MapStep, Plan, Result, ScanInput, Source, Stage
from mmflow.shards import default_shard_size
from mmflow.sinks import CommitResult
from mmflow.usercode.failures import function_error

__all__ = ["map_array"]

ArraySource = str | os.PathLike[str] | MappedArray
_PIECES = 64 << 20


def map_array(
    context: RunContext,
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
    """Apply a function to the rows of an array, as `Session.map_array` says."""
    name = context.new_run_name()
    with _opened(source, name) as array:
        work = _planned(
            array, function, out=out, in_place=in_place, dtype=dtype, row_shape=row_shape, skip_holes=skip_holes,
            overwrite=overwrite,
        )  # fmt: skip
        recorded = _recorded_text(context, work) if context.resumable else ""
        change = Change(work.target, name, in_place=work.in_place, recorded=recorded)
        plan = _plan(work, change, context.catalog.functions, processes=processes)
        return context.write(plan, name, _ArrayDestination(change, work))


def _opened(source: ArraySource, run: str) -> MappedArray:
    """Open the source for reading. Of an array, its own file is opened.

    A change that an earlier driver of this run began is not undone: the run continues it.
    """
    if isinstance(source, MappedArray):
        layout = source.layout
        return MappedArray(source.path, "r", lambda _: layout, undo=False, own=run)
    path = os.fspath(source)
    return MappedArray(path, "r", read_bmp_layout if is_bmp(path) else read_npy_layout, undo=False, own=run)


@dataclass(frozen=True, slots=True)
class _Map:
    """Description of the change. `pieces` and `like` are the first content of a new file (`Change.begin`)."""

    source: str
    target: str
    given: ArrayLayout
    made: ArrayLayout
    function: Callable[..., Any]
    in_place: bool
    skip_holes: bool
    overwrite: bool
    size: int
    identity: tuple[int, int]
    pieces: Mapping[int, bytes]
    like: str | None
    preallocate: bool


def _planned(
    array: MappedArray,
    function: Callable[..., Any],
    *,
    out: str | os.PathLike[str] | None,
    in_place: bool,
    dtype: npt.DTypeLike | None,
    row_shape: Sequence[int] | None,
    skip_holes: bool,
    overwrite: bool,
) -> _Map:
    # The file itself, not a link to it, which a new file would take the place of.
    source = os.path.realpath(array.path)
    if out is None and not in_place:
        raise ConfigError(
            "map_array: say out= with the file to write, or in_place=True to change the array's own"
        )
    target = source if out is None else os.path.realpath(os.fspath(out))
    given, identity = array.layout, os.stat(source)
    if given.whole:
        raise ConfigError(
            f"map_array: {source} is in Fortran order or a single value, and has no rows that lie by themselves; save "
            "it in C order (numpy.ascontiguousarray)"
        )
    if in_place and target != source:
        raise ConfigError(
            f"map_array: in_place=True changes {source}, and out= is another file; leave out one"
        )
    made, pieces, like, size = given, {}, None, identity.st_size
    if not in_place:
        kind, inner = _made(given, function, dtype, row_shape)
        if given.kind == "npy" or target.endswith(".npy"):
            shape = (given.rows, *inner)
            head = build_header(kind, shape)
            made = ArrayLayout("npy", kind, shape, len(head), packed_row_bytes(kind, shape))
            pieces, size = {0: head}, made.end
        elif (kind, inner) != (given.dtype, given.shape[1:]):
            raise ConfigError(
                f"map_array: an image of {given.dtype} and rows of {given.shape[1:]} can't hold {kind} and rows of "
                f"{inner}; write to a file that ends in .npy, or give what fits"
            )
        elif given.begin + size - given.end <= _PIECES:
            pieces = _around(source, given, size)
        else:
            like = source
    with open(source, "rb") as file:
        sparse = has_holes(file.fileno(), given.begin, given.end)
    return _Map(
        source, target, given, made, function, in_place, skip_holes, overwrite or target == source, size,
        (0, 0) if in_place else (identity.st_size, identity.st_mtime_ns), pieces, like, preallocate=not sparse,
    )  # fmt: skip


def _made(
    given: ArrayLayout,
    function: Callable[..., Any],
    dtype: npt.DTypeLike | None,
    row_shape: Sequence[int] | None,
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return type and shape of the rows that a function returns."""
    if dtype is None or row_shape is None:
        name = getattr(function, "__name__", "function")
        rows = given.view(b"", 0)
        try:
            found = np.asarray(function(rows, 0) if _numbered(function) else function(rows))
        except (Exception, SystemExit) as error:  # whatever the user's function raised
            where = f"map_array function {name!r}, called with no rows to find what it gives,"
            raise function_error(
                where, error, name, "; pass dtype= and row_shape= to spare this call"
            ) from error
        if found.ndim == 0 or len(found):
            raise UserFunctionError(
                f"map_array: {name!r} gives {found.shape} for no rows; it must give a row for each that it is given"
            )
        dtype = found.dtype if dtype is None else dtype
        row_shape = found.shape[1:] if row_shape is None else row_shape
    try:
        kind, inner = np.dtype(dtype), tuple(int(n) for n in row_shape)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"map_array: {error}") from error
    if kind.hasobject or any(n < 0 for n in inner):
        raise ConfigError(
            f"map_array: rows of {inner} of {kind} can't be written; give a plain dtype, and sizes"
        )
    return kind, inner


def _numbered(function: Callable[..., Any]) -> bool:
    """Return whether a function takes the number of the first row, too."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return True
    except ValueError:  # of C, without a signature
        return False
    return False


def _around(path: str, layout: ArrayLayout, size: int) -> dict[int, bytes]:
    """Return the bytes before and after the rows, by offset."""
    with open(path, "rb") as file:
        fd = file.fileno()
        found = {0: os.pread(fd, layout.begin, 0), layout.end: os.pread(fd, size - layout.end, layout.end)}
    return {offset: data for offset, data in found.items() if data}


class _ArrayDestination:
    """File of a `map_array`."""

    def __init__(self, change: Change, work: _Map) -> None:
        self.path = work.target
        self._change = change
        self._work = work

    @property
    def done(self) -> bool:
        return self._change.done

    def prepare(self) -> None:
        work = self._work
        self._change.begin(
            work.size,
            overwrite=work.overwrite,
            pieces=work.pieces,
            preallocate=work.preallocate,
            like=work.like,
        )

    def sweep(self) -> None:
        self._change.sweep()

    def receive(self, batch: pa.RecordBatch) -> None:
        self._change.write_seams(read_seams(batch))

    def commit(self, outcome: Outcome | None, note: Note) -> CommitResult:
        made = self._work.made
        committed = CommitResult(self.path, 1, made.rows, made.rows * made.row_bytes)
        self._change.commit(lambda: note(committed))
        return committed

    def abort(self) -> None:
        self._change.abort()


def _recorded_text(context: RunContext, work: _Map) -> str:
    """Return a digest of what must be the same for a run to be resumed: other regions would not find its undo logs."""
    settings = context.settings
    cut = settings.shard_size or default_shard_size(work.size, settings.workers)
    environment = context.catalog.environment
    return digest(
        work.function, work.given, work.made, work.in_place, work.skip_holes, work.identity, cut, environment
    )


def _plan(work: _Map, change: Change, functions: Functions, *, processes: bool) -> Plan:
    size, mtime_ns = work.identity
    writer = RegionWriter(
        work.function, _numbered(work.function), work.source, work.given, size, mtime_ns, change.target, work.made,
        str(change.folder), work.in_place, work.skip_holes,
    )  # fmt: skip
    name = getattr(work.function, "__name__", "function")
    regions = cast("Format", RegionFormat(work.made))  # frozen, as all formats are
    # Changed in place, a source is not what it was when the run goes on.
    inputs = () if work.in_place else (work.source,)
    scan = ScanInput("rows", Source((change.rows,), regions, work.source, inputs), tuple(REGION.names))
    where = "in place" if work.in_place else f"into {work.target}"
    stage = Stage(
        id=0,
        inputs=(scan,),
        steps=(MapStep(writer, REGION, SEAMS, processes=processes),),
        output=Result(),
        schema=SEAMS,
        title=f"map {name} over the rows of {work.source}, {where}",
    )
    return Plan((stage,), functions)
