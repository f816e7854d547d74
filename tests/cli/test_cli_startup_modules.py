"""The simplest queries import what a list says: a further module is a decision."""

from __future__ import annotations

import difflib
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmflow_engine
from tests.cli.startup_modules import FORMATS, imported, listing


def test_the_simplest_queries_import_what_the_list_says(tmp_path: Path) -> None:
    listed = (Path(__file__).parent / "startup_modules.txt").read_text()
    found = listing({format: imported(format, tmp_path) for format in FORMATS})
    changed = "".join(difflib.unified_diff(listed.splitlines(True), found.splitlines(True), n=0))
    assert not changed, (
        f"python -m tests.cli.startup_modules > tests/cli/startup_modules.txt, if it must be so:\n{changed}"
    )


def test_none_of_them_imports_what_is_slow(tmp_path: Path) -> None:
    slow = {"pandas", "fsspec", "rich", "polars", "pyarrow.compute", "pyarrow.fs", "mmflow.formats.sniffing"}
    found = imported("csv", tmp_path)
    assert not slow & found
    assert {"pyarrow", "datafusion", "substrait", "mmflow.plan.planner"} <= found


def test_a_group_by_of_text_does_not_import_pyarrow_compute(tmp_path: Path) -> None:
    found = imported(
        "csv", tmp_path, "SELECT k, sum(n) AS n FROM '{}' GROUP BY k", "k,n\na,1\na,2\n", "k,n\na,3\n"
    )
    assert "pyarrow.compute" not in found


def test_datafusion_finds_its_version_without_importlib_metadata() -> None:
    script = """
import sys
from mmflow.private_apis.datafusion_version import quicken_import
quicken_import()
import datafusion
assert "importlib.metadata" not in sys.modules, "it was imported for DataFusion"
import importlib.metadata as real
assert datafusion.__version__ == real.version("datafusion"), datafusion.__version__
assert datafusion.importlib_metadata.version("numpy") == real.version("numpy")
assert sys.modules["importlib.metadata"] is real and hasattr(real, "files")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("given", [None, "20"])
def test_threads_of_numpy_sleep_at_once_unless_the_user_says_otherwise(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "OPENBLAS_THREAD_TIMEOUT"
    monkeypatch.setenv(name, given or "")  # is restored, too, where the command sets it
    if given is None:
        del os.environ[name]
    monkeypatch.setattr(sys, "argv", ["mmflow", "--version"])
    monkeypatch.setattr("mmflow.cli.process_exit.exit_process", sys.exit)
    try:
        with pytest.raises(SystemExit):
            mmflow_engine.main()
    finally:
        gc.enable()
    assert os.environ[name] == (given or "4")
