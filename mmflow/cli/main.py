"""`mmflow`: parse the command line, run its command, and turn errors into one message and an exit code.

Exit codes: 0 done; 1 the query or job is wrong or failed, or its output can't be written; 2 wrong usage (of options,
arguments or settings); 130 interrupted. Data goes to stdout, all else to stderr.
Nothing slow is imported before a command is known.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import click

from mmflow.cli import standard_streams
from mmflow.cli.parsing import AS_JSON, WORKING
from mmflow.cli.process_exit import exit_process
from mmflow.cli.signals import ending_signals
from mmflow.cli.tree import COMPLETION_VARIABLE, command_line
from mmflow.cli.usage import usage_message
from mmflow.errors import ConfigError, MmflowError
from mmflow.usercode import tracebacks

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    standard_streams.prepare()
    with ending_signals(), tracebacks.restored():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    root = command_line()
    context = root.context_class(root, info_name="mmflow")
    try:
        code = _complete(root) if COMPLETION_VARIABLE in os.environ else _run(context, argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # A second Ctrl-C while things are taken down must not print a traceback.
        signal.signal(
            signal.SIGINT, lambda *_: None
        )  # not SIG_IGN: Python raises for one that has come already
        print("interrupted", file=sys.stderr)
        standard_streams.end_output()
        code = 130
    except BrokenPipeError:
        # The reader of the pipe has ended, as `head` does. Python would complain once more at exit.
        standard_streams.drop_output()
        return 0
    except OSError as error:
        if error.filename is not None:  # an error of a file, which is not expected here
            raise
        standard_streams.drop_output()
        print(f"error: {standard_streams.output_failure(error)}", file=sys.stderr)
        code = 1
    except click.UsageError as error:
        print(usage_message(error), file=sys.stderr)
        code = 2
    except MmflowError as error:
        if tracebacks.shows_all():
            raise
        from mmflow.runs.redaction import Redactor  # noqa: PLC0415  (needed on errors only)

        message = Redactor().text(str(error))
        if context.meta.get(AS_JSON):
            import json  # noqa: PLC0415  (the same)

            facts = {"class": type(error).__name__, "code": error.code, "message": message}
            print(json.dumps({"error": facts}), file=sys.stderr)
        else:
            print(f"error: {message}\ncode:  {error.code}", file=sys.stderr)
        code = 2 if isinstance(error, ConfigError) and WORKING not in context.meta else 1
    return code


def _complete(root: click.Command) -> int:
    from mmflow.cli.completion import answer  # noqa: PLC0415  (--help needs less)

    return answer(root)


def _run(context: click.Context, argv: Sequence[str]) -> int:
    """Parse the words and run their command. Click's own `main` has messages and an order of signals of its own."""
    try:
        with context:
            context.command.parse_args(context, list(argv))
            if context.params.get("traceback"):
                tracebacks.show_all()
            code: int = context.command.invoke(context)
    except click.exceptions.Exit as ended:  # --help, --version
        code = ended.exit_code
    return code


if __name__ == "__main__":
    exit_process(main())
