"""Options that several commands share."""

from __future__ import annotations

from typing import Any

import click

from mmflow.cli.parsing import Choice, FilePath, Option, RunName

__all__ = [
    "BACKENDS",
    "CACHE_MODES",
    "CONFIG",
    "ENGINES",
    "IF_EXISTS",
    "IO_MODES",
    "JSON",
    "RUNS_DIR",
    "SETTINGS",
    "STDOUT_FORMATS",
    "TABLES",
    "WRITE_FORMATS",
    "format_option",
    "job_options",
    "output_options",
]

# Copies of what slow modules define: tests compare them.
ENGINES = ("local", "ray", "dask")
IO_MODES = ("auto", "mmap", "pread")
CACHE_MODES = ("off", "auto", "eager")
STDOUT_FORMATS = ("table", "csv", "json", "ndjson", "markdown", "arrow", "parquet")
WRITE_FORMATS = ("parquet", "arrow", "csv", "ndjson", "npy")
BACKENDS = ("local", "ray", "kubernetes")
IF_EXISTS = ("error", "replace", "append", "replace-partitions")

_SETTINGS = "Settings (an option overrides MMFLOW_…, then --config, then the default)"
_OUTPUT = "Output"
_TABLES = "Tables and parameters of the query"


class _Setting(click.ParamType[str]):
    """Value of a setting, checked as it is in the environment and in settings files."""

    def __init__(self, key: str) -> None:
        self.name = key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is: sessions parse it."""
        from mmflow.config import parse_setting  # noqa: PLC0415  (--help needs none)

        try:
            parse_setting(self.name, value)
        except ValueError as error:
            text = str(error)
            self.fail(text if text.startswith(repr(value)) else f"{value!r}: {text}", param, ctx)
        return str(value)


def _setting(key: str, metavar: str, help: str, default_text: str) -> Option:
    return Option(
        f"--{key.replace('_', '-')}", metavar=metavar, type=_Setting(key), section=_SETTINGS, help=help,
        default_text=default_text,
    )  # fmt: skip


CONFIG = Option("--config", metavar="FILE", type=FilePath(), section=_SETTINGS, help="TOML file of settings")
RUNS_DIR = Option(
    "--runs-dir", metavar="DIR", type=FilePath(), section=_SETTINGS,
    help="folder or URL where runs are kept", default_text="~/.local/state/mmflow/runs",
)  # fmt: skip
JSON = Option("--json", is_flag=True, help="print JSON")
JSON_ROWS = Option(
    "--json", "json_rows", is_flag=True, help="print the rows as JSON, and an error, too; --format json"
)

SETTINGS: list[click.Parameter] = [
    Option("--engine", type=Choice(ENGINES), section=_SETTINGS, help="engine that runs tasks", default_text="local"),
    Option("--address", metavar="URL", section=_SETTINGS, help="address of a cluster", default_text="start one here"),
    _setting("shard_size", "SIZE", "bytes of a file that one task reads", "by the size of the input"),
    _setting("workers", "N", "tasks at once", "one a core"),
    _setting("memory", "SIZE", "anonymous memory of all workers together", "half of what there is"),
    Option("--io", type=Choice(IO_MODES), section=_SETTINGS, help="way of reading files", default_text="auto"),
    _setting("partitions", "N", "partitions of every exchange", "by estimated sizes"),
    _setting("broadcast", "SIZE", "largest side of a join that is copied to every task", "32MiB"),
    Option(
        "--spill-dir", metavar="DIR", type=FilePath(), section=_SETTINGS, help="folder where blocks spill",
        default_text="$TMPDIR",
    ),
    Option(
        "--cache", type=Choice(CACHE_MODES), section=_SETTINGS,
        help="keep columns of text files for later queries: from the second query on, or the first",
        default_text="off",
    ),
    Option(
        "--cache-dir", metavar="DIR", type=FilePath(), section=_SETTINGS,
        help="folder where pages of remote files and columns are kept", default_text="~/.cache/mmflow",
    ),
    _setting("cache_size", "SIZE", "largest size of these", "10GiB, or half of what is free"),
    _setting(
        "max_bad_records", "N", "more bad records than this fail the run: a count, or a share as 0.1%", "any number"
    ),
    _setting("stall_after", "SECONDS", "a task that has not moved for so long gets a second attempt", "60"),
    _setting("stall_timeout", "SECONDS", "a task that has not moved for so long fails the run; 0: never", "0"),
    RUNS_DIR,
    CONFIG,
]  # fmt: skip

TABLES: list[click.Parameter] = [
    Option(
        "--table", multiple=True, metavar="NAME=PATH", section=_TABLES,
        help="name a table of the query; may be repeated",
    ),
    Option(
        "--param", multiple=True, metavar="NAME=VALUE", section=_TABLES,
        help="value of $NAME in the query, as SQL writes it: 1, 1.5, 2024-01-31, true, null, 'text', [1, 2]; else text",
    ),
    Option(
        "--opt", multiple=True, metavar="NAME.key=value", section=_TABLES,
        help="option of a table's format: delimiter, header, quote, escape, null, schema, on_bad_record, …; "
        "storage_options (JSON) of a URL's file system",
    ),
]  # fmt: skip


def format_option() -> Option:
    """Return the option that names the form of rows on standard output."""
    return Option(
        "--format", type=Choice(STDOUT_FORMATS), help="form of the rows",
        default_text="table on a terminal, else csv",
    )  # fmt: skip


def output_options() -> list[click.Parameter]:
    """Return the options that say where rows go, and in which form."""
    both = (*STDOUT_FORMATS, *(f for f in WRITE_FORMATS if f not in STDOUT_FORMATS))
    return [
        Option(
            "-o", "--output", metavar="PATH", type=FilePath(), section=_OUTPUT,
            help="write all rows or nothing to this file, folder or URL", default_text="-, which is stdout",
        ),
        Option(
            "--format", type=Choice(both), section=_OUTPUT, help="form of the rows",
            default_text="table on a terminal, csv elsewhere on stdout; by the suffix of --output",
        ),
        Option(
            "--if-exists", type=Choice(IF_EXISTS), metavar="MODE", section=_OUTPUT,
            help="what to do with rows that are there already", default_text="error",
        ),
    ]  # fmt: skip


def job_options() -> list[click.Parameter]:
    """Return the options of commands that run a job, or prepare it."""
    return [
        Option("--resume", metavar="RUN", type=RunName(), help="resume a run that stopped or failed; no JOB is needed"),
        Option(
            "--name", metavar="NAME",
            help="name of the run, in which {date}, {hour} and {job} are filled in; the same command again resumes "
            "the run, waits for it, or returns at once if it is done", default_text="a new one",
        ),
        Option(
            "--join/--no-join", default=True, help="with --name, wait for the run if another process runs it, or fail",
            default_text="join",
        ),
        Option("--json", is_flag=True, help="print a summary of the run as JSON on stdout"),
        *output_options(),
        _setting("resumable", "BOOL", "keep outputs of finished tasks until the run's end", "true"),
        Option(
            "--metrics", metavar="PORT|FILE", section=_SETTINGS,
            help="for Prometheus: a port, or a file that ends in .prom",
        ),
        *SETTINGS,
        Option("--sources", hidden=True, help="named sources, as JSON"),
    ]  # fmt: skip
