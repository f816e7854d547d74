"""Where the rows of a command go: into files, or to stdout; what was set aside is said on stderr."""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.sinks.stdout import write_table
from mmflow.summary import BadRecordsWarning, RunSummary, WriteResult

__all__ = ["emit", "print_rows"]

_HELD_BYTES = 64 << 20
_STDOUT = ("table", "json", "csv", "arrow")


def emit(
    dataset: Dataset, options: argparse.Namespace, output: Mapping[str, Any] | None
) -> RunSummary | None:
    """Write rows to a sink, or print them; say on stderr what was set aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadRecordsWarning)
        target = dict(output or {})
        if options.output is not None:
            target["path"] = options.output
        if target.get("path") is not None:
            result = _write(dataset, target, options)
            print(result.told(), file=sys.stderr)
        else:
            _print(dataset, options)
    summary = dataset.session.last_run
    if summary is not None and summary.bad_records:
        print(f"warning: {summary.bad_message()}", file=sys.stderr)
    return summary


def _write(dataset: Dataset, target: dict[str, Any], options: argparse.Namespace) -> WriteResult:
    path, form = target.pop("path"), options.format or target.pop("format", None)
    target.pop("format", None)
    if options.if_exists is not None:
        target["if_exists"] = options.if_exists
    return dataset.write(path, form, **target)


def _print(dataset: Dataset, options: argparse.Namespace) -> None:
    form = _form(options.format, "; name a file with --output")
    if options.if_exists is not None:
        raise ConfigError("--if-exists goes with --output")
    batches = _held_back(dataset.iter_batches())
    first = next(batches, None)  # not even a header before the run has ended well
    _to_stdout(itertools.chain(() if first is None else (first,), batches), dataset.schema, form)


def print_rows(read: Callable[[], pa.Table], form: str | None) -> None:
    """Print a table, that is read once it is known how it is printed: by default as a table on a terminal, else CSV.

    Raises:
        ConfigError: There is no such format.
    """
    known = _form(form)
    table = read()
    _to_stdout(table.to_batches(), table.schema, known)


def _form(form: str | None, else_do: str = "") -> str:
    form = form or ("table" if sys.stdout.isatty() else "csv")
    if form not in _STDOUT:
        raise ConfigError(f"--format {form!r}: rows on stdout are {', '.join(_STDOUT)}{else_do}")
    return form


def _to_stdout(rows: Iterable[pa.RecordBatch], schema: pa.Schema, form: str) -> None:
    sys.stdout.flush()
    write_table(rows, schema, form, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _held_back(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Nothing before the run has ended well, unless the result outgrows what may wait in memory."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += batch.nbytes
        if held > _HELD_BYTES:
            yield from waiting
            waiting.clear()
            yield from batches
    yield from waiting
