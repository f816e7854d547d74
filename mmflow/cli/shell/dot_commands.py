"""Commands of the shell that are no SQL. They begin with a dot, and end with their line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmflow.cli.options import pair, read_source
from mmflow.cli.output import STDOUT
from mmflow.cli.parsing import listed, suggestion
from mmflow.errors import ConfigError
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import quoted
from mmflow.sinks.spec import sink_spec
from mmflow.sinks.stdout import BINARY_FORMATS, STDOUT_FORMATS, write_table

if TYPE_CHECKING:
    from mmflow.cli.shell.shell import Shell

__all__ = ["COMMANDS", "MODES", "ShellEnd", "run_command"]

#: Forms of rows on a screen.
MODES = tuple(form for form in STDOUT_FORMATS if form not in BINARY_FORMATS)


class ShellEnd(Exception):  # noqa: N818  (a signal, not an error)
    """Command that ends the shell."""


@dataclass(frozen=True, slots=True)
class DotCommand:
    """Command with its dot.

    Attributes:
        arguments: Its arguments, as the help shows them.
        help: Purpose of the command.
        fewest, most: Number of arguments that it takes.
        run: Function of the shell and these arguments.
    """

    arguments: str
    help: str
    fewest: int
    most: int | None
    run: Callable[[Shell, Sequence[str]], None]


def run_command(shell: Shell, text: str) -> None:
    """Run a command.

    Raises:
        MmflowError: There is no such command, it is written wrongly, or it fails.
        ShellEnd: It ends the shell.
    """
    try:
        name, *arguments = shlex.split(text.strip().removesuffix(";"))
    except ValueError as error:
        raise ConfigError(f"{text.split(maxsplit=1)[0]}: a quote is not closed") from error
    command = COMMANDS.get(name)
    if command is None:
        meant = suggestion(name, COMMANDS) or "; .help lists the commands"
        raise ConfigError(f"there is no command {name}{meant}")
    if len(arguments) < command.fewest or (command.most is not None and len(arguments) > command.most):
        raise ConfigError(f"{name}: write {name} {command.arguments}".rstrip())
    command.run(shell, arguments)


def _help(shell: Shell, arguments: Sequence[str]) -> None:
    del arguments
    usages = {f"{name} {command.arguments}".rstrip(): command.help for name, command in COMMANDS.items()}
    width = max(map(len, usages))
    print("SELECT, FROM, DESCRIBE, SUMMARIZE and EXPLAIN [ANALYZE] end with ; as all SQL.\n")
    for usage, help in usages.items():
        print(f"{usage.ljust(width)}  {help}")
    if shell.is_interactive:
        print("\nTab completes, Ctrl-R searches the history, Ctrl-C clears or cancels, Ctrl-D ends.")


def _tables(shell: Shell, arguments: Sequence[str]) -> None:
    del arguments
    rows = {name: table.path for name, table in shell.tables.items()}
    for name, source in shell.session.context.sources.items():
        rows.setdefault(name, str(source["path"]))
    if not rows:
        print("there are no tables: name one with .table NAME PATH, or write FROM 'path'")
        return
    _show(pa.table({"table": list(rows), "files": list(rows.values())}))


def _schema(shell: Shell, arguments: Sequence[str]) -> None:
    name = arguments[0]
    if name in shell.tables:
        dataset = shell.tables[name].dataset
    elif name in shell.session.context.sources:
        dataset = shell.session.source(name)
    else:
        quote = "'" + name.replace("'", "''") + "'"
        dataset = shell.plan(f"SELECT * FROM {quoted(name) if name.isidentifier() else quote}")
    fields = list(dataset.schema)
    columns = {"column": [f.name for f in fields], "type": [type_text(f.type) for f in fields]}
    _show(pa.table(columns, pa.schema({"column": pa.string(), "type": pa.string()})))


def _table(shell: Shell, arguments: Sequence[str]) -> None:
    name, path, *options = arguments
    for text in options:
        pair(text, f".table {name} {path}")
    shell.name_table(name, path, read_source(shell.session, path, options))


def _mode(shell: Shell, arguments: Sequence[str]) -> None:
    mode = arguments[0]
    if mode in BINARY_FORMATS:
        raise ConfigError(f".mode {mode}: this form is for files: write .output rows.{mode}")
    if mode not in MODES:
        raise ConfigError(f".mode {mode}: must be {listed(MODES)}{suggestion(mode, MODES)}")
    shell.mode = mode


def _output(shell: Shell, arguments: Sequence[str]) -> None:
    path, *options = arguments
    if path == STDOUT:
        shell.output = None
        return
    target: dict[str, Any] = {"path": path}
    for text in options:
        key, value = pair(text, ".output")
        if key not in ("format", "if_exists"):
            raise ConfigError(f".output: there is no option {key}; write format=… or if_exists=…")
        target[key] = value
    sink_spec(**target)
    shell.output = target


def _timing(shell: Shell, arguments: Sequence[str]) -> None:
    if arguments[0] not in ("on", "off"):
        raise ConfigError(f".timing {arguments[0]}: must be on or off")
    shell.timing = arguments[0] == "on"


def _read(shell: Shell, arguments: Sequence[str]) -> None:
    path = arguments[0]
    try:
        with open(path, encoding="utf-8") as file:
            shell.run_lines(file, path)
    except OSError as error:
        if error.filename != path:
            raise
        raise ConfigError(f".read {path}: can't read it: {error.strerror}") from error


def _quit(shell: Shell, arguments: Sequence[str]) -> None:
    del shell, arguments
    raise ShellEnd


def _show(table: pa.Table) -> None:
    sys.stdout.flush()
    write_table(table.to_batches(), table.schema, "table", sys.stdout.buffer, max_rows=None)


COMMANDS = {
    ".help": DotCommand("", "show this list", 0, 0, _help),
    ".tables": DotCommand("", "list the tables that have a name", 0, 0, _tables),
    ".schema": DotCommand("NAME", "show the columns of a table or file", 1, 1, _schema),
    ".table": DotCommand("NAME PATH [opt=value…]", "name the table of a file or folder", 2, None, _table),
    ".mode": DotCommand("MODE", f"show rows as {listed(MODES)}", 1, 1, _mode),
    ".output": DotCommand("PATH|- [if_exists=…]", "write rows to a file; - shows them", 1, None, _output),
    ".timing": DotCommand("on|off", "print the time of each query", 1, 1, _timing),
    ".read": DotCommand("FILE", "run the statements of a file", 1, 1, _read),
    ".quit": DotCommand("", "end the shell", 0, 0, _quit),
}
