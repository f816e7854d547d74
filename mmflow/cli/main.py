"""`mmflow`: parse, dispatch, and turn what goes wrong into one message and an exit code.

Exit codes: 0 done, 1 the job failed, 2 wrong usage, 130 interrupted. Data goes to stdout, all else to stderr.
Nothing slow is imported before a command is known.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from mmflow.cli import arguments
from mmflow.errors import ConfigError, MmflowError, PlanError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options, rest = arguments.parser().parse_known_args(argv)
    if rest and options.command not in ("run", "submit", "explain", "k8s"):
        arguments.parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        code = _dispatch(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # A second Ctrl-C while things are taken down must not print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MmflowError as error:
        if options.traceback:
            raise
        from mmflow.runs.redact import Redactor  # noqa: PLC0415  (only who fails needs it)

        print(f"error: {Redactor().text(str(error))}", file=sys.stderr)
        code = 2 if isinstance(error, ConfigError | PlanError) else 1
    return code


def _dispatch(options: argparse.Namespace) -> int:
    from mmflow import pandas_gate  # noqa: PLC0415  (pyarrow is slow to import; --help must not)

    pandas_gate.close()
    from mmflow.cli import commands  # noqa: PLC0415

    return commands.COMMANDS[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
