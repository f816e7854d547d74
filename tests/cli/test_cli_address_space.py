"""Under `ulimit -v` and `ulimit -n` there are rows, or one line that says what to do; the process is never aborted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def limited(limit: str, *command: str) -> subprocess.CompletedProcess[str]:
    line = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", sys.executable, *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def grouped(limit: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "s.csv"
    path.write_text("a,b\n1,x\n2,y\n2,z\n")
    query = f"SELECT a, count(*) AS n FROM '{path}' GROUP BY a ORDER BY a"
    return limited(limit, "-m", "mmflow", "sql", "--format", "csv", query)


@pytest.mark.parametrize("limit", ["-v 1000000", "-v 2000000", "-n 32"])
def test_a_query_runs_under_a_limit_of_the_system(limit: str, tmp_path: Path) -> None:
    done = grouped(limit, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a,n\n1,1\n2,2\n", "")


def test_too_little_address_space_is_one_error(tmp_path: Path) -> None:
    done = grouped("-v 500000", tmp_path)
    assert done.returncode == 1
    line, code = done.stderr.splitlines()
    assert code == "code:  MMF-ENG-001"
    assert line.startswith("error: this process may have 488 MiB of address space (ulimit -v)")


def test_the_package_says_so_too() -> None:
    assert limited("-v 500000", "-c", "import mmflow").returncode == 0
    done = limited("-v 500000", "-c", "import mmflow as mf; mf.read_csv")
    assert "EngineError: this process may have 488 MiB" in done.stderr.splitlines()[-1]
