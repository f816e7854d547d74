"""A plugin of pytest: tests run against a build of the kernels with sanitizers, in place of the one that is installed.

    SANITIZED=FOLDER PYTHONPATH=fuzz python -m pytest -p sanitized_kernels TESTS...

FOLDER is where `pip install --target` put it; libasan has to be loaded first (LD_PRELOAD). `make sanitize` does
all that.
"""

from __future__ import annotations

import importlib
import os
import sys

import pytest


def _import_from(folder: str) -> None:
    # An editable install redirects imports: not here.
    sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
    sys.path.insert(0, folder)
    found = str(importlib.import_module("mmflow._kernels").__file__)
    if folder not in found:
        raise pytest.UsageError(f"the kernels come from {found}, not from {folder}")


_import_from(os.environ["SANITIZED"])
