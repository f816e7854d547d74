"""Errors that mmflow raises on purpose.

    MmflowError
    ├── ConfigError            a setting, flag or argument is wrong
    ├── PlanError              the query is wrong, or can't be planned
    ├── SourceError            input missing, unreadable, of the wrong format
    │   ├── SourceChangedError input changed between planning and the end of the task
    │   ├── SourceUnreachableError   a remote input, or a file server, can't be reached (retried)
    │   └── TooManyBadRecordsError   more bad records than `max_bad_records`
    ├── BadRecordError         a record that does not fit its format or schema
    ├── OutOfRangeError        a row that was asked for by number does not exist (also an IndexError)
    ├── UserFunctionError      a Python function given by the user raised
    ├── SinkError              output can't be written or committed
    └── EngineError            tasks can't be run: memory, cluster, limits
        ├── CancelledError     the run was cancelled
        ├── StalledError       a task did not move for longer than `stall_timeout`
        ├── WorkerLostError    a worker died under a task (retried)
        ├── PeerLostError      the process at the other end of a channel died, or closed its end
        └── BlockLostError     a block of intermediate rows is gone or damaged (recomputed)

Messages say what is wrong, where, and what to do. `retryable` tells the scheduler
whether another attempt may succeed. Every class survives pickling, since errors
cross process boundaries.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    "SilentServerWarning",
    "SinkError",
    "SourceChangedError",
    "SourceError",
    "SourceUnreachableError",
    "StalledError",
    "StalledWarning",
    "TooManyBadRecordsError",
    "UnverifiableSourceWarning",
    "UserFunctionError",
    "WorkerLostError",
    "plain_text",
    "suggest",
]


def plain_text(text: str) -> str:
    r"""Return text that can be encoded: bytes of file names that are not UTF-8 become escapes.

    Python holds such bytes as lone surrogates, which neither Arrow nor a terminal takes.

    >>> import os
    >>> plain_text(os.fsdecode(b"caf\xe9.csv"))
    'caf\\xe9.csv'
    """
    if text.isascii():
        return text
    for errors in ("strict", "surrogateescape", "backslashreplace"):
        try:
            return text.encode("utf-8", errors).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            continue
    raise AssertionError("backslashreplace encodes everything")


def suggest(name: str, known: Iterable[str], what: str) -> str:
    """Return what was meant by an unknown name: the nearest known one, or all of them.

    >>> suggest("delimeter", ["delimiter", "quote"], "options")
    "did you mean 'delimiter'?"
    >>> suggest("x", ["delimiter", "quote"], "options")
    'the options are delimiter, quote'
    """
    import difflib  # noqa: PLC0415  (for errors only)

    listed = list(known)
    close = difflib.get_close_matches(name, listed, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"the {what} are {', '.join(listed)}" if listed else f"there are no {what}"


class MmflowError(Exception):
    """Root of all errors that mmflow raises on purpose.

    Args:
        message: Message that says what happened, where, and what to do.
        context: Structured facts for programs (path, column, ...); picklable values only. `code` is that of the
            message's kind, as `mmflow.error_codes` lists them; without it, the error has the code of its class.

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

    @property
    def code(self) -> str:
        """Stable code of the kind of error, which docs/troubleshooting.md explains.

        >>> SinkError("a.csv exists; ...", code="MMF-OUT-002").code, SinkError("the disk is full").code
        ('MMF-OUT-002', 'MMF-OUT-001')
        """
        given: str | None = self.context.get("code")
        if given is not None:
            return given
        from mmflow.error_codes import code_of  # noqa: PLC0415  (for errors only)

        return code_of(type(self))

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
    """A remote input, or a file server, can't be reached, or its server fails; another attempt may succeed."""

    retryable = True


class TooManyBadRecordsError(SourceError):
    """More records were bad than `max_bad_records` allows; quarantined ones are in the run's quarantine."""


class OutOfRangeError(MmflowError, IndexError):
    """A row that was asked for by its number does not exist."""


class UserFunctionError(MmflowError):
    """A function passed to mmflow (map_batches, udf, a job) raised, or returned what does not fit.

    Attributes:
        place: Place in the user's code that raised, as `file:line`; "" if it is not known.
        traceback: Traceback of the function's own error, in the user's frames only.
        path: Input that the rows come from; None if they come from several, or from memory.
        row: Number of the first row of the batch in `path`, from 0.
    """

    @classmethod
    def at(
        cls,
        summary: str,
        *,
        function: str | None = None,
        place: str = "",
        traceback: str = "",
        path: str | None = None,
        row: int | None = None,
        code: str | None = None,
    ) -> UserFunctionError:
        """Build the error with its message from its parts; `summary` is the first line."""
        message = summary
        if place:
            message += f"\n  at {place}"
        if path is not None:
            message += f"\n  in a batch of {path}" + ("" if row is None else f" that begins with row {row:,}")
        return cls(
            message, summary=summary, function=function, place=place, traceback=traceback, path=path, row=row,
            code=code,
        )  # fmt: skip

    @property
    def place(self) -> str:
        return str(self.context.get("place") or "")

    @property
    def traceback(self) -> str:
        return str(self.context.get("traceback") or "")

    @property
    def path(self) -> str | None:
        return self.context.get("path")

    @property
    def row(self) -> int | None:
        return self.context.get("row")

    def from_batch(self, path: str, row: int | None) -> UserFunctionError:
        """Return the same error with the position of the batch, unless it has one."""
        if self.path is not None:
            return self
        parts = {"summary": self.message, **self.context}
        return UserFunctionError.at(**{**parts, "path": path, "row": row})

    def located(self, *, records_before: int) -> UserFunctionError:
        """Return the same error with `row` counted from the start of the file, not of the shard."""
        if self.row is None or not records_before:
            return self
        return UserFunctionError.at(**{**self.context, "row": self.row + records_before})


class SinkError(MmflowError):
    """An output can't be written, or its destination refuses the commit."""


class EngineError(MmflowError):
    """Tasks can't be run: not enough memory, mappings, descriptors, or no cluster."""


class CancelledError(EngineError):
    """The run was cancelled, by `mmflow cancel` or a signal; it can be resumed."""


class StalledError(EngineError):
    """A task did not move for longer than `stall_timeout`; says where it is and what it waits for."""


class WorkerLostError(EngineError):
    """A worker died under its task."""

    retryable = True


class PeerLostError(EngineError):
    """The process at the other end of a channel died, or closed its end without ending the channel."""


class BlockLostError(EngineError):
    """A block of intermediate rows is gone or damaged; the task that computed it can recompute it."""

    retryable = True


class BadRecordError(MmflowError):
    """A record that does not fit its format (structure) or its schema (a value).

    `context` always has these keys, None where unknown:
    `path`, `byte_offset` (of the record's first byte), `record` (0-based number of the record in
    its file), `line` (1-based physical line of its first byte), `column`, `value`, `reason`,
    `excerpt` (the record's first bytes), `fatal` (whether nothing behind it can be read, whatever
    `on_bad_record` says). Until the scheduler knows how many records and lines lie
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
        fatal: bool = False,
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
        if not fatal:
            message += "\n  on_bad_record = null, skip or quarantine continues past such records"
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
            fatal=fatal,
        )

    @property
    def code(self) -> str:
        """Stable code: of a value that does not fit its column, or of a record without the form of its format."""
        return super().code if self.context.get("column") is None else "MMF-REC-002"

    def located(self, *, records_before: int, lines_before: int) -> BadRecordError:
        """Return the same error with `record` and `line` counted from the start of the file."""
        parts = dict(self.context)
        if parts["record"] is not None:
            parts["record"] += records_before
        if parts["line"] is not None:
            parts["line"] += lines_before
        return BadRecordError.at(**parts)


class SilentServerWarning(UserWarning):
    """A file server has not answered for some seconds; what waits for it continues once it does."""


class StalledWarning(UserWarning):
    """A task has not moved for `stall_after` seconds; mmflow starts a second attempt, and waits for both."""


class UnverifiableSourceWarning(UserWarning):
    """Versions of a remote file can't be distinguished, so a change while it is read may go unnoticed."""
