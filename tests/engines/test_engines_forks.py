"""Forked children leave runs, locks and folders to their parent, and get an error instead of a wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mmflow.blocks.run_folder import RunFolder, sweep
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import is_driver_alive, lock_run
from mmflow.sinks.commit.lock import lock_destination


def _run(code: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    path.write_text("n\n" + "\n".join(map(str, range(200_000))) + "\n")
    return path


def test_a_query_in_a_fork_of_a_process_that_has_run_some_is_an_error_at_once(numbers: Path) -> None:
    code = """
        import os, sys, mmflow as mf
        assert mf.read_csv(sys.argv[1]).count() == 200_000
        if os.fork() == 0:
            for work in (lambda: mf.read_csv(sys.argv[1]).count(), lambda: mf.sql("SELECT 1").to_arrow()):
                try:
                    work()
                except mf.EngineError as error:
                    print(error)
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        assert mf.read_csv(sys.argv[1]).count() == 200_000
    """
    done = _run(code, numbers)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("start processes with spawn") == 2


def test_a_fork_pool_of_a_process_that_has_run_queries_says_spawn(numbers: Path) -> None:
    code = """
        import multiprocessing, sys, mmflow as mf
        def count(path):
            return mf.read_csv(path).count()
        if __name__ == "__main__":
            count(sys.argv[1])
            with multiprocessing.get_context("fork").Pool(1) as pool:
                try:
                    pool.apply(count, (sys.argv[1],))
                except mf.EngineError as error:
                    print(error)
    """
    done = _run(code, numbers)
    assert "start processes with spawn" in done.stdout, done.stderr


def test_a_fork_before_the_first_query_runs_queries(numbers: Path) -> None:
    code = """
        import os, sys, mmflow as mf
        if os.fork() == 0:
            print(mf.read_csv(sys.argv[1]).count(), flush=True)
            os._exit(0)
        os.wait()
        print(mf.read_csv(sys.argv[1]).count())
    """
    assert _run(code, numbers).stdout.split() == ["200000", "200000"]


def test_a_child_that_ends_in_the_middle_of_its_parents_run_leaves_it_whole(
    numbers: Path, tmp_path: Path
) -> None:
    code = """
        import os, sys, mmflow as mf
        # Memory is little, so that sorted rows lie in the run's folder.
        with mf.Session(memory="32MiB", workers=2, spill_dir=sys.argv[2]) as session:
            rows = session.read_csv(sys.argv[1]).sort("n", descending=True).iter_batches()
            first = next(rows)
            if os.fork() == 0:
                try:
                    next(rows)
                except mf.EngineError as error:
                    print(error, flush=True)
                del rows, session
                sys.exit()
            os.wait()
            print(first.num_rows + sum(batch.num_rows for batch in rows))
    """
    done = _run(code, numbers, tmp_path / "spill")
    assert done.stderr == ""
    said, total = done.stdout.splitlines()
    assert "belongs to the process that forked this one" in said
    assert total == "200000"


def _forked_and_killed(what: str, *arguments: object) -> int:
    """Have a process take something, fork a child that lives on, and die; return the child's process id."""
    code = f"""
        import os, signal, sys
        from pathlib import Path
        {what}
        child = os.fork()
        if child == 0:
            os.close(1), os.close(2)
            signal.pause()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    return int(_run(code, *arguments).stdout)


def test_locks_and_folders_end_with_their_owner_though_a_child_of_it_lives_on(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "runs"), "r1")
    run.make()
    lock, spill = tmp_path / "lock", tmp_path / "spill"
    child = _forked_and_killed(
        "from mmflow.sinks.commit.lock import lock_destination; from mmflow.blocks.run_folder import RunFolder; "
        "from mmflow.runs.lock import lock_run; from mmflow.runs.directory import RunDirectory; "
        "held = [lock_destination(Path(sys.argv[1]), destination='d', run='r'), RunFolder(sys.argv[2], 'r'), "
        "lock_run(RunDirectory(sys.argv[3], 'r1'))]; held[1].make()",
        lock, spill, tmp_path / "runs",
    )  # fmt: skip
    try:
        lock_destination(lock, destination="d", run="mine").release()
        assert is_driver_alive(run) is False
        held = lock_run(run)
        assert held is not None
        held.release()
        mine = RunFolder(spill, "mine")
        mine.make()
        mine.close()
        assert sweep(spill) != []
    finally:
        os.kill(child, signal.SIGKILL)
