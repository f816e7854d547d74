"""Writer of the reference in docs/cli.md: every command with its arguments, options and examples.

After a change of a command: `python -m tests.cli.command_reference` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from mmflow.cli.parsing import Command, Group
from mmflow.cli.tree import command_line

__all__ = ["PAGE", "with_reference"]

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
_BEGIN = "<!-- Written by `python -m tests.cli.command_reference`. -->\n"
#: So many settings are listed where a command takes no others.
_FEW = 2
_END = "<!-- End of what is written. -->\n"


def with_reference(page: str) -> str:
    """Return the page with the reference of today's commands."""
    before, _, rest = page.partition(_BEGIN)
    return before + _BEGIN + "\n" + "\n".join(_reference()) + "\n" + _END + rest.partition(_END)[2]


def _reference() -> Iterator[str]:
    root = command_line()
    for topic, names in root.topics.items():
        yield f"### {topic}\n"
        for name in names:
            for path, command in _commands(root.command_of(name), f"mmflow {name}"):
                yield from _entry(path, command)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, Command]]:
    if isinstance(command, Group):
        for name in command.list_commands(click.Context(command)):
            yield from _commands(command.command_of(name), f"{path} {name}")
    else:
        assert isinstance(command, Command)
        yield path, command


def _entry(path: str, command: Command) -> Iterator[str]:
    ctx = click.Context(command, info_name=path)
    yield f"#### {' '.join([path, *command.collect_usage_pieces(ctx)])}\n"
    yield f"{command.help}\n"
    for example in command.examples:
        yield f"    {example}"
    yield "\n| argument or option | meaning |"
    yield "|---|---|"
    taken: list[str] = []
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None or "--traceback" in param.opts or "--help" in param.opts:
            continue
        if getattr(param, "section", "").startswith("Settings"):
            taken.append(_row(*record))
        else:
            yield _row(
                param.human_readable_name if isinstance(param, click.Argument) else record[0], record[1]
            )
    if len(taken) > _FEW:
        yield "| … | [settings](settings.md) |"
    else:
        yield from taken
    yield ""


def _row(name: str, text: str) -> str:
    return f"| `{name}` | {text} |".replace("PORT|FILE", "PORT\\|FILE").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))
