"""Modules that the simplest queries import, written to tests/cli/startup_modules.txt:

python -m tests.cli.startup_modules > tests/cli/startup_modules.txt

Each line has the formats and the module: those of mmflow and of pyarrow, and other packages by their first name. A query
of a small file takes as long as its imports, so each further line wants a reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["FORMATS", "imported", "listing"]

FORMATS = ("csv", "ndjson", "parquet")
_SCRIPT = """
import atexit, json, sys
before = set(sys.modules)
atexit.register(lambda: print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr))
sys.argv = ["mmflow", "sql", sys.argv[2].format(sys.argv[1])]
from mmflow_engine import main
main()
"""


def imported(
    format: str,
    folder: Path,
    query: str = "SELECT count(*) AS n FROM '{}'",
    text: str | None = None,
    rows: str = "n\n2\n",
) -> set[str]:
    """Return the modules that a query of a small file of a format imports; `text`: of the file, `rows`: what it prints."""
    path = folder / f"two.{format}"
    if format == "parquet":
        pq.write_table(pa.table({"a": [1, 3], "b": [2, 4]}), path)
    else:
        lines = '{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n' if format == "ndjson" else "a,b\n1,2\n3,4\n"
        path.write_text(lines if text is None else text)
    command = [sys.executable, "-c", _SCRIPT, str(path), query]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == rows, done.stderr
    return {name for full in json.loads(done.stderr) if (name := _shown(full))}


def _shown(module: str) -> str:
    first = module.partition(".")[0]
    if first in ("mmflow", "pyarrow"):
        return module
    # What an editable installation, pytest's coverage and the like put in has no module of ours behind it.
    return "" if first in sys.stdlib_module_names or first.startswith("_") else first


def listing(modules: dict[str, set[str]]) -> str:
    """Return the lines of the file."""
    every = sorted(set().union(*modules.values()))
    formats = {name: " ".join(f if name in modules[f] else " " * len(f) for f in modules) for name in every}
    return "".join(f"{formats[name]}  {name}\n" for name in every)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        print(listing({f: imported(f, Path(made)) for f in FORMATS}), end="")
