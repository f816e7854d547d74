"""Parameters of a job on the command line: `--name value` behind the job's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from mmflow.api.jobs import Job, Parameter
from mmflow.cli.parameters import job_options
from mmflow.cli.parsing import Choice, FilePath, HelpPage, Option
from mmflow.errors import ConfigError

__all__ = ["job_help", "job_values", "recorded_values"]

_NOUNS = {"integer": "an integer", "number": "a number", "true|false": "true or false"}


class _Value(click.ParamType[Any]):
    """Value of a job's parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = parameter.kind
        self._parse = parameter.parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, converted."""
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"must be {_NOUNS.get(self.name, self.name)}, not {value!r}", param, ctx)


class _JobCommand(HelpPage, click.Command):
    """Page of help, and parser, of a job's parameters."""


def _command(job: Job, path: str, *, complete: bool) -> _JobCommand:
    """Return the command of a job; unless `complete`, required parameters may be missing.

    Raises:
        ConfigError: A parameter has the name of an option of `mmflow run`, which would get its value.
    """
    taken = {n for p in job_options() for n in (*p.opts, *p.secondary_opts)}
    for parameter in job.parameters:
        if f"--{parameter.name.replace('_', '-')}" in taken:
            raise ConfigError(
                f"job {job.name}: parameter {parameter.name!r} has the name of an option of mmflow run; rename it"
            )
    return _JobCommand(
        path,
        help=job.doc,
        params=[_option(p, complete=complete) for p in job.parameters],
        options_metavar="--NAME VALUE ..." if job.parameters else "",
        epilog="All options of `mmflow run --help` apply, too.",
        add_help_option=False,
    )


def _option(parameter: Parameter, *, complete: bool) -> Option:
    kind: click.ParamType[Any] = _Value(parameter)
    if parameter.choices:
        kind = Choice(parameter.choices)
    elif parameter.kind == "path":
        kind = FilePath()
    default = "" if parameter.required or parameter.default is None else str(parameter.default)
    return Option(
        f"--{parameter.name.replace('_', '-')}",
        parameter.name,
        type=kind,
        metavar=parameter.kind.upper(),
        multiple=parameter.many,
        required=parameter.required and complete,
        help=parameter.help,
        section="Parameters",
        default_text=default,
    )


def job_help(job: Job, path: str) -> str:
    """Return the page of help of a job."""
    command = _command(job, path, complete=True)
    return command.get_help(command.context_class(command, info_name=f"mmflow run {path}"))


def job_values(job: Job, path: str, words: Sequence[str], *, complete: bool = True) -> dict[str, Any]:
    """Return the values of the parameters that the words behind a job give.

    Raises:
        click.UsageError: There is no such parameter, a value does not fit it, or a required one is missing, if the
            values must be `complete`.
    """
    command = _command(job, path, complete=complete)
    name = f"mmflow run {path}"
    try:
        values = command.make_context(name, list(words)).params
    except click.NoSuchOption as error:
        known = [n for p in (*command.params, *job_options()) for n in p.opts]
        raise click.NoSuchOption(error.option_name, possibilities=known, ctx=error.ctx) from None
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if v not in (None, ())}


def recorded_values(job: Job, texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters that a run has recorded as texts; those that the job has no more are left out.

    Raises:
        ConfigError: A value does not fit the parameter.
    """
    known = {p.name: p for p in job.parameters}
    return {n: _recorded_value(known[n], t) for n, t in texts.items() if n in known}


def _recorded_value(parameter: Parameter, text: Any) -> Any:
    flag = f"--{parameter.name.replace('_', '-')}"
    try:
        value = [parameter.parse(t) for t in text] if parameter.many else parameter.parse(text)
    except ValueError as error:
        raise ConfigError(f"{flag} of the run is {text!r}, which is not {parameter.kind}: {error}") from error
    if parameter.choices and value not in parameter.choices:
        raise ConfigError(f"{flag} of the run is {text!r}: must be one of {', '.join(parameter.choices)}")
    return value
