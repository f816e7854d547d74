"""Output of a command: rows into files or to stdout, counts of bad records to stderr."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from mmflow.api.dataset import Dataset
from mmflow.api.results import BadFilesWarning, BadRecordsWarning, RunSummary
from mmflow.api.session import Session
from mmflow.cli.parsing import Options
from mmflow.errors import ConfigError
from mmflow.mapping.streams import reads_streams
from mmflow.sinks.screen import is_terminal

__all__ = ["STDOUT", "check_output", "emit", "emit_rows", "stdout_format"]

_BUFFER_BYTES = 64 << 20
#: Path of `--output` that means standard output.
STDOUT = "-"
#: Rows of a result in a table on a terminal, and elsewhere.
_TERMINAL_ROWS, _PIPE_ROWS = 40, 1000


def emit(
    dataset: Dataset, options: Options, output: Mapping[str, Any] | None, *, table_rows: int | None = None
) -> RunSummary | None:
    """Write rows to a sink, or print them; print the count of bad records on stderr.

    Args:
        dataset: The rows.
        options: Options that say where they go, and in which form.
        output: Arguments of `Dataset.write` that a job gives.
        table_rows: Largest number of rows in a table. None: by the kind of standard output.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadRecordsWarning)
        warnings.simplefilter("ignore", BadFilesWarning)
        target = _target(options, output)
        if target is None:
            _print(dataset, options, table_rows)
        else:
            print(dataset.write(**target), file=sys.stderr)
    summary = dataset.context.last_run
    if summary is not None and (summary.bad_records or summary.repaired):
        print(f"warning: {summary.bad_message()}", file=sys.stderr)
    if summary is not None and summary.skipped_files:
        print(f"warning: {summary.skipped_message()}", file=sys.stderr)
    return summary


def _target(options: Options, output: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the arguments of `Dataset.write`, those of a job among them; None: rows go to standard output."""
    given = {"path": options.output, "format": options.format, "if_exists": options.if_exists}
    target = {**(output or {}), **{k: v for k, v in given.items() if v is not None}}
    return None if target.get("path") in (None, STDOUT, "/dev/stdout") else target


def _print(dataset: Dataset, options: Options, table_rows: int | None) -> None:
    form = stdout_format(options)
    # Rows of a stream are shown as they come: its end may be far off.
    batches = iter(dataset.iter_batches()) if reads_streams() else _buffered(dataset.iter_batches())
    first = next(batches, None)  # not even a header before the run has succeeded
    rows = itertools.chain(() if first is None else (first,), batches)
    most = table_rows or (_TERMINAL_ROWS if is_terminal(sys.stdout) else _PIPE_ROWS)
    _to_stdout(rows, dataset.schema, form, most, every_column=dataset.shows_every_column)


def emit_rows(session: Session, read: Callable[[], pa.Table], options: Options) -> None:
    """Write or print a table as `emit` does. It is read once it is clear where it goes.

    Raises:
        ConfigError: The form of the rows does not fit the place.
    """
    if _target(options, None) is not None:
        emit(session.from_arrow(read()), options, None)
        return
    form = stdout_format(options)
    table = read()
    _to_stdout(table.to_batches(), table.schema, form, None)  # as many as were asked for


def check_output(options: Options, output: Mapping[str, Any] | None = None) -> None:
    """Check that rows can go where the options say, or the output of a job, before anything is started.

    Raises:
        ConfigError: They can't.
    """
    target = _target(options, output)
    if target is None:
        stdout_format(options)
        return
    if getattr(options, "json_rows", False):
        raise ConfigError("--json prints rows on stdout: leave it out, or --output")
    from mmflow.sinks.streamed import stream_spec, writes_stream  # noqa: PLC0415  (slow)

    if writes_stream(target["path"]):
        stream_spec(target.pop("path"), target.pop("format", None), target)
    else:
        from mmflow.sinks.spec import sink_spec  # noqa: PLC0415  (slow)

        sink_spec(**target)


def stdout_format(options: Options) -> str:
    """Return the form of rows on standard output: by default a table on a terminal, else CSV.

    Raises:
        ConfigError: There is no such form, it is not one for a terminal, or an option needs a file.
    """
    terminal = is_terminal(sys.stdout)
    rows_as_json = getattr(options, "json_rows", False)
    if rows_as_json and options.format not in (None, "json"):
        raise ConfigError(f"--json is --format json: leave out --format {options.format}")
    form: str = options.format or ("json" if rows_as_json else "table" if terminal else "csv")
    from mmflow.sinks.stdout import STDOUT_FORMATS  # noqa: PLC0415  (slow)

    if form not in STDOUT_FORMATS:
        raise ConfigError(f"--format {form} needs a file: name it with --output")
    from mmflow.sinks.stdout import BINARY_FORMATS  # noqa: PLC0415  (slow)

    if form in BINARY_FORMATS and terminal:
        raise ConfigError(
            f"--format {form} is binary, and stdout is a terminal: send it to a file (> rows.{form}) or into a pipe, "
            "or name a file with --output"
        )
    if getattr(options, "if_exists", None) is not None:
        raise ConfigError("--if-exists needs --output: rows on stdout replace nothing")
    return form


def _to_stdout(
    rows: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    form: str,
    most: int | None,
    *,
    every_column: bool = False,
) -> None:
    sys.stdout.flush()
    from mmflow.sinks.stdout import write_table  # noqa: PLC0415  (slow)

    write_table(rows, schema, form, sys.stdout.buffer, max_rows=most, every_column=every_column)
    sys.stdout.buffer.flush()


def _buffered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches once the run has succeeded, or once they outgrow the buffer."""
    waiting: list[pa.RecordBatch] = []
    nbytes = 0
    for batch in batches:
        waiting.append(batch)
        nbytes += batch.nbytes
        if nbytes > _BUFFER_BYTES:
            yield from waiting
            waiting.clear()
            yield from batches
    yield from waiting
