"""`mmflow`: parse, dispatch, and turn what goes wrong into one message and an exit code.

Exit codes: 0 done, 1 the job failed, or its output could not be written, 2 wrong usage, 130 interrupted. Data goes to
stdout, all else to stderr.
Nothing slow is imported before a command is known.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from mmflow.cli import arguments, standard
from mmflow.errors import ConfigError, MmflowError, PlanError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    standard.prepare()
    traceback = True
    try:
        options = _parsed(argv)
        traceback = options.traceback
        code = _dispatch(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        # A second Ctrl-C while things are taken down must not print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more at exit.
        standard.drop_output()
        return 0
    except OSError as error:
        if error.filename is not None:  # a file's, which is not expected here
            raise
        standard.drop_output()
        print(f"error: {standard.output_failure(error)}", file=sys.stderr)
        code = 1
    except MmflowError as error:
        if traceback:
            raise
        from mmflow.runs.redact import Redactor  # noqa: PLC0415  (only who fails needs it)

        print(f"error: {Redactor().text(str(error))}", file=sys.stderr)
        code = 2 if isinstance(error, ConfigError | PlanError) else 1
    return code


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        options, rest = arguments.parser().parse_known_args(argv)
        if rest and options.command not in ("run", "submit", "explain", "k8s"):
            arguments.parser().error(f"unrecognized arguments: {' '.join(rest)}")
    except SystemExit:
        sys.stdout.flush()  # help, which must not be lost without a word
        raise
    options.rest = rest
    return options


def _dispatch(options: argparse.Namespace) -> int:
    from mmflow import address_space, pandas_gate  # noqa: PLC0415  (pyarrow is slow to import; --help must not)

    address_space.prepare()
    pandas_gate.close()
    from mmflow.cli import commands  # noqa: PLC0415

    return commands.COMMANDS[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
