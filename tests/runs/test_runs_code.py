"""A run that is resumed with other code: all that this code computes is recomputed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mmflow as mf
from mmflow.api.jobs import load_job
from mmflow.engines.loop import plan_inputs, plan_sources
from mmflow.scheduler.build import stage_states
from mmflow.scheduler.task_keys import stage_keys
from tests.runs.conftest import Workplace, clusters, files_of

FILES = {
    "helper.py": "K = 1\n",
    "pkg/__init__.py": "",
    "pkg/deep.py": "D = 1\n",
    "late.py": "L = 1\n",
    "job.py": """
import os
import sys
import pyarrow as pa
import helper
import mmflow as mf
from pkg import deep

FOLDER = os.path.dirname(__file__)

def f(batch):
    import late
    assert FOLDER not in sys.path and os.getcwd() != FOLDER
    made = f"{helper.K} {deep.D} {late.L} {os.environ.get('MMFLOW_TEST_V')}"
    return batch.append_column("made", pa.array([made] * batch.num_rows))

@mf.job(environment=["MMFLOW_TEST_V"])
def j(session: mf.Session, *, orders: str, processes: bool = False) -> mf.Dataset:
    read = session.read_csv(orders, schema={"person": "int64", "amount": "int64"})
    schema = {"person": "int64", "amount": "int64", "made": "string"}
    return read.map_batches(f, schema=schema, processes=processes)
""",
}


def _made(output: Path) -> tuple[set[str], int]:
    """Return the results of functions over the rows, and the number of rows."""
    lines = [line for text in files_of(output).values() for line in text.decode().splitlines()[1:]]
    return {line.rpartition(",")[2] for line in lines}, len(lines)


def _edit(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(path.read_text().replace("= 1", "= 2"))

    return edit


#: Engine, whether functions run in processes of their own, what is changed, and what is made then.
CASES = {
    "in processes": ("local", True, _edit("late.py"), "1 1 2 a"),
    "on Ray": ("ray", False, _edit("helper.py"), "2 1 1 a"),
    "on Dask": ("dask", False, _edit("pkg/deep.py"), "1 2 1 a"),
}


@pytest.mark.parametrize(
    "case", ["in processes", *(pytest.param(n, marks=pytest.mark.cluster) for n in ("on Ray", "on Dask"))]
)
def test_code_that_changed_while_a_run_was_dead_makes_all_rows(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    engine, processes, change, expected = CASES[case]
    monkeypatch.setenv("MMFLOW_TEST_V", "a")
    folder, output = workplace.folder / "job", workplace.folder / "out"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    arguments = [
        str(folder / "job.py"), "--orders", str(workplace.orders), "--output", str(output), "--format", "csv",
        "--processes", str(processes).lower(), "--name", "r1", *workplace.flags(),
    ]  # fmt: skip
    if engine == "local":
        _dies_and_goes_on(workplace, arguments, folder, change)
    else:
        with clusters(engine) as address:
            _dies_and_goes_on(
                workplace, [*arguments, "--engine", engine, "--address", address], folder, change
            )
            if engine == "dask":  # whose workers are none of this run's, and have their own environment
                monkeypatch.setenv("MMFLOW_TEST_V", "c")
                refused = workplace.mmflow(
                    "run", *arguments, "--engine", engine, "--address", address, "--name", "r2",
                    "--if-exists", "replace",
                )  # fmt: skip
                assert refused.returncode == 1
                assert "variable MMFLOW_TEST_V, which the job declares, has another value" in refused.stderr
    assert _made(output) == ({expected}, 4000)


def _dies_and_goes_on(
    workplace: Workplace, arguments: list[str], folder: Path, change: Callable[[Path], None]
) -> None:
    died = workplace.mmflow("run", *arguments, place="journal:3")
    assert died.returncode == -signal.SIGKILL, died.stderr
    change(folder)
    went_on = workplace.resume(engine="local", address="")
    assert went_on.returncode == 0, went_on.stderr
    assert not any(e["event"] == "task_restored" for e in workplace.events())


def test_variables_that_a_job_declares_count_for_what_its_functions_compute(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace.folder / "job.py").write_text(FILES["job.py"].replace("from pkg import deep", ""))
    (workplace.folder / "helper.py").write_text(FILES["helper.py"])

    def keys() -> dict[int, str]:
        with mf.Session() as session:
            plan = load_job(str(workplace.folder / "job.py"))(session, orders=str(workplace.orders))._plan()
            runs = stage_states(plan, plan_sources(plan, session.settings, plan_inputs(plan)))
            return stage_keys(runs, plan.functions)

    monkeypatch.setenv("MMFLOW_TEST_V", "a")
    first = keys()
    monkeypatch.setenv("MMFLOW_TEST_OTHER", "a")
    assert keys() == first
    monkeypatch.setenv("MMFLOW_TEST_V", "b")
    second = keys()
    monkeypatch.delenv("MMFLOW_TEST_V")
    assert len({*first.values(), *second.values(), *keys().values()}) == 3 * len(first)
