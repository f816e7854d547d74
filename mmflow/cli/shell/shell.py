"""Handler of `mmflow shell`: a session, its tables, and statements from the terminal or from standard input."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

from mmflow.api.dataset import Dataset
from mmflow.api.progress import showing_progress
from mmflow.api.results import RunSummary
from mmflow.api.session import Session
from mmflow.api.sql.query import plan_query
from mmflow.api.sql.statements import statement as parse_statement
from mmflow.cli.options import session_of
from mmflow.cli.output import emit, stdout_format
from mmflow.cli.parsing import Options, begin_work
from mmflow.cli.process_exit import exit_at_once
from mmflow.cli.query import named_tables, parameter_values
from mmflow.cli.shell.dot_commands import ShellEnd, run_command
from mmflow.cli.shell.statements import Splitter, Statement, is_command
from mmflow.cli.signals import EndingSignal, ending_signals
from mmflow.engines.local import threads_left_behind
from mmflow.errors import ConfigError, MmflowError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import parameters_of
from mmflow.runs.redaction import Redactor
from mmflow.runs.report.formatting import duration, plural, size
from mmflow.sinks.screen import is_terminal
from mmflow.usercode import tracebacks

__all__ = ["Shell", "StatementError", "Table", "shell"]

#: Lines of a screen that are not rows: the query, head and foot of the table, the time, the prompt.
_OTHER_LINES = 8
_FEWEST_ROWS = 4
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Table:
    """Table of the session.

    Attributes:
        dataset: Its rows.
        path: Path, glob or URL of its files.
    """

    dataset: Dataset
    path: str


class StatementError(Exception):
    """Statement that failed, and whose message is printed."""


def shell(options: Options) -> int:
    """Run statements until the input ends."""
    with showing_progress(), session_of(options) as session:
        made = Shell(session, options, is_interactive=is_terminal(sys.stdin))
        begin_work()
        if not made.is_interactive:
            return made.run_input()
        from mmflow.cli.shell.prompt import converse  # noqa: PLC0415  (scripts need no prompt_toolkit)

        converse(made)
    if made.has_cancelled:
        exit_at_once(0)
    return 0


class Shell:
    """Session with tables, and where rows go.

    Attributes:
        session: Session of all statements.
        tables: Tables by name; those of the settings file (`[sources.NAME]`) are not among them.
        mode: Form of rows on standard output. None: a table on a terminal, else CSV.
        output: Arguments of `Dataset.write`. None: rows go to standard output.
        timing: Whether the time of each query is printed.
        is_interactive: Whether a person types the statements.
        has_cancelled: Whether a statement was cancelled.
    """

    def __init__(self, session: Session, options: Options, *, is_interactive: bool) -> None:
        self.session = session
        self.is_interactive = self.timing = is_interactive
        self.has_cancelled = False
        self.mode: str | None = "json" if options.json_rows else None
        self.output: dict[str, Any] | None = None
        self.tables: dict[str, Table] = {}
        self._parameters = parameter_values(options)
        for path in options.files:
            name = _table_name(path)
            if name in self.tables:
                raise ConfigError(
                    f"{self.tables[name].path} and {path} would both be table {name}: name one with --table NAME={path}"
                )
            self.name_table(name, path, session.read(path))
        for name, (dataset, path) in named_tables(session, options).items():
            self.name_table(name, path, dataset)
        self._depth = 0

    def name_table(self, name: str, path: str, dataset: Dataset) -> None:
        """Give rows the name of a table, for the statements that follow."""
        self.tables[name] = Table(dataset, path)

    # ---- input ----------------------------------------------------------------------------------

    def run_input(self) -> int:
        """Run the statements of standard input, and return the exit code."""
        if sys.stdin is None:
            return 0
        try:
            self.run_lines(sys.stdin, "stdin")
        except StatementError:
            return 1
        except ShellEnd:
            pass
        return 0

    def run_lines(self, lines: Iterable[str], name: str) -> None:
        """Run the statements of a text.

        Args:
            lines: Lines of the text.
            name: Its name in messages.

        Raises:
            StatementError: One of them failed. Those behind it are not run.
            ShellEnd: One of them ends the shell.
            ConfigError: Files read each other.
        """
        if self._depth == _DEPTH:
            raise ConfigError(f".read {name}: {_DEPTH} files are being read already, each by the one before")
        self._depth += 1
        splitter = Splitter()
        try:
            for number, line in enumerate(lines):
                for each in splitter.feed(line if number else line.removeprefix("\ufeff")):
                    self._run_at(each, name)
            last = splitter.end()
            if last is not None:
                self._run_at(last, name)
        except UnicodeDecodeError as error:
            print(f"error: {name}: it is not text in UTF-8", file=sys.stderr)
            raise StatementError from error
        finally:
            self._depth -= 1

    def _run_at(self, each: Statement, name: str) -> None:
        try:
            self.run(each.text)
        except MmflowError as error:
            self._print_error(error, f"{name}, line {each.line}: ")
            raise StatementError from error

    def run_typed(self, text: str) -> bool:
        """Run what a person typed. Print errors, and return whether the shell goes on."""
        splitter, began = Splitter(), time.monotonic()
        try:
            with ending_signals():
                for line in text.splitlines(keepends=True):
                    for each in splitter.feed(line):
                        began = time.monotonic()
                        self.run(each.text)
        except ShellEnd:
            return False
        except StatementError:
            pass
        except EndingSignal:
            raise
        except KeyboardInterrupt:
            self.has_cancelled = True
            print(f"cancelled after {duration(time.monotonic() - began)}{_left_behind()}", file=sys.stderr)
        except MmflowError as error:
            self._print_error(error)
        except BrokenPipeError:
            raise
        except Exception:  # noqa: BLE001  (a fault of mmflow; the session lives on)
            traceback.print_exc()
        return True

    def _print_error(self, error: MmflowError, place: str = "") -> None:
        if tracebacks.shows_all():
            traceback.print_exception(error)
        else:
            sys.stdout.flush()
            print(f"error: {place}{Redactor().text(str(error))}\ncode:  {error.code}", file=sys.stderr)

    # ---- statements -----------------------------------------------------------------------------

    def run(self, text: str) -> None:
        """Run a statement or command.

        Raises:
            MmflowError: It is wrong, or fails.
            ShellEnd: It ends the shell.
        """
        if is_command(text):
            run_command(self, text)
        else:
            self._run_query(text)

    def plan(self, query: str) -> Dataset:
        """Return the rows of a query.

        Raises:
            PlanError: It is wrong.
            SourceError: A path in it can't be read.
        """
        parameters = parameters_of(query)
        values: dict[str, Any] = {n: v for n, v in self._parameters.items() if n in parameters}
        return plan_query(
            self.session, query, values | {name: table.dataset for name, table in self.tables.items()}
        )

    def _run_query(self, query: str) -> None:
        began = time.monotonic()
        rows = self.plan(query)
        target = self.output or {}
        options = Options(
            format=target.get("format") if target else self.mode,
            output=target.get("path"),
            if_exists=target.get("if_exists"),
        )
        is_table = not target and stdout_format(options) == "table"
        summary = None
        if parse_statement(query)[0] in ("explain", "analyze") and is_table:
            print("\n".join(rows.to_arrow()["plan"].to_pylist()))
        else:
            summary = emit(rows, options, None, table_rows=self._screen_rows())
        if self.timing:
            sys.stdout.flush()
            print(_timing(summary, time.monotonic() - began, rows=not is_table), file=sys.stderr)

    def _screen_rows(self) -> int | None:
        """Return the number of rows that a screen shows. None: it is no terminal."""
        if not is_terminal(sys.stdout):
            return None
        try:
            lines = os.get_terminal_size(sys.stdout.fileno()).lines
        except OSError:
            return None
        return max(_FEWEST_ROWS, lines - _OTHER_LINES) if lines else None


def _left_behind() -> str:
    """Return the end of a message about threads that a cancelled query has left: operators of DataFusion don't stop."""
    number = threads_left_behind()
    if not number:
        return ""
    return f"; {plural(number, 'thread')} still in DataFusion, which can't be stopped"


def _timing(summary: RunSummary | None, seconds: float, *, rows: bool) -> str:
    """Return what a query took. A table says itself how many rows it has."""
    parts = [plural(summary.rows, "row")] if rows and summary is not None else []
    parts.append(duration(seconds))
    if summary is not None and summary.bytes_read:
        parts.append(f"{size(summary.bytes_read)} of files")
    return ", ".join(parts)


def _table_name(path: str) -> str:
    """Return the name of the table of a file, glob or folder: that of the file without its suffixes.

    >>> _table_name("data/Line-Item.csv.gz"), _table_name("logs/*.csv"), _table_name("2024.csv")
    ('line_item', 'logs', 't_2024')
    """
    plain_path = path.partition("?")[0] if "://" in path else path
    parts = [p for p in re.split(r"[/\\]", plain_path) if p and not re.search(r"[*?\[]", p)]
    plain = re.sub(r"\W", "_", parts[-1].lstrip(".").partition(".")[0].lower()) if parts else ""
    if not plain.strip("_"):
        raise ConfigError(f"{path} has no name of a table in it: name it with --table NAME={path}")
    return plain if not plain[0].isdigit() else f"t_{plain}"
