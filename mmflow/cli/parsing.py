"""Commands and options of the command line, on click: what all of them share. Imports nothing slow.

    Group ── Command ── Option, Argument
               │  words ──> options, then arguments, then the words of a job
               └─ handler: "module:function", imported once the words are known to be right

Words that are no options stay arguments: SQL that begins with a comment, negative row numbers, parameters of a job.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from mmflow.usercode import tracebacks

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "AS_JSON",
    "WORKING",
    "Argument",
    "Choice",
    "Command",
    "Count",
    "FilePath",
    "Group",
    "HelpPage",
    "Option",
    "Options",
    "RunName",
    "begin_work",
    "listed",
    "suggestion",
]

#: Values of the parameters of one command, by name; `rest` holds the words of a job.
Options = SimpleNamespace

#: Fact in `Context.meta`: the command line is understood.
WORKING = "mmflow.working"
#: Key of a click context's `meta`: whether the command prints JSON, errors as well.
AS_JSON = "mmflow.json"

#: Stands for a hyphen while lines are broken.
_HYPHEN = "\x01"

#: Largest number of runs that a shell is offered.
_RUNS = 50


def listed(names: Iterable[str], word: str = "or") -> str:
    """Return names as a text.

    >>> listed(["csv", "json", "arrow"]), listed(["csv"])
    ('csv, json or arrow', 'csv')
    """
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return what was probably meant, as the end of a message.

    >>> suggestion("--ouput", ["--output", "--opt"]), suggestion("--zzz", ["--output"])
    ('; did you mean --output?', '')
    """
    from difflib import get_close_matches  # noqa: PLC0415  (--help needs none)

    close = get_close_matches(name, list(known), 1, cutoff)
    return f"; did you mean {close[0]}?" if close else ""


class Choice(click.Choice[str]):
    """One of several words."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the name of the parameter: its help lists the words."""
        return param.name.upper()

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return what is wrong with a value, and what was probably meant."""
        return f"must be {listed(self.choices)}, not {str(value)!r}{suggestion(str(value), self.choices)}"


class Count(click.ParamType[int]):
    """Number of things, from 0."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if not str(value).isdecimal():
            self.fail(f"must be a whole number from 0, not {str(value)!r}", param, ctx)
        return int(value)


class FilePath(click.ParamType[str]):
    """Path of a file or folder, which a shell completes. Whether it exists is the command's business."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Leave the completion to the shell."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  (--help needs none)

        return [CompletionItem(incomplete, type="file")]


class RunName(click.ParamType[str]):
    """Name of a run, or its beginning."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Return the names of the latest runs on this machine."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  (--help needs none)

        from mmflow.config import default_runs_dir  # noqa: PLC0415  (the same)

        folder = ctx.params.get("runs_dir") or os.environ.get("MMFLOW_RUNS_DIR") or default_runs_dir()
        try:
            found = [
                e
                for e in os.scandir(folder)
                if e.is_dir() and e.name.startswith(incomplete) and not e.name.startswith(".")
            ]
        except OSError:  # none yet, or a URL
            return []
        found.sort(key=lambda e: e.stat().st_mtime, reverse=True)
        return [CompletionItem(e.name) for e in found[:_RUNS]]


class Option(click.Option):
    """Option that knows its section in the help.

    Args:
        names: Its spellings.
        help: Text of the help, without the choices and the default.
        section: Heading under which the help lists it; "" is the first section.
        default_text: The default in the help, where it is computed.
        more: Arguments of click.
    """

    def __init__(
        self, *names: str, help: str, section: str = "", default_text: str = "", **more: Any
    ) -> None:
        super().__init__(names, help=help, **more)
        self.section = section
        self.default_text = default_text

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the names and the text, with the choices, the default, and whether it is required."""
        if self.hidden:
            return None
        text = self.help or ""
        if isinstance(self.type, Choice):
            text += f"{': ' if text else ''}{listed(self.type.choices)}"
        facts = ["required"] if self.required else []
        default = self.default_text or self._default()
        facts += [f"default: {default}"] if default else []
        return self.get_help_spec(ctx), f"{text} [{'; '.join(facts)}]".strip() if facts else text

    def _default(self) -> str:
        given = self.default
        return str(given) if self._default_explicit and given is not None and not self.multiple else ""


class Argument(click.Argument):
    """Argument with a text in the help."""

    def __init__(self, name: str, *, help: str, **more: Any) -> None:
        super().__init__([name], help=help, **more)


def _traceback_option(section: str = "") -> Option:
    return Option(
        "--traceback", is_flag=True, section=section, help="print the Python traceback of an error, too"
    )


def _print_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if value and not ctx.resilient_parsing:
        print(ctx.get_help())
        ctx.exit()


class _Formatter(click.HelpFormatter):
    """Formatter that breaks no word at a hyphen: names of options and files stay whole."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, text.replace("-", _HYPHEN)) for name, text in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        return super().getvalue().replace(_HYPHEN, "-")


class _Context(click.Context):
    formatter_class = _Formatter


class HelpPage:
    """Sections of a page of help: arguments, main options, other options by topic, examples."""

    context_class: type[click.Context] = _Context
    examples: Sequence[str] = ()
    _help: Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option that prints the page; None if a parameter of the command is in its place."""
        if not self.add_help_option:  # type: ignore[attr-defined]  # click's
            return None
        if self._help is None:
            self._help = Option(
                "-h", "--help", "_help", is_flag=True, is_eager=True, expose_value=False, callback=_print_help,
                help="show this page",
            )  # fmt: skip
        return self._help

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, by section."""
        sections: dict[str, list[tuple[str, str]]] = {"": []}
        for param in self.get_params(ctx):  # type: ignore[attr-defined]  # click's
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "section", ""), []).append(record)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title or "Options"):
                    formatter.write_dl(rows, col_max=24)

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments."""
        arguments = [p for p in self.get_params(ctx) if isinstance(p, click.Argument)]  # type: ignore[attr-defined]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(a.human_readable_name, a.help or "") for a in arguments], col_max=24)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are, or the last sentences."""
        super().format_epilog(ctx, formatter)  # type: ignore[misc]  # click's
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for example in self.examples:
                    formatter.write("".join(f"  {line}\n" for line in example.splitlines()))


class Command(HelpPage, click.Command):
    """Command whose handler is imported once the command line is known to be right.

    Args:
        name: Its name.
        handler: `module:function` of a function that takes `Options` and returns an exit code.
        help: Sentences that say what it does.
        params: Arguments, and options in the order of the help.
        examples: Command lines, at most 78 characters wide.
        job: Name of the argument behind which words that are no options are those of a job; they become `rest`.
        instead: Names of options that stand for the first argument.
        takes_stdin: Whether standard input does, unless it is a terminal.
        extra: Pattern of words that begin with a dash and are arguments.
        light: Whether the handler needs none of the large libraries, which want some preparation.
    """

    def __init__(
        self,
        name: str,
        handler: str,
        *,
        help: str,
        params: Sequence[click.Parameter] = (),
        examples: Sequence[str] = (),
        job: str = "",
        instead: Sequence[str] = (),
        takes_stdin: bool = False,
        extra: str = "",
        light: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(name, help=help, params=[*params, _traceback_option()], **more)
        self.allow_extra_args = True  # our message says it shorter
        self.examples = examples
        self._handler = handler
        self._light = light
        self._job = job
        self._instead = instead
        self._takes_stdin = takes_stdin
        self._extra = re.compile(extra or r"(?!)")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind the command's name."""
        options, words, rest = self._split(ctx, args)
        ctx.meta["rest"] = rest
        super().parse_args(ctx, [*options, "--", *words] if words else options)
        if not ctx.resilient_parsing:
            self._check(ctx)
        return ctx.args

    def _check(self, ctx: click.Context) -> None:
        first = next((p for p in self.params if isinstance(p, click.Argument)), None)
        if (
            first is not None
            and ctx.params[first.name] is None
            and not any(map(ctx.params.get, self._instead))
        ):
            if ctx.meta["rest"]:
                name = ctx.meta["rest"][0].partition("=")[0]
                meant = suggestion(name, _option_names(self, ctx), cutoff=0.8)
                raise click.UsageError(
                    f"no such option {name}{meant or '; the parameters of a job follow its file'}", ctx
                )
            if not self._takes_stdin or (sys.stdin is not None and sys.stdin.isatty()):
                raise click.MissingParameter(ctx=ctx, param=first)
        if ctx.args:
            raise click.UsageError(f"unexpected argument {ctx.args[0]!r}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the handler, and return its exit code."""
        if ctx.params["traceback"]:
            tracebacks.show_all()
        ctx.meta[AS_JSON] = ctx.params.get("json") or ctx.params.get("json_rows")
        if not self._light:
            _prepare()
        return _run_handler(self._handler, Options(**ctx.params, rest=ctx.meta["rest"]))

    def options_of(self, words: Sequence[str]) -> Options:
        """Return the options that words on the command line give.

        Raises:
            click.UsageError: They are wrong.
        """
        ctx = self.make_context(f"mmflow {self.name}", list(words))
        return Options(**ctx.params, rest=ctx.meta["rest"])

    def _split(self, ctx: click.Context, args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Return options with their values, arguments, and words of a job."""
        takes = {
            n: not (p.is_flag or p.count)
            for p in self.get_params(ctx)
            if isinstance(p, click.Option)
            for n in (*p.opts, *p.secondary_opts)
        }
        options: list[str] = []
        words: list[str] = []
        rest: list[str] = []
        unknown: str | None = None
        waiting = list(reversed(args))
        while waiting:
            word = waiting.pop()
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if word == "--":
                words += reversed(waiting)
                break
            if name in takes:
                options.append(word)
                if not takes[name] and word != name and not ctx.resilient_parsing:
                    raise click.BadOptionUsage(name, f"{name} takes no value", ctx)
                if takes[name] and word == name:
                    if not waiting and ctx.resilient_parsing:  # the shell asks for this value
                        options.pop()
                    elif not waiting:
                        raise click.BadOptionUsage(name, f"{name} needs a value", ctx)
                    else:
                        options.append(waiting.pop())
            elif self._is_argument(word):
                (rest if rest or (self._job and words) else words).append(word)
            elif self._job:
                rest.append(word)
            elif unknown is None:
                unknown = name
        if unknown is not None and not ctx.resilient_parsing and not {"-h", "--help"} & set(options):
            raise click.NoSuchOption(unknown, possibilities=_option_names(self, ctx), ctx=ctx)
        if self._job and not words:
            words, rest = _find_job(rest)
        return options, words, rest

    def _is_argument(self, word: str) -> bool:
        # SQL may begin with a comment; no option has white space in its name.
        spaced = re.match(r"-[^\s=]*\s", word) is not None
        return not word.startswith("-") or word == "-" or spaced or bool(self._extra.fullmatch(word))


def _option_names(command: click.Command, ctx: click.Context) -> list[str]:
    """Return the options that the help lists."""
    options = [p for p in command.get_params(ctx) if isinstance(p, click.Option) and not p.hidden]
    return [name for option in options for name in (*option.opts, *option.secondary_opts)]


def _find_job(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the job of words that begin with parameters, if it can be told from their values."""
    for number, word in enumerate(words):
        if not word.startswith("-"):
            return [word], words[:number] + words[number + 1 :]
        if "=" not in word:
            break
    return [], words


class Group(HelpPage, click.Group):
    """Commands by topic.

    Args:
        name: Its name.
        help: Sentences that say what its commands do.
        topics: Summaries of the commands by name, by topic.
        build: Function that makes the command of a name: only the one that is used is made.
        examples: Command lines, at most 78 characters wide.
        more: Arguments of click.
    """

    def __init__(
        self,
        name: str,
        *,
        help: str,
        topics: dict[str, dict[str, str]],
        build: Callable[[str], click.Command],
        examples: Sequence[str] = (),
        **more: Any,
    ) -> None:
        super().__init__(name, help=help, no_args_is_help=False, subcommand_metavar="COMMAND ...", **more)
        self.topics = topics
        self.examples = examples
        self._build = build

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return [name for commands in self.topics.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name; None if there is none."""
        return self.command_of(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def command_of(self, name: str) -> click.Command:
        """Return the command of a name that there is."""
        if name not in self.commands:
            self.commands[name] = self._build(name)
        return self.commands[name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words name, and the words behind it."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return args[0], command, args[1:]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by topic, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by topic."""
        width = max(len(name) for name in self.list_commands(ctx))
        for topic, commands in self.topics.items():
            with formatter.section(topic):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])


def begin_work() -> None:
    """Note that the command line is understood: what fails from now on is no wrong usage."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None:
        ctx.meta[WORKING] = True


def _prepare() -> None:
    """Prepare the process for large libraries."""
    from mmflow.private_apis import (  # noqa: PLC0415  (imports pyarrow, which --help must not)
        datafusion_version,
        pyarrow_pandas,
    )
    from mmflow.startup import limit_address_space  # noqa: PLC0415  (before it)

    limit_address_space()
    pyarrow_pandas.defer_import()
    datafusion_version.quicken_import()


def _run_handler(handler: str, options: Options) -> int:
    """Import the function `module:function`, and return its exit code for the options."""
    module, _, function = handler.partition(":")
    handle = getattr(importlib.import_module(module), function)
    if not gc.isenabled():  # the start of a process: what was imported stays, and need not be looked at
        gc.freeze()
        gc.enable()
    code: int = handle(options)
    return code
