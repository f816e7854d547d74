"""`head`, `tail` and `take`: some rows of files, by their number."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mmflow.access.source import why_not
from mmflow.cli.options import opened
from mmflow.cli.output import print_rows
from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.session import Session

__all__ = ["head", "tail", "take"]


def head(session: Session, options: argparse.Namespace) -> int:
    """Print the first rows."""
    dataset = _dataset(session, options)

    def read() -> pa.Table:
        return dataset[: options.count] if _numbered(dataset) else dataset.limit(options.count).to_arrow()

    print_rows(read, options.format)
    return 0


def tail(session: Session, options: argparse.Namespace) -> int:
    """Print the last rows."""
    dataset = _dataset(session, options)

    def read() -> pa.Table:
        if not options.count:
            return dataset.limit(0).to_arrow()
        return dataset[-options.count :] if _numbered(dataset) else _last(dataset, options.count)

    print_rows(read, options.format)
    return 0


def take(session: Session, options: argparse.Namespace) -> int:
    """Print rows by their number."""
    wanted = list(_wanted(options.rows))  # before a file is looked at
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

    print_rows(read, options.format)
    return 0


def _dataset(session: Session, options: argparse.Namespace) -> Dataset:
    dataset = opened(session, options.path, options.opt)
    if options.columns is None:
        return dataset
    names = [name for text in options.columns for name in text.split(",")]
    return dataset.select(*dict.fromkeys(names))


def _numbered(dataset: Dataset) -> bool:
    """Can rows be found by number? Else they are read from the start."""
    return dataset._selection is not None and why_not(dataset._selection) is None


def _last(dataset: Dataset, count: int) -> pa.Table:
    """The last rows of what can only be read from its start; holds these, and a batch."""
    kept: deque[pa.RecordBatch] = deque()
    rows = 0
    for batch in dataset.iter_batches():
        kept.append(batch)
        rows += batch.num_rows
        while rows - kept[0].num_rows >= count:
            rows -= kept.popleft().num_rows
    return pa.Table.from_batches(kept, schema=dataset.schema).slice(max(0, rows - count))


def _wanted(texts: Sequence[str]) -> Iterator[int | slice]:
    """Numbers and ranges, those in files among them.

    Raises:
        ConfigError: One is neither, or a file can't be read.
    """
    for text in texts:
        if text == "-":
            yield from map(_row, sys.stdin.read().split())
        elif text.startswith("@"):
            try:
                found = Path(text[1:]).read_text()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ConfigError(f"can't read the row numbers in {text[1:]}: {why}") from error
            yield from map(_row, found.split())
        else:
            yield _row(text)


def _row(text: str) -> int | slice:
    """A number, or a range as Python writes it.

    >>> _row("5"), _row("10:20"), _row("10:")
    (5, slice(10, 20, None), slice(10, None, None))
    """
    first, colon, last = text.partition(":")
    try:
        if not colon:
            return int(text)
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError as error:
        raise ConfigError(f"row {text!r}: write a number as 17 or -1, or a range as 10:20") from error
