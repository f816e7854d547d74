"""Processes that exit while something is open or runs: with their own exit code, and without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Each is followed by `sys.exit(3)`.
_OPEN = {
    "rows that were not all read": """
rows = iter(mf.Session(shard_size=1 << 16, workers=4).read_csv(sys.argv[1]).iter_batches())
first = next(rows)
""",
    "a function that runs on": """
import threading, time
began = threading.Event()

def slow(batch):
    if batch.num_rows:  # it is asked for its columns first
        began.set()
        time.sleep(60)
    return batch

made = mf.read_csv(sys.argv[1]).map_batches(slow)
threading.Thread(target=made.to_arrow, daemon=True).start()
began.wait()
""",
    "arrays and views of them": """
array = mf.create_array(sys.argv[1] + ".npy", "float64", (400, 100))
array[:] = 1.0
view = array[3:7]
""",
}


@pytest.mark.parametrize("what", _OPEN)
def test_an_exit_ends_what_runs(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{n},name {n}\n" for n in range(200_000)))
    code = f"import sys, mmflow as mf\n{_OPEN[what]}\nsys.exit(3)\n"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (3, "")
