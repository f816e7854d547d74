"""Messages of wrong usage: what is wrong, and where the help is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mmflow.cli.parsing import listed

__all__ = ["usage_message"]


def usage_message(error: click.UsageError) -> str:
    """Return the lines that tell what is wrong with a command line, and how to get help."""
    from mmflow.error_codes import USAGE  # noqa: PLC0415  (needed on errors only)

    path = "mmflow" if error.ctx is None else error.ctx.command_path
    return f"error: {_what(error)}\ncode:  {USAGE}\nhelp:  {path} --help"


def _what(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"no such option {error.option_name}{_meant(error.possibilities)}"
    if isinstance(error, click.exceptions.NoSuchCommand):
        return f"no such command {error.command_name}{_meant(error.possibilities)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        kind = "argument" if isinstance(error.param, click.Argument) else "option"
        return f"missing {kind} {_name(error.param)}{_meaning(error.param)}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name(error.param)} {_sentence(error.message)}"
    return _sentence(error.format_message())


def _meant(close: Sequence[str] | None) -> str:
    return f"; did you mean {close[0]}?" if close else ""


def _name(param: click.Parameter) -> str:
    return param.human_readable_name if isinstance(param, click.Argument) else max(param.opts, key=len)


def _meaning(param: click.Parameter) -> str:
    if isinstance(param.type, click.Choice):
        return f": {listed(map(str, param.type.choices))}"
    return f": {param.help}" if param.help else ""


def _sentence(text: str) -> str:
    """Return a message of click as one of ours."""
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]
