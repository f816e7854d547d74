"""`sql` and `explain`: queries over files, and plans."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from mmflow.api.dataset import Dataset
from mmflow.api.progress import showing_progress
from mmflow.api.session import Session
from mmflow.api.sql.parameters import parse_literal
from mmflow.api.sql.query import plan_query
from mmflow.api.sql.statements import statement
from mmflow.cli.options import option_value, pair, session_of
from mmflow.cli.output import check_output, emit
from mmflow.cli.parsing import Options, begin_work
from mmflow.errors import ConfigError
from mmflow.plan.tokens import parameters_of

__all__ = ["explain", "named_tables", "parameter_values", "read_query", "sql"]


def sql(options: Options) -> int:
    """Run a query."""
    query = read_query(options)
    check_output(options)
    with showing_progress(), session_of(options) as session:
        rows = plan_query(session, query, _values(session, options, query))
        begin_work()
        is_plan = statement(query)[0] in ("explain", "analyze")
        if is_plan and options.format is options.output is None and not options.json_rows:
            print("\n".join(rows.to_arrow()["plan"].to_pylist()))
            return 0
        emit(rows, options, None)
        if options.profile:
            print(session.context.last_profile(), file=sys.stderr)
    return 0


def read_query(options: Options) -> str:
    """Return the query of the command line, of `-f`, or of standard input.

    Raises:
        click.UsageError: There is none, or two.
        ConfigError: The file can't be read.
    """
    ctx = click.get_current_context(silent=True)
    if options.file is not None and options.query is not None:
        raise click.UsageError(f"give a query or -f {options.file}, not both", ctx)
    try:
        if "-" in (options.file, options.query) or options.file is options.query is None:
            text = "" if sys.stdin is None else sys.stdin.read()
            if not text.strip():
                raise click.UsageError("no query: give SQL, -f FILE, or SQL on standard input", ctx)
            return text.removeprefix("\ufeff")
        return str(options.query) if options.file is None else Path(options.file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(f"can't read the query in {options.file or 'standard input'}: {why}") from error


def _values(session: Session, options: Options, query: str) -> dict[str, Any]:
    """Return the tables and parameters of the query, by name.

    Raises:
        click.UsageError: A parameter has no value.
        ConfigError: A value or table is written wrongly.
    """
    values = parameter_values(options)
    missing = [name for name in parameters_of(query) if name not in values]
    if missing:
        ctx = click.get_current_context(silent=True)
        raise click.UsageError(
            f"${missing[0]} of the query has no value: give --param {missing[0]}=VALUE", ctx
        )
    return values | {name: dataset for name, (dataset, _) in named_tables(session, options).items()}


def parameter_values(options: Options) -> dict[str, Any]:
    """Return the values of `--param`, by name.

    Raises:
        ConfigError: One is written wrongly.
    """
    values: dict[str, Any] = {}
    for text in options.param:
        name, value = pair(text, "--param")
        try:
            values[name] = parse_literal(value)
        except ValueError as error:
            quoted = value.replace("'", "''")
            raise ConfigError(
                f"--param {text!r}: {error}; quote it if it is text: {name}=\"'{quoted}'\""
            ) from error
    return values


def named_tables(session: Session, options: Options) -> dict[str, tuple[Dataset, str]]:
    """Return the tables of `--table` with their paths, by name.

    Raises:
        ConfigError: One is written wrongly, or an option of it.
        SourceError: A path can't be read.
    """
    paths: dict[str, str] = {}
    for text in options.table:
        name, equals, path = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--table {text!r}: write NAME=PATH")
        paths[name] = path
    given: dict[str, dict[str, Any]] = {name: {} for name in paths}
    for text in options.opt:
        name, dot, rest = text.partition(".")
        if not dot or name not in paths:
            known = ", ".join(paths) or "none; name it with --table NAME=PATH"
            raise ConfigError(f"--opt {text!r}: write NAME.key=value, with the name of a table ({known})")
        key, value = pair(rest, "--opt")
        given[name][key] = option_value(value)
    return {
        n: (session.read(path, given[n].pop("format", None), **given[n]), path) for n, path in paths.items()
    }


def explain(options: Options) -> int:
    """Print the plan of a query or job."""
    with session_of(options) as session:
        if (options.query or "").endswith((".py", ".toml")):
            from mmflow.api.jobs import load_job  # noqa: PLC0415  (slow: only jobs need it)

            job = load_job(options.query)
            from mmflow.cli.job_parameters import job_values  # noqa: PLC0415  (slow: only jobs need it)

            values = job_values(job, options.query, options.rest)
            bound = job.bound(values)
            begin_work()
            plan = job.explain(session, **bound)
        else:
            query = read_query(options)
            if options.rest:
                raise click.UsageError(f"no such option {options.rest[0]}", click.get_current_context())
            plan = plan_query(session, query, _values(session, options, query)).explain()
        print(json.dumps({"plan": plan.splitlines()}) if options.json else plan)
    return 0
