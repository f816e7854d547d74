"""The command line's grammar. Imports nothing slow."""

from __future__ import annotations

import argparse
import sys
from typing import Any

__all__ = ["parser"]

_EPILOG = """\
examples:
  mmflow sql "SELECT host, count(*) AS n FROM 'access.csv' GROUP BY host ORDER BY n DESC LIMIT 10"
  mmflow run jobs/pricing_summary.py --source lineitem.csv --output out/
  mmflow inspect lineitem.csv
  mmflow take lineitem.csv 5 17 1000000
"""


def _settings(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("settings (flag over MMFLOW_… over --config over default)")
    group.add_argument("--engine", help="local, ray or dask")
    group.add_argument("--address", help="of a cluster")
    group.add_argument(
        "--shard-size", metavar="SIZE", help="bytes that one task reads (by the size of the input)"
    )
    group.add_argument("--workers", metavar="N", help="tasks at once (the cores there are)")
    group.add_argument(
        "--memory", metavar="SIZE", help="anonymous memory over all workers (half of what there is)"
    )
    group.add_argument("--io", help="auto, mmap or pread (auto)")
    group.add_argument("--partitions", metavar="N", help="of every exchange (by size)")
    group.add_argument(
        "--broadcast", metavar="SIZE", help="largest side of a join that is copied to every task (32MiB)"
    )
    group.add_argument("--spill-dir", metavar="DIR", help="where blocks spill")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="where pages of remote files are kept (~/.cache/mmflow)"
    )
    group.add_argument(
        "--cache-size", metavar="SIZE", help="most bytes of them (10GiB, or half of what is free)"
    )
    group.add_argument("--runs-dir", metavar="DIR", help="where runs are kept: a folder or a URL")
    group.add_argument(
        "--max-bad-records",
        metavar="N",
        help="more bad records than this fail the run: a count, or a share as 0.1%%",
    )
    group.add_argument("--config", metavar="FILE", help="TOML file of settings")


def _tables(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a table of the query; may be repeated",
    )
    command.add_argument(
        "--opt", action="append", default=[], metavar="NAME.key=value",
        help="an option of a table's format: delimiter, header, quote, escape, null, schema, on_bad_record, …; "
        "storage_options (JSON) of a URL's file system",
    )  # fmt: skip


def _output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format", metavar="FORMAT",
        help="of the rows on stdout: table, json, csv or arrow (table on a terminal, else csv); with --output: "
        "parquet, arrow, csv, ndjson or npy (by its suffix)",
    )  # fmt: skip
    command.add_argument("--output", metavar="PATH", help="write there instead of to stdout, all or nothing")
    command.add_argument(
        "--if-exists", default=None, metavar="WHAT", help="error (default), replace or append"
    )


def _job(command: argparse.ArgumentParser) -> None:
    command.add_argument("job", nargs="?", help="a .py file with an @mf.job function, or a .toml file")
    if not command.add_help:
        command.add_argument("-h", "--help", action="store_true", help="show this, and the job's parameters")
    command.add_argument("--json", action="store_true", help="a summary of the run as JSON on stdout")
    command.add_argument(
        "--resume", metavar="RUN", help="go on with a run that stopped or failed (without a job)"
    )
    command.add_argument(
        "--resumable", metavar="BOOL", help="keep what tasks finish until the run's end (true)"
    )
    command.add_argument(
        "--metrics", metavar="PORT|FILE", help="for Prometheus: a port, or a file that ends in .prom"
    )
    command.add_argument("--run-id", help=argparse.SUPPRESS)
    _output(command)
    _settings(command)


def _runs(commands: Any) -> None:
    """Commands that look at runs, or stop them."""

    def about_run(name: str, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text.capitalize() + "."
        )
        made.add_argument("run", help="its name, or how it begins")
        _kept(made)
        return made

    status = about_run("status", "what a run does, or did")
    status.add_argument("--watch", action="store_true", help="until it has ended")
    status.add_argument("--json", action="store_true")
    logs = about_run("logs", "what a run printed")
    logs.add_argument("-f", "--follow", action="store_true", help="until it has ended")
    cancel = about_run("cancel", "stop a run; it can be resumed")
    cancel.add_argument("--json", action="store_true")
    listed = commands.add_parser(
        "list", help="the runs that are kept", description="List the runs that are kept."
    )
    listed.add_argument("--json", action="store_true")
    _kept(listed)
    aside = commands.add_parser(
        "quarantine",
        help="bad records that a run set aside",
        description="Look at bad records that a run set aside.",
    )
    actions = aside.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser(
        "show", help="print them", description="Print the bad records that a run set aside."
    )
    show.add_argument("run", help="its name, or how it begins")
    show.add_argument(
        "--format", metavar="FORMAT", help="table, json, csv or arrow (table on a terminal, else csv)"
    )
    show.add_argument("--limit", type=int, metavar="N", help="at most so many")
    _kept(show)


def _kubernetes(commands: Any) -> None:
    k8s = commands.add_parser("k8s", help="Kubernetes manifests", description="Kubernetes manifests.")
    actions = k8s.add_subparsers(dest="action", required=True, metavar="ACTION")
    render = actions.add_parser(
        "render", help="print the manifests of a job", allow_abbrev=False,
        description="Print what `mmflow submit` would create, as YAML: for kubectl apply, and for GitOps.",
    )  # fmt: skip
    _job(render)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _numbered(commands: Any) -> None:
    """Commands that show some rows of files."""
    for name, text in (
        ("head", "the first rows of a file"),
        ("tail", "the last rows of a file"),
        ("take", "rows of a file by their number"),
    ):
        made = commands.add_parser(
            name, help=text, description=f"Show {text}, without reading what is not needed for it.",
            epilog="The index by which rows of text are found is kept beside the file: see docs/random-access.md.",
        )  # fmt: skip
        made.add_argument("path", help="a file, glob or folder")
        if name == "take":
            made.add_argument(
                "rows", nargs="+", metavar="ROW",
                help="a number from 0, or from the end from -1; a range as 10:20, or behind -- as -5:; "
                "@FILE holds some, - reads them from stdin",
            )  # fmt: skip
        else:
            made.add_argument(
                "-n", type=_natural, default=10, metavar="N", dest="count", help="how many (10)"
            )
        made.add_argument(
            "--columns", action="append", metavar="NAME,NAME", help="only these, _file, _offset and _line too"
        )
        made.add_argument(
            "--opt", action="append", default=[], metavar="key=value", help="an option of the format"
        )
        made.add_argument(
            "--format", metavar="FORMAT", help="table, json, csv or arrow (table on a terminal, else csv)"
        )
        _settings(made)


def _kept(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs-dir", metavar="DIR", help="where runs are kept: a folder or a URL")
    command.add_argument("--config", metavar="FILE", help="TOML file of settings")


class _Parser(argparse.ArgumentParser):
    """A parser whose help is not lost without a word."""

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse of Python 3.11 and later passes over every error of writing.
        if message:
            (file or sys.stderr).write(message)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    main = _Parser(
        prog="mmflow",
        description="Columnar jobs over files too large to load.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version="mmflow 0.1.0")
    main.add_argument("--traceback", action="store_true", help="show where in the code an error was raised")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sql = commands.add_parser("sql", help="run a query over files", description="Run a SELECT over files.")
    sql.add_argument("query", help="SQL; tables are files, FROM 'path', or named with --table")
    _tables(sql)
    _output(sql)
    _settings(sql)

    run = commands.add_parser(
        "run", help="run a job", description="Run a job file; its parameters follow as --name value.",
        add_help=False, allow_abbrev=False,
    )  # fmt: skip
    _job(run)

    submit = commands.add_parser(
        "submit", help="run a job in the background, or on a cluster", allow_abbrev=False,
        description="Hand a job to a process, or a cluster, that outlives this shell; prints the run's name.",
    )  # fmt: skip
    _job(submit)
    submit.add_argument(
        "--on",
        metavar="WHERE",
        help="local, ray (if settings name a Ray cluster) or kubernetes (if they have a [kubernetes] table)",
    )
    _runs(commands)
    _kubernetes(commands)

    inspect = commands.add_parser(
        "inspect",
        help="what a file is, and how it would be read",
        description="Look at a file without reading it.",
    )
    inspect.add_argument("path")
    inspect.add_argument(
        "--opt", action="append", default=[], metavar="key=value", help="an option of the format"
    )
    inspect.add_argument("--json", action="store_true")
    _settings(inspect)

    _numbered(commands)

    explain = commands.add_parser(
        "explain",
        help="the stages of a query or job",
        description="Show stages and exchanges.",
        allow_abbrev=False,
    )
    explain.add_argument("query", help="SQL, or a job file (its parameters follow as --name value)")
    _tables(explain)
    _settings(explain)

    doctor = commands.add_parser(
        "doctor", help="limits, file systems, engines", description="Check this machine."
    )
    doctor.add_argument("--json", action="store_true")
    _settings(doctor)
    return main
