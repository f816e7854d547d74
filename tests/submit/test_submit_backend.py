"""`mmflow submit`, `status`, `logs`, `cancel` and `list` on Kubernetes, through the API alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmflow.cli.main import main
from mmflow.runs.directory import RunDirectory
from mmflow.submit.kubernetes import backend as module
from mmflow.submit.kubernetes import client
from mmflow.submit.kubernetes.log_protocol import event_lines, outcome_lines
from tests.submit.api_server import ApiServer, pod

JOB = '''
import mmflow as mf
from parts.text import TITLE

@mf.job
def small(session: mf.Session, *, source: str, top: int = 3) -> mf.Dataset:
    """Small."""
    return session.read_csv(source)
'''


class Shell:
    """The command line, with a cluster, a job and a folder of runs."""

    def __init__(self, server: ApiServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.folder = folder
        self.runs = folder / "runs"
        self.capsys = capsys
        (folder / "jobs" / "parts").mkdir(parents=True)
        (folder / "jobs" / "small.py").write_text(JOB)
        (folder / "jobs" / "parts" / "text.py").write_text("TITLE = 'π'\n")
        (folder / "jobs" / "parts" / "__init__.py").write_text("")

    def config(self, kind: str = "job", **more: Any) -> Path:
        values = {"image": "registry.example.org/mmflow:1", "kind": kind, **more}
        text = "[kubernetes]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items())
        path = self.folder / "k8s.toml"
        path.write_text(text)
        return path

    def run(self, *words: str, code: int = 0) -> str:
        assert main([*words, "--runs-dir", str(self.runs)]) == code, self.capsys.readouterr().err
        return self.capsys.readouterr().out.strip()

    def fails(self, *words: str, code: int = 1) -> str:
        assert main([*words, "--runs-dir", str(self.runs)]) == code
        return self.capsys.readouterr().err.strip()

    def submit(self, kind: str = "job", *words: str) -> str:
        self.config(kind)
        job = str(self.folder / "jobs" / "small.py")
        return self.run(
            "submit", job, "--source", "/data/x.csv", "--config", str(self.folder / "k8s.toml"), *words
        )

    def state(self, name: str, code: int = 0) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.run("status", name, "--json", code=code))
        return made

    def driver(self, name: str, phase: str = "Running", role: str = "driver", **status: Any) -> str:
        labels = {"mmflow.io/run": f"mmflow-{name}", "mmflow.io/role": role}
        self.server.pods[f"{name}-pod"] = pod(f"{name}-pod", labels, phase, **status)
        return f"{name}-pod"

    def ended(self, name: str, state: str, **summary: Any) -> list[str]:
        """Return the driver's output of a run in a folder that nobody here sees."""
        there = RunDirectory(str(self.folder / "elsewhere"), name)
        there.make()
        there.write(
            "run.json",
            json.dumps({"v": 1, "run": name, "job": "/job/small.py", "name": "small", "engine": "local"}),
        )
        there.write("report.html", f"<html>{name}" + "x" * 50_000)
        there.write(
            "summary.json",
            json.dumps({"v": 1, "state": state, "rows": 7, "seconds": 2.5, "error": None, **summary}),
        )
        return [
            f"2026-01-01T00:00:{i:02}Z {line}"
            for i, line in enumerate(outcome_lines(there, int(state != "done")), 10)
        ]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    monkeypatch.setattr(client, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.syspath_prepend(str(tmp_path / "jobs"))
    with ApiServer() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "config")))
        yield Shell(server, tmp_path, capsys)


def test_a_run_from_its_submission_to_its_report(shell: Shell) -> None:
    name = shell.submit()
    job = shell.server.find("jobs")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:5] == [
        "python",
        "-m",
        "mmflow.submit.kubernetes.pod_main",
        f"--run={name}",
        "--runs-dir=/runs/state",
    ]
    assert command[command.index("--") + 1] == "/job/small.py"
    assert command[-3:] == ["--source", "/data/x.csv", "--engine=local"]
    code = shell.server.find("configmaps")
    assert code["data"]["parts..text.py"] == "TITLE = 'π'\n"
    (owner,) = code["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", job["metadata"]["uid"])

    assert shell.state(name)["state"] == "submitted"
    pod_name = shell.driver(name)
    job["status"] = {"active": 1, "ready": 1}
    assert shell.state(name)["state"] == "running"
    shell.server.logs[pod_name] = printed = []
    for second in (1, 2):
        events = [
            {"t": time.time(), "event": "task_done", "task": 1},
            *(
                {"t": time.time(), "event": "progress", "rows": n, "bytes_total": 9}
                for n in (second, 5 * second)
            ),
        ]
        printed += [f"2026-01-01T00:00:0{second}Z {line}" for line in event_lines(events)]
        for _ in range(2):
            state = shell.state(name)
            assert (state["rows"], state["bytes_total"]) == (5 * second, 9)
    kept = (shell.runs / name / "events/000000.jsonl").read_text()
    assert (kept.count("progress"), kept.count("task_done")) == (2, 0), "each is brought once"
    shell.server.logs[pod_name] = ["2026-01-01T00:00:00Z reading", *shell.ended(name, "done")]
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    state = shell.state(name)
    assert (state["state"], state["rows"], state["seconds"]) == ("done", 7, 2.5)
    assert (shell.runs / name / "report.html").read_text().startswith(f"<html>{name}")
    asked = len(shell.server.requests)
    assert json.loads(shell.run("list", "--json"))[0]["state"] == "done"
    assert len(shell.server.requests) == asked, "what is known is not asked for again"
    assert shell.run("logs", name) == "reading"


@pytest.mark.parametrize(("kind", "plural", "running"), [
    ("ray", "rayjobs", {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}),
    ("dask", "daskjobs", {"jobStatus": "Running"}),
])  # fmt: skip
def test_operators_tell_the_state(shell: Shell, kind: str, plural: str, running: dict[str, str]) -> None:
    name = shell.submit(kind)
    found = shell.server.find(plural)
    state = shell.state(name)
    assert state["state"] == "submitted"
    assert "no operator has handled it yet" in state["waits"]
    found["status"] = running
    assert shell.state(name)["state"] == "running"
    role = "submitter" if kind == "ray" else "driver"
    shell.server.logs[shell.driver(name, role=role)] = shell.ended(
        name, "failed", error={"class": "SourceError", "message": "no x"}
    )
    found["status"] = {"jobDeploymentStatus": "Failed", "jobStatus": "Failed" if kind == "dask" else "FAILED"}
    state = shell.state(name, code=1)
    assert (state["state"], state["error"]) == ("failed", {"class": "SourceError", "message": "no x"})


WAITING = [
    ("ImagePullBackOff", "pull_secrets"),
    ("CreateContainerConfigError", "a Secret or ConfigMap is missing"),
    ("CrashLoopBackOff", "look at its logs"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "said"), WAITING)
def test_why_a_container_waits(shell: Shell, reason: str, said: str) -> None:
    name = shell.submit()
    waiting = {"name": "driver", "state": {"waiting": {"reason": reason, "message": "because"}}}
    shell.driver(name, "Pending", containerStatuses=[waiting])
    assert f"{reason}: because" in shell.state(name)["waits"]
    assert said in shell.state(name)["waits"]


def test_why_a_pod_is_not_scheduled(shell: Shell) -> None:
    name = shell.submit()
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: 3 Insufficient memory",
    }
    shell.driver(name, "Pending", conditions=[condition])
    assert "fits no node: 0/3 nodes: 3 Insufficient memory; ask for less" in shell.state(name)["waits"]
    assert "waits      pod" in shell.run("status", name)


def test_a_quota_that_is_used_up(shell: Shell) -> None:
    name = shell.submit()
    shell.server.events = [
        {"reason": "FailedCreate", "message": 'pods "x" is forbidden: exceeded quota: mmflow', "involvedObject": {"name": f"mmflow-{name}"}},
        {"reason": "FailedCreate", "message": "somebody else's", "involvedObject": {"name": "other"}},
    ]  # fmt: skip
    assert "exceeded quota: mmflow; ask for less" in shell.state(name)["waits"]


def test_no_memory_left(shell: Shell) -> None:
    name = shell.submit()
    gone = {"name": "driver", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    shell.driver(name, "Failed", containerStatuses=[gone])
    shell.server.find("jobs")["status"] = {
        "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
    }
    state = shell.state(name, code=1)
    assert state["state"] == "died"
    assert (
        "ran out of memory and was killed: give it more (memory in [kubernetes])" in state["error"]["message"]
    )


def test_the_pods_status_tells_the_end_where_logs_are_gone(shell: Shell) -> None:
    name = shell.submit()
    message = json.dumps({"v": 1, "run": name, "code": 0, "state": "done", "rows": 9})
    shell.driver(
        name,
        "Succeeded",
        containerStatuses=[{"name": "driver", "state": {"terminated": {"message": message}}}],
    )
    shell.server.find("jobs")["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert (shell.state(name)["state"], shell.state(name)["rows"]) == ("done", 9)


def test_a_missing_operator_leaves_nothing_behind(shell: Shell) -> None:
    shell.server.groups.remove("ray.io")
    shell.config("ray")
    job = str(shell.folder / "jobs" / "small.py")
    said = shell.fails("submit", job, "--source", "x", "--config", str(shell.folder / "k8s.toml"))
    assert "install KubeRay" in said
    assert shell.server.objects == {}


def test_an_answer_that_was_lost_is_not_a_second_run(shell: Shell) -> None:
    shell.server.fail("POST", "/jobs", 0, after=True)
    name = shell.submit()
    assert shell.server.count("POST", "/jobs") == 2
    assert shell.state(name)["state"] == "submitted"


def test_a_run_of_that_name_is_there(shell: Shell) -> None:
    command = ["submit", str(shell.folder / "jobs" / "small.py"), "--source", "x", "--name", "nightly"]
    command += ["--config", str(shell.config())]
    assert shell.run(*command) == shell.run(*command) == "nightly"
    assert shell.server.count("POST", "/jobs") == 1
    assert "run nightly is submitted; wait for it with --join" in shell.fails(*command, "--no-join")
    shell.server.find("jobs")["status"] = {"ready": 1}
    shell.run("cancel", "nightly")
    shell.server.objects.clear()
    assert shell.run(*command) == "nightly"  # it was cancelled: it goes on
    words = shell.server.find("jobs")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--resume" in words[: words.index("--")]


def test_a_run_of_that_name_was_submitted_elsewhere(shell: Shell) -> None:
    shell.submit("job", "--name", "nightly")
    command = ["submit", str(shell.folder / "jobs" / "small.py"), "--source", "x", "--name", "nightly"]
    shell.runs = shell.folder / "other"
    said = shell.fails(*command, "--config", str(shell.folder / "k8s.toml"), code=2)
    assert "a run of that name exists: give another --name" in said


def test_cancel_and_go_on(shell: Shell) -> None:
    name = shell.submit()
    shell.server.find("jobs")["status"] = {"ready": 1}
    shell.run("cancel", name)
    assert not [k for k in shell.server.objects if k[0] == "jobs"]
    assert shell.state(name, code=1)["state"] == "cancelled"
    # Whatever else was made for it is collected by Kubernetes, which this server does not do.
    shell.server.objects.clear()
    assert shell.run("submit", "--resume", name, "--config", str(shell.folder / "k8s.toml")) == name
    command = shell.server.find("jobs")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--resume" in command[: command.index("--")]
    assert shell.state(name)["state"] == "submitted"


def test_a_run_that_is_gone(shell: Shell) -> None:
    name = shell.submit()
    shell.server.objects.clear()
    state = shell.state(name, code=1)
    assert (state["state"], "it was deleted, or has expired" in state["error"]["message"]) == ("died", True)


def test_one_cluster_that_is_not_there_does_not_hide_other_runs(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ATTEMPTS", 1)
    shell.submit()
    shell.server.fail("GET", "/jobs", 0, times=99)
    (state,) = json.loads(shell.run("list", "--json"))
    assert state["state"] == "unknown"
    assert "does not answer" in state["error"]["message"]


def test_logs_are_followed_over_broken_connections_and_new_pods(shell: Shell) -> None:
    name = shell.submit()
    job = shell.server.find("jobs")
    job["status"] = {"ready": 1}
    pod_name = shell.driver(name)
    shell.server.open_logs.add(pod_name)
    shell.server.logs[pod_name] = [
        "2026-01-01T00:00:01.5Z one",
        "2026-01-01T00:00:02.5Z two",
        "2026-01-01T00:00:03.5Z three",
    ]
    shell.server.cut_logs = [2]

    def end() -> None:
        shell.server.logs[pod_name].append("2026-01-01T00:00:04.5Z four")
        shell.server.pods[pod_name]["status"]["phase"] = "Succeeded"
        job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        shell.server.open_logs.clear()

    threading.Timer(0.5, end).start()
    assert shell.run("logs", name, "--follow").split() == ["one", "two", "three", "four"]


def test_logs_that_are_not_there_say_why(shell: Shell) -> None:
    name = shell.submit()
    condition = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}
    shell.server.pods["other"] = pod(
        "other", {"mmflow.io/run": f"mmflow-{name}", "mmflow.io/role": "head"}, conditions=[condition]
    )
    assert "fits no node: 0/1 nodes" in shell.fails("logs", name)


def test_a_folder_on_an_object_store_is_the_same_there_and_here(shell: Shell) -> None:
    config = shell.config()
    job = str(shell.folder / "jobs" / "small.py")
    assert main(["submit", job, "--source", "x", "--config", str(config), "--runs-dir", "memory://runs"]) == 0
    name = shell.capsys.readouterr().out.strip()
    command = shell.server.find("jobs")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--runs-dir=memory://runs" in command
    shell.server.find("jobs")["status"] = {"ready": 1}
    assert main(["status", name, "--json", "--runs-dir", "memory://runs"]) == 0
    assert json.loads(shell.capsys.readouterr().out)["state"] == "running"
