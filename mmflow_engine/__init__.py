"""Command `mmflow`, and the error where another distribution has overwritten the package.

It stands outside of the package: what overwrites `mmflow/__init__.py` fails before any module of mmflow is reached.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

__all__ = ["conflict", "main"]

_NAME = __name__.replace("_", "-")


def main() -> NoReturn:
    """Run the command line, and exit with its code."""
    # OpenBLAS, which numpy brings, has a thread for each core, and they spin for a tenth of a second from then on:
    # here they sleep at once (after 2^4 cycles).
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    gc.disable()  # until all is imported (`cli.parsing`): a tenth of the time of a small query
    try:
        from mmflow import MmflowError  # noqa: F401, PLC0415  (no other mmflow has it)
        from mmflow.cli.main import main as run  # noqa: PLC0415  (may fail, which is explained)
        from mmflow.cli.process_exit import exit_process  # noqa: PLC0415  (the same)
    except Exception:
        problem = conflict()
        if problem is None:
            raise
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(1)
    exit_process(run())


def conflict() -> str | None:
    """Return what another distribution has done to the package `mmflow`, and what helps; None: nothing.

    It reads the metadata of what is installed, which costs milliseconds: ask only where something is wrong.
    """
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415  (slow to import)
    from importlib.util import find_spec  # noqa: PLC0415  (needed on errors only)

    try:
        other = distribution("mmflow")
    except PackageNotFoundError:
        other = None
    # An editable installation of ours from before it had its name has no such file.
    if other is not None and any(str(file) == "mmflow/__init__.py" for file in other.files or ()):
        return (
            f"mmflow {other.version} ({other.metadata['Summary']}) and {_NAME} overwrite each other's files; "
            f"keep one: pip uninstall -y mmflow {_NAME} && pip install {_NAME}"
        )
    spec = find_spec("mmflow")
    if spec is None or spec.origin is not None:
        return None
    missing = os.path.join(next(iter(spec.submodule_search_locations or ())), "__init__.py")
    return (
        f"{missing} is missing, as it is after another distribution was removed that has one: "
        f"pip install --force-reinstall --no-deps {_NAME}"
    )
