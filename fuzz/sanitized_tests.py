"""Runs tests against a build of the kernels with sanitizers, in place of the one that is installed.

    python fuzz/sanitized_tests.py FOLDER TESTS...

FOLDER is where `pip install --target` put it; libasan has to be loaded first (LD_PRELOAD). `make sanitize` does
all that.
"""

from __future__ import annotations

import importlib
import sys

import pytest


def main() -> int:
    """The exit code of pytest.

    Raises:
        SystemExit: The kernels are not those of FOLDER.
    """
    folder, *tests = sys.argv[1:]
    # An editable install redirects imports: not here.
    sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
    sys.path.insert(0, folder)
    found = str(importlib.import_module("mmflow._kernels").__file__)
    if folder not in found:
        raise SystemExit(f"the kernels come from {found}, not from {folder}")
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    sys.exit(main())
