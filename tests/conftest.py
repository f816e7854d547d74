"""What all tests share: Hypothesis profiles, and TPC-H tables made once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts the tests in the background has them ignore Ctrl-C; tests of Ctrl-C need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "nightly", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ROOT = Path(__file__).parents[1]


def _tpch(form: str) -> Path:
    """All eight tables at scale 0.1, cached between runs."""
    folder = ROOT / ".cache" / "tpch-0.1" / form
    if not (folder / "supplier.done").exists():
        tool = Path(sys.executable).with_name("tpchgen-cli")
        subprocess.run([str(tool), form, "-s", "0.1", f"--output-dir={folder}"], check=True)
        (folder / "supplier.done").touch()
    return folder


@pytest.fixture(scope="session")
def tpch_csv() -> Path:
    return _tpch("csv")


@pytest.fixture(scope="session")
def tpch_parquet() -> Path:
    return _tpch("parquet")
