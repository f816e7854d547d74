"""`completion`: scripts that make a shell complete commands, options, choices, files and runs.

The script asks `mmflow` with the words so far in the environment (`_MMFLOW_COMPLETE`), which answers without a command
being run.
"""

from __future__ import annotations

import json
import os

import click
from click import shell_completion

from mmflow.cli.parsing import Options
from mmflow.cli.tree import COMPLETION_VARIABLE

__all__ = ["answer", "completion"]


def completion(options: Options) -> int:
    """Print the script for a shell."""
    found = shell_completion.get_completion_class(options.shell)
    assert found is not None  # the shells are choices
    made = found(click.Group(), {}, "mmflow", COMPLETION_VARIABLE)
    script = made.source_template % made.source_vars()
    if options.json:
        print(json.dumps({"shell": options.shell, "script": script}))
    else:
        print(script, end="")
    return 0


def answer(root: click.Command) -> int:
    """Print what may follow the words that a shell's script puts into the environment."""
    shell, _, _ = os.environ[COMPLETION_VARIABLE].partition("_")
    found = shell_completion.get_completion_class(shell)
    if found is None:
        return 1
    print(found(root, {}, "mmflow", COMPLETION_VARIABLE).complete())
    return 0
