"""Every error that mmflow raises on purpose.

    MmflowError
    ├── ConfigError            a setting, flag or argument is wrong
    ├── PlanError              the query is wrong, or can't be planned
    ├── SourceError            input missing, unreadable, of the wrong format
    │   ├── SourceChangedError input changed between planning and the end of the task
    │   ├── SourceUnreachableError   a remote input can't be reached (retried)
    │   └── TooManyBadRecordsError   more of them than `max_bad_records`
    ├── BadRecordError         a record that does not fit its format or schema
    ├── OutOfRangeError        a row that was asked for by number does not exist (also an IndexError)
    ├── UserFunctionError      a Python function given by the user raised
    ├── SinkError              output can't be written or committed
    └── EngineError            tasks can't be run: memory, cluster, limits
        ├── CancelledError     somebody asked for the run to be cancelled
        ├── WorkerLostError    a worker died under a task (retried)
        ├── PeerLostError      the process at the other end of a channel died, or closed its end
        └── BlockLostError     a block of intermediate rows is gone or damaged (made again)

Messages say what is wrong, where, and what to do. `retryable` tells the scheduler
whether another attempt may succeed. Every class survives pickling, since errors
cross process boundaries.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BadRecordError",
    "BlockLostError",
    "CancelledError",
    "ConfigError",
    "EngineError",
    "MmflowError",
    "OutOfRangeError",
    "PeerLostError",
    "PlanError",
    "SinkError",
    "SourceChangedError",
    "SourceError",
    "SourceUnreachableError",
    "TooManyBadRecordsError",
    "UnverifiableSourceWarning",
    "UserFunctionError",
    "WorkerLostError",
    "plain_text",
]


def plain_text(text: str) -> str:
    r"""Return text that can be encoded: of names of files, bytes that are not UTF-8 as escapes.

    Python holds such bytes as lone surrogates, which neither Arrow nor a terminal takes.

    >>> import os
    >>> plain_text(os.fsdecode(b"caf\xe9.csv"))
    'caf\\xe9.csv'
    """
    for errors in ("strict", "surrogateescape", "backslashreplace"):
        try:
            return text.encode("utf-8", errors).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            continue
    raise AssertionError("backslashreplace encodes everything")


class MmflowError(Exception):
    """Root of all errors that mmflow raises on purpose.

    Args:
        message: What went wrong, where, and what to do.
        context: Structured facts for programs (path, column, ...); picklable values only.

    >>> import pickle
    >>> e = pickle.loads(pickle.dumps(SourceError("no such file: a.csv", path="a.csv")))
    >>> type(e).__name__, str(e), e.context["path"]
    ('SourceError', 'no such file: a.csv', 'a.csv')
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **context: Any) -> None:
        message = plain_text(message)
        super().__init__(message)
        self.message = message
        self.context: dict[str, Any] = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.context)


def _rebuild(cls: type[MmflowError], message: str, context: dict[str, Any]) -> MmflowError:
    return cls(message, **context)


class ConfigError(MmflowError):
    """A setting, a flag or an argument is wrong."""


class PlanError(MmflowError):
    """The query is wrong, or can't be planned; says where and suggests what was meant."""


class SourceError(MmflowError):
    """An input is missing, unreadable, or not of the format it was taken for."""


class SourceChangedError(SourceError):
    """An input file changed while it was being read; nothing of it was used."""


class SourceUnreachableError(SourceError):
    """A remote input can't be reached, or its server fails: another time it may go better."""

    retryable = True


class TooManyBadRecordsError(SourceError):
    """More records were bad than `max_bad_records` allows; those set aside are in the run's quarantine."""


class OutOfRangeError(MmflowError, IndexError):
    """A row that was asked for by its number does not exist."""


class UserFunctionError(MmflowError):
    """A function passed to mmflow (map_batches, udf, a job) raised."""


class SinkError(MmflowError):
    """An output can't be written, or its destination refuses the commit."""


class EngineError(MmflowError):
    """Tasks can't be run: not enough memory, mappings, descriptors, or no cluster."""


class CancelledError(EngineError):
    """The run was cancelled, by `mmflow cancel` or a signal; it can be resumed."""


class WorkerLostError(EngineError):
    """A worker died under its task."""

    retryable = True


class PeerLostError(EngineError):
    """The process at the other end of a channel died, or closed its end before all was said."""


class BlockLostError(EngineError):
    """A block of intermediate rows is gone or damaged; the task that made it can make it again."""

    retryable = True


class BadRecordError(MmflowError):
    """A record that does not fit its format (structure) or its schema (a value).

    `context` always has these keys, None where unknown:
    `path`, `byte_offset` (of the record's first byte), `record` (0-based number of the record in
    its file), `line` (1-based physical line of its first byte), `column`, `value`, `reason`,
    `excerpt` (the record's first bytes). Until the scheduler knows how many records and lines lie
    before the shard, `record` and `line` are relative to it: `located` makes them global.
    """

    @classmethod
    def at(
        cls,
        *,
        path: str,
        byte_offset: int,
        reason: str,
        record: int | None = None,
        line: int | None = None,
        column: str | None = None,
        value: str | None = None,
        excerpt: bytes = b"",
    ) -> BadRecordError:
        """Build the error with its message from its parts."""
        where = [path]
        if line is not None:
            where.append(f"line {line:,}")
        if record is not None:
            where.append(f"record {record:,}")
        where.append(f"byte offset {byte_offset:,}")
        message = ", ".join(where) + ": "
        if column is not None:
            message += f"column {column!r}: "
        message += reason
        if value is not None:
            message += f" (value {value!r})"
        if excerpt:
            message += f"\n  record: {excerpt[:120]!r}"
        message += "\n  on_bad_record = null, skip or quarantine goes on past such records"
        return cls(
            message,
            path=path,
            byte_offset=byte_offset,
            record=record,
            line=line,
            column=column,
            value=value,
            reason=reason,
            excerpt=excerpt,
        )

    def located(self, *, records_before: int, lines_before: int) -> BadRecordError:
        """The same error with `record` and `line` counted from the start of the file."""
        parts = dict(self.context)
        if parts["record"] is not None:
            parts["record"] += records_before
        if parts["line"] is not None:
            parts["line"] += lines_before
        return BadRecordError.at(**parts)


class UnverifiableSourceWarning(UserWarning):
    """Nothing tells the versions of a remote file apart, so a change while it is read may go unseen."""
