"""Codes of errors: stable names of kinds of messages, for scripts and for the troubleshooting page.

    SourceError("no such file …", code="MMF-SRC-002")   a kind of its own, which the call names
    SourceError("the footer is damaged")                MMF-SRC-001, the code of its class

Invariant: a code keeps its meaning. One that is no longer raised is removed from here and never given again. Tests
compare this table with the calls in the package and with docs/troubleshooting.md.
"""

from __future__ import annotations

__all__ = ["CODES", "OF_CLASS", "USAGE", "code_of"]

#: Code of a command line that is written wrongly, for which no exception is raised from Python.
USAGE = "MMF-USE-001"

#: Codes of errors without a kind of their own, by class. A subclass without an entry has that of its base.
OF_CLASS = {
    "ConfigError": "MMF-CFG-001",
    "PlanError": "MMF-PLN-001",
    "SourceError": "MMF-SRC-001",
    "SourceChangedError": "MMF-SRC-006",
    "SourceUnreachableError": "MMF-SRC-008",
    "TooManyBadRecordsError": "MMF-SRC-009",
    "BadRecordError": "MMF-REC-001",
    "OutOfRangeError": "MMF-ROW-001",
    "UserFunctionError": "MMF-FUN-001",
    "SinkError": "MMF-OUT-001",
    "EngineError": "MMF-ENG-001",
    "CancelledError": "MMF-ENG-004",
    "StalledError": "MMF-ENG-005",
    "WorkerLostError": "MMF-ENG-006",
    "PeerLostError": "MMF-ENG-007",
    "BlockLostError": "MMF-ENG-008",
    "MmflowError": "MMF-ENG-001",
}

#: Meaning of each code.
CODES = {
    USAGE: "the command line names a command, an option or an argument wrongly",
    "MMF-CFG-001": "a setting, an option or an argument has a value that means nothing",
    "MMF-CFG-002": "a package that is needed is not installed",
    "MMF-CFG-003": "there is no run of this name, or several begin with it",
    "MMF-CFG-004": "secrets are not stored with a run, and must be given again",
    "MMF-CFG-005": "a format has no such option",
    "MMF-PLN-001": "the query is wrong, or can't be planned",
    "MMF-PLN-002": "there is no such column",
    "MMF-PLN-003": "an expression can't compute a value",
    "MMF-PLN-004": "an operation does not take values of these types",
    "MMF-PLN-005": "the columns that a function returns are not known",
    "MMF-PLN-006": "there is no such table",
    "MMF-SRC-001": "an input can't be read, or is not of its format",
    "MMF-SRC-002": "there is no such file or folder",
    "MMF-SRC-003": "the format of an input can't be found out",
    "MMF-SRC-004": "a text is not in UTF-8",
    "MMF-SRC-005": "a file lacks a column of the source's schema",
    "MMF-SRC-006": "an input changed while it was read",
    "MMF-SRC-007": "an input changed since a run read it",
    "MMF-SRC-008": "a remote input, or a file server, can't be reached",
    "MMF-SRC-009": "more records are bad than `max_bad_records` allows",
    "MMF-REC-001": "a record does not have the structure of its format",
    "MMF-REC-002": "a value of a record does not fit the type of its column",
    "MMF-ROW-001": "there is no row of this number",
    "MMF-FUN-001": "a function of the user raised, or returned what does not fit",
    "MMF-FUN-002": "a function of the user can't be sent to another process",
    "MMF-OUT-001": "an output can't be written",
    "MMF-OUT-002": "the output exists",
    "MMF-OUT-003": "another process created the output while the run computed",
    "MMF-OUT-004": "the output is an input, too",
    "MMF-OUT-005": "another run is writing to the output",
    "MMF-ENG-001": "tasks can't be run, or mmflow has a bug",
    "MMF-ENG-002": "a task has too little memory",
    "MMF-ENG-003": "the disk for spilled data is full",
    "MMF-ENG-004": "the run was cancelled",
    "MMF-ENG-005": "a task has not moved for longer than `stall_timeout`",
    "MMF-ENG-006": "a worker died under its task",
    "MMF-ENG-007": "the process at the other end of a channel died",
    "MMF-ENG-008": "a block of intermediate rows is gone or damaged",
    "MMF-ENG-009": "a cluster can't be used",
    "MMF-ENG-010": "driver and workers have different versions",
    "MMF-ENG-011": "a cluster does not answer any more",
    "MMF-ENG-012": "a task failed, or lost its worker, too often",
    "MMF-ENG-013": "a submitted run has not started, or its process has died",
}


def code_of(kind: type[BaseException]) -> str:
    """Return the code of errors of a class that name none.

    >>> from mmflow.errors import SourceChangedError
    >>> code_of(SourceChangedError)
    'MMF-SRC-006'
    """
    return next(OF_CLASS[base.__name__] for base in kind.__mro__ if base.__name__ in OF_CLASS)
