"""A program leaves no files but its output, however its queries end, and the next one sweeps after one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, signal, sys, threading, warnings
import mmflow as mf

def same(batch):
    return batch

def broken(batch):
    raise ValueError("broken")

def killing(batch):
    os.kill({killed} and os.getppid() if {processes} else os.getpid(), signal.SIGKILL)
    return batch

def main():
    warnings.simplefilter("ignore")
    session = mf.Session(memory="64MiB", workers=2, shard_size="16KiB")
    data = session.read_csv("in.csv")
    if {killed}:
        data.persist()  # its files lie in the folder of a run
        data.sort("a").map_batches(killing, schema=data.schema, processes={processes}).to_arrow()
    data.sort("a").map_batches(same, schema=data.schema, processes={processes}).to_arrow()
    data.write_csv("out.csv", if_exists="replace")
    next(iter(data.iter_batches()))  # and the rest is not asked for
    data.head(3).to_arrow()
    lists = session.sql("SELECT [a, b] AS l FROM t", t=data)
    lists.select(x=mf.col("l").list.eval(mf.element() * 2)).head(3).to_arrow()
    for wrong in (
        lambda: data.map_batches(broken, schema=data.schema, processes={processes}).write_csv("never.csv"),
        lambda: session.read_csv("in.csv", schema="a:date,b:int64").to_arrow(),
    ):
        try:
            wrong()
        except mf.MmflowError:
            continue
        raise AssertionError
    interrupted = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupted.start()
    try:
        while True:
            data.sort("b").map_batches(same, schema=data.schema, processes={processes}).to_arrow()
    except KeyboardInterrupt:
        pass

if __name__ == "__main__":
    main()
"""


class Place:
    """Folders of a user, and programs that run there."""

    def __init__(self, folder: Path, *, processes: bool) -> None:
        self.folder, self._processes = folder, processes
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir()
        rows = "".join(f"{n * 7919 % 20011},{n % 97}\n" for n in range(20_000))
        (folder / "work" / "in.csv").write_text(f"a,b\n{rows}")
        self.pids: list[int] = []

    def run(self, *, killed: bool) -> tuple[int, str]:
        names = ("HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        environment = {k: v for k, v in os.environ.items() if k not in names and not k.startswith("MMFLOW_")}
        environment |= {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        script = self.folder / "program.py"
        script.write_text(_PROGRAM.format(killed=killed, processes=self._processes))
        program = subprocess.Popen(
            [sys.executable, str(script)], env=environment, cwd=self.folder / "work", stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        self.pids.append(program.pid)
        said = program.communicate(timeout=60)[1]
        return program.returncode, said

    def files(self) -> set[str]:
        """Return all files and folders, and those in /dev/shm that carry the id of one of the programs."""
        found = {str(p.relative_to(self.folder)) for p in self.folder.rglob("*")}
        shared = Path("/dev/shm")
        return found | {
            p.name for p in shared.glob("mmflow-*") if any(f"-{pid}" in p.name for pid in self.pids)
        }


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_program_leaves_its_output_alone(tmp_path: Path, processes: bool) -> None:
    place = Place(tmp_path, processes=processes)
    before = place.files() | {"program.py"}
    code, said = place.run(killed=True)
    assert code == -signal.SIGKILL, said
    left = place.files() - before
    assert left
    assert all(name.startswith("tmp/") for name in left)
    code, said = place.run(killed=False)
    assert code == 0, said
    assert place.files() - before == {"work/out.csv"}
