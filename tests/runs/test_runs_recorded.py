"""Recorded runs in one process: on a remote folder, after errors, with functions that change."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.config import Settings
from mmflow.errors import CancelledError
from mmflow.plan.fingerprint import digest
from mmflow.runs.directory import RunDirectory
from mmflow.runs.journal import Replay, decode_line, encode_line
from mmflow.runs.recorded_run import SUBMITTED, RecordedRun
from mmflow.runs.recorder import CANCEL
from mmflow.submit.status import all_runs, open_run, run_state


@pytest.fixture(params=["local", "remote"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    runs = tmp_path / "runs" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    base = {
        "shard_size": "8KiB",
        "workers": 2,
        "memory": "64MiB",
        "partitions": 2,
        "spill_dir": str(tmp_path),
    }
    return Settings.load({**base, "runs_dir": str(runs)})


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(20_000)))
    return path


def _fails_at(limit: int) -> object:
    def check(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.num_rows and batch.column("n")[0].as_py() >= limit:
            raise ValueError("too large")
        return batch

    return check


def _sums(session: mf.Session, numbers: Path, limit: int) -> mf.Dataset:
    read = session.read_csv(str(numbers), schema={"n": "int64"})
    counted = session.sql("SELECT n % 7 AS n, count(*) AS c FROM t GROUP BY 1", t=read)
    return counted.map_batches(_fails_at(limit), schema=counted.schema).sort("n")  # type: ignore[arg-type]  # any function


def test_a_run_that_failed_goes_on(settings: Settings, numbers: Path) -> None:
    with (
        pytest.raises(mf.UserFunctionError, match="too large"),
        RecordedRun.begin("r", settings, {"job": "test", "parameters": {}}) as run,
    ):
        _sums(mf.Session.recorded(settings, run.recorder), numbers, 0).to_arrow()
    directory = RunDirectory(settings.runs_dir, "r")
    failed = run_state(directory)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["class"] == "UserFunctionError"
    assert [s.run for s in all_runs(settings.runs_dir)] == ["r"]
    assert open_run(settings.runs_dir, "r").url == directory.url
    with RecordedRun.resume("r", settings) as again:
        session = mf.Session.recorded(settings, again.recorder)
        rows = _sums(session, numbers, 7).to_arrow()  # the function has changed, what lies before it has not
        assert session.last_run is not None
        assert session.last_run.restored >= 14  # all shards
        again.done(session.last_run.as_dict())
    assert rows.to_pydict()["c"] == [len(range(r, 20_000, 7)) for r in range(7)]
    assert run_state(directory).state == "done"
    assert directory.names("blocks") == []
    assert "<html" in (directory.read("report.html") or "")


@pytest.mark.parametrize("submitted", [False, True])
def test_a_run_ends_by_nothing_that_a_power_cut_left_of_an_earlier_one(
    settings: Settings, numbers: Path, *, submitted: bool
) -> None:
    if "://" in settings.runs_dir:
        pytest.skip("object stores lose no objects")
    with RecordedRun.begin("r", settings, {"job": "test"}) as run:
        _sums(mf.Session.recorded(settings, run.recorder), numbers, 7).to_arrow()
    directory = RunDirectory(settings.runs_dir, "r")
    directory.write(CANCEL, "now\n")
    directory.remove("run.json")
    if submitted:
        directory.write(SUBMITTED, "{}\n")
    numbers.write_text(numbers.read_text() + "0\n")  # which a run that is resumed refuses
    with (
        pytest.raises(CancelledError) if submitted else contextlib.nullcontext(),
        RecordedRun.begin("r", settings, {"job": "test"}) as run,
    ):
        _sums(mf.Session.recorded(settings, run.recorder), numbers, 7).to_arrow()
        run.done({})


def test_another_driver_is_refused(settings: Settings, numbers: Path) -> None:
    if "://" in settings.runs_dir:
        pytest.skip("object stores have no locks: drivers exclude each other at their start")
    with RecordedRun.begin("r", settings, {"job": "test"}):
        with pytest.raises(mf.EngineError, match="is running"):
            RecordedRun.resume("r", settings)
        assert run_state(RunDirectory(settings.runs_dir, "r")).state == "running"


def test_a_journal_says_what_it_says() -> None:
    line = encode_line({"kind": "consumed", "stage": "s"})
    assert decode_line(line) == {"v": 3, "kind": "consumed", "stage": "s"}
    for at in range(len(line)):
        assert decode_line(line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :]) is None
    assert decode_line(line[:-1]) is None
    assert decode_line("") is None
    replay = Replay.of([line, line[:-3], "garbage", ""])
    assert replay.consumed == {"s"}
    assert replay.damaged == 3


def _adder(amount: int) -> object:
    return lambda batch: (batch, amount)


def test_digests_are_of_content() -> None:
    assert digest(1, "a") == digest(1, "a")
    different = [
        digest(*values)
        for values in (
            (1,), ("1",), (1.0,), (True,), (b"1",), ((1,),), ({"a": 1},), ({"a": "1"},), (None,), ("ab", "c"),
            ("a", "bc"), (["ab", "c"],), (pa.int64(),), (pa.schema([("a", "int64")]),), (pa.table({"a": [1]}),),
            (pa.table({"a": [2]}),), (_adder(1),), (_adder(2),), (_adder,), (len,), (frozenset({1, 2}),),
        )
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(_adder(3)) == digest(_adder(3))
    assert digest({"x", "y", "z"}) == digest({"z", "y", "x"})


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("k,v,t\n1,2,x\n")
    script = Path(__file__).parent / "print_keys.py"
    printed = {
        subprocess.run(
            [sys.executable, str(script), str(path)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True, capture_output=True, text=True,
        ).stdout
        for seed in range(4)
    }  # fmt: skip
    (keys,) = printed
    assert len(keys.split()) > 25
