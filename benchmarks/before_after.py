"""Two checkouts of mmflow against each other: each work of `works.py` in turn, interleaved, as a ratio of medians.

    python benchmarks/before_after.py --before ../base/.venv/bin/python [--folder .cache/bench] [--scale 1]
        [--rows 3000000] [--repeats 7] [WORK ...]

Each checkout runs in a process of its own, by its own interpreter, on the same files; both know the works of this
checkout; one that a checkout can't do is left out. The page cache is warm.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from timing import bare_read, table
from works import works

from mmflow import MmflowError

HERE = Path(__file__).parent


class _Checkout:
    """Process of one checkout, which runs a work on request."""

    def __init__(self, python: Path, arguments: list[str]) -> None:
        command = [str(python), __file__, "--serve", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, work: str) -> float | None:
        """Return the seconds of one run; None where this checkout can't do it, as before a feature was built."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{work} failed in {self._process.args!r}")
        seconds: float | None = json.loads(answer)
        return seconds

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _serve(folder: Path, scale: float, rows: int) -> None:
    made = works(folder, scale, rows)
    known = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in known:
            known[name] = made[name]().ways["mmflow"]
        gc.collect()
        start = time.perf_counter()
        try:
            known[name]()
        except (TypeError, MmflowError) as error:
            print(f"{sys.executable}: {error}", file=sys.stderr)
            print("null", flush=True)
        else:
            print(json.dumps(time.perf_counter() - start), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*")
    parser.add_argument("--before", type=Path, help="interpreter of the other checkout's environment")
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.folder, options.scale, options.rows)
        return
    if options.before is None:
        parser.error("--before is needed")
    options.folder.mkdir(parents=True, exist_ok=True)
    arguments = [f"--folder={options.folder}", f"--scale={options.scale}", f"--rows={options.rows}"]
    made = works(options.folder, options.scale, options.rows)
    checkouts = {
        "before": _Checkout(options.before, arguments),
        "after": _Checkout(Path(sys.executable), arguments),
    }
    rows = []
    for name in options.works or made:
        bare_read(made[name]().path)
        print(f"{name} …", file=sys.stderr)
        seconds: dict[str, list[float]] = {which: [] for which in checkouts}
        for number in range(options.repeats + 1):
            # Who goes first changes, and the first round only warms up.
            for which in sorted(checkouts, reverse=bool(number % 2)):
                taken = checkouts[which].run(name)
                if number and taken is not None:
                    seconds[which].append(taken)
        if not all(seconds.values()):
            continue
        medians = {which: statistics.median(values) for which, values in seconds.items()}
        rows.append(
            {
                "work": name,
                **{which: f"{median:.3f} s" for which, median in medians.items()},
                "after / before": f"{medians['after'] / medians['before']:.3f}",
            }
        )
    for checkout in checkouts.values():
        checkout.close()
    print(table(rows))


if __name__ == "__main__":
    main()
