"""`head`, `tail` and `take`: rows of files by their number."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mmflow.api.dataset import Dataset
from mmflow.api.session import Session
from mmflow.cli.options import read_source, session_of
from mmflow.cli.output import check_output, emit_rows
from mmflow.cli.parsing import Options, begin_work
from mmflow.errors import ConfigError

__all__ = ["head", "tail", "take"]


def head(options: Options) -> int:
    """Print the first rows."""
    check_output(options)
    session = session_of(options)
    dataset = _dataset(session, options)

    def read() -> pa.Table:
        if dataset.supports_random_access:
            return dataset[: options.count]
        return dataset.limit(options.count).to_arrow()

    emit_rows(session, read, options)
    return 0


def tail(options: Options) -> int:
    """Print the last rows."""
    check_output(options)
    session = session_of(options)
    dataset = _dataset(session, options)

    def read() -> pa.Table:
        if not options.count:
            return dataset.limit(0).to_arrow()
        return dataset[-options.count :] if dataset.supports_random_access else _last(dataset, options.count)

    emit_rows(session, read, options)
    return 0


def take(options: Options) -> int:
    """Print rows by their number."""
    wanted = list(_parse_rows(options.rows))  # before a file is opened
    check_output(options)
    session = session_of(options)
    dataset = _dataset(session, options)

    def read() -> pa.Table:
        tables: list[pa.Table] = []
        numbers: list[int] = []
        for each in (*wanted, slice(0, 0)):
            if isinstance(each, int):
                numbers.append(each)
                continue
            tables += [dataset.take(numbers), dataset[each]]
            numbers = []
        return pa.concat_tables(tables)

    emit_rows(session, read, options)
    return 0


def _dataset(session: Session, options: Options) -> Dataset:
    dataset = read_source(session, options.path, options.opt)
    begin_work()
    if not options.columns:
        return dataset
    names = [name for text in options.columns for name in text.split(",")]
    return dataset.select(*dict.fromkeys(names))


def _last(dataset: Dataset, count: int) -> pa.Table:
    """Return the last rows of a dataset that can only be read from its start; holds these, and a batch."""
    tail: deque[pa.RecordBatch] = deque()
    rows = 0
    for batch in dataset.iter_batches():
        tail.append(batch)
        rows += batch.num_rows
        while rows - tail[0].num_rows >= count:
            rows -= tail.popleft().num_rows
    return pa.Table.from_batches(tail, schema=dataset.schema).slice(max(0, rows - count))


def _parse_rows(texts: Sequence[str]) -> Iterator[int | slice]:
    """Yield numbers and ranges of rows, those in files among them.

    Raises:
        ConfigError: A text is neither, or a file can't be read.
    """
    for text in texts:
        if text == "-":
            yield from map(_parse_row, sys.stdin.read().split())
        elif text.startswith("@"):
            try:
                found = Path(text[1:]).read_text()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ConfigError(f"can't read the row numbers in {text[1:]}: {why}") from error
            yield from map(_parse_row, found.split())
        else:
            yield _parse_row(text)


def _parse_row(text: str) -> int | slice:
    """Return a row number, or a range in Python's notation.

    >>> _parse_row("5"), _parse_row("10:20"), _parse_row("10:")
    (5, slice(10, 20, None), slice(10, None, None))
    """
    first, colon, last = text.partition(":")
    try:
        if not colon:
            return int(text)
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError as error:
        raise ConfigError(f"row {text!r}: write a number as 17 or -1, or a range as 10:20") from error
