"""Program of a driver's pod: it begins, resumes, ends in time, and reports its outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmflow.runs.directory import RunDirectory
from mmflow.submit.kubernetes.log_protocol import (
    FILES,
    LINE_PREFIX,
    event_lines,
    outcome_lines,
    parse_events,
    parse_outcome,
)

JOB = """
import time
import mmflow as mf
import pyarrow as pa

def slow(batch):
    time.sleep({seconds})
    {more}
    return batch

@mf.job
def slowly(session: mf.Session, *, source: str) -> mf.Dataset:
    return session.read_csv(source, schema={{"a": "int64"}}).map_batches(slow, schema={{"a": "int64"}})
"""


class Driver:
    """A driver, as its container would start it."""

    def __init__(self, folder: Path, seconds: float = 0, more: str = "pass") -> None:
        self.folder = folder
        (folder / "j.py").write_text(JOB.format(seconds=seconds, more=more))
        (folder / "a.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(20_000)))

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "mmflow.submit.kubernetes.pod_main", "--run=r", f"--runs-dir={self.folder / 'runs'}", *more, "--",
            str(self.folder / "j.py"), f"--source={self.folder / 'a.csv'}", f"--output={self.folder / 'out'}", "--workers=1",
            "--shard-size=8KiB",
        ]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *more: str) -> tuple[int, str]:
        process = self.start(*more)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    def journal(self) -> int:
        path = self.folder / "runs/r/journal/000000.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_run_and_its_end(tmp_path: Path) -> None:
    code, text = Driver(tmp_path).run()
    assert code == 0, text
    ending = parse_outcome(text.splitlines())
    assert ending is not None
    assert (ending.code, ending.summary["state"], ending.summary["rows"]) == (0, "done", 20_000)
    for name in FILES:
        assert ending.files[name] == (tmp_path / "runs/r" / name).read_bytes()
    # The pod was lost at the very end, and is started again: there is nothing to do.
    code, again = Driver(tmp_path).run()
    assert (code, again.startswith(LINE_PREFIX)) == (0, True)


def test_sigterm_ends_it_as_ctrl_c_does_and_the_next_pod_goes_on(tmp_path: Path) -> None:
    driver = Driver(tmp_path, seconds=0.05)
    process = driver.start()
    deadline = time.monotonic() + 60
    while driver.journal() < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 130, text
    ending = parse_outcome(text.splitlines())
    assert ending is not None
    assert ending.summary["state"] == "cancelled"
    kept = driver.journal()
    code, text = driver.run()
    assert code == 0, text
    events = "".join(p.read_text() for p in sorted((tmp_path / "runs/r/events").glob("*.jsonl")))
    assert events.count('"task_restored"') >= min(kept, 2)


def test_it_tells_how_it_goes(tmp_path: Path) -> None:
    lines = []
    with Driver(tmp_path, seconds=0.5).start() as process:  # some twelve tasks, in turn
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if list(parse_events([line], 0)):
                process.send_signal(signal.SIGTERM)
    events = [json.loads(e) for e in parse_events(lines, 0)]
    kinds = [e["event"] for e in events]
    assert kinds.count("progress") == 1
    assert "plan" in kinds
    assert "task_done" not in kinds
    assert not list(parse_events(lines, events[-1]["t"]))


def test_a_job_that_failed_is_not_run_again_unless_asked(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    driver = Driver(tmp_path, more=f"open({str(mended)!r})")
    code, text = driver.run()
    assert code == 1
    ending = parse_outcome(text.splitlines())
    assert ending is not None
    assert "No such file" in ending.summary["error"]["message"]
    mended.touch()
    assert driver.run()[0] == 1
    assert driver.run("--resume")[0] == 0


def test_a_child_that_was_killed_is_told(tmp_path: Path) -> None:
    code, text = Driver(tmp_path, more="import os; os.kill(os.getpid(), 9)").run()
    assert code == 128 + signal.SIGKILL
    assert "ran out of memory" in text
    ending = parse_outcome(text.splitlines())
    assert ending is not None
    assert ending.code == 137


def test_lines_that_are_cut_or_strange_are_left_out(tmp_path: Path) -> None:
    directory = RunDirectory(str(tmp_path), "r")
    directory.make()
    directory.write_bytes("report.html", os.urandom(100_000))
    directory.write("summary.json", json.dumps({"state": "done", "rows": 1}))
    lines = list(outcome_lines(directory, 0))
    assert len(lines) > 5
    for n in range(len(lines)):
        made = parse_outcome(lines[n:])
        assert made is not None
        assert ("report.html" in made.files) == (n == 0)
    assert parse_outcome(lines[:-1]) is None
    strange = [
        f"{LINE_PREFIX}file report.html x/y z",
        f"{LINE_PREFIX}file a b",
        f"{LINE_PREFIX}end nothing",
        f"{LINE_PREFIX}file ../../x 1/1 eJw=",
    ]
    assert parse_outcome(strange) is None
    doubled = parse_outcome([*lines, *strange, *lines])
    assert doubled is not None
    assert set(doubled.files) == {"report.html", "summary.json"}


def test_events_that_are_strange_or_long_are_left_out() -> None:
    events = [{"t": 1, "event": "plan", "x": "y" * 20_000}, {"t": 2, "event": "warning", "message": "π\n"}]
    lines = list(event_lines(events))
    assert [json.loads(e) for e in parse_events(lines, 0)] == events[1:]
    strange = [f"{LINE_PREFIX}event {text}" for text in ("", "{", "[1]", "{}", '{"t": "x"}', '{"t": null}')]
    assert list(parse_events([*strange, "#mmflow-", *lines], 1.5)) == list(parse_events(lines, 0))


def test_a_message_fits_into_a_pods_status(tmp_path: Path) -> None:
    from mmflow.submit.kubernetes.log_protocol import outcome_json

    directory = RunDirectory(str(tmp_path), "r")
    directory.make()
    directory.write(
        "summary.json", json.dumps({"state": "failed", "error": {"class": "X", "message": "m" * 99_999}})
    )
    assert len(outcome_json(directory, 1)) < 4096


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_told_have_plain_names(name: str) -> None:
    assert "/" not in name
