"""The client against a server that speaks Kubernetes' API, and fails as real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmflow.errors import ConfigError, EngineError
from mmflow.submit.kubernetes import client as module
from mmflow.submit.kubernetes.client import Api, ConflictError, MissingError
from tests.submit.api_server import ApiServer, pod

JOBS = ("batch", "v1", "jobs")
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "mmflow"}, "spec": {}}
CODE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c", "namespace": "mmflow"},
    "data": {"a.py": "1"},
}
RAY = {**JOB, "apiVersion": "ray.io/v1", "kind": "RayJob"}
LABELS = {"mmflow.io/run": "r", "mmflow.io/role": "driver"}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as made:
        yield made


@pytest.fixture
def api(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "config")))
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    return Api("mmflow")


def test_objects_are_made_read_owned_and_deleted(server: ApiServer, api: Api) -> None:
    made = api.create(JOB)
    api.create(CODE)
    assert api.get(JOBS, "j")["metadata"]["uid"] == made["metadata"]["uid"]
    api.set_owner(CODE, {**JOB, **made})
    (owner,) = server.find("configmaps")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", made["metadata"]["uid"])
    api.delete(JOBS, "j")
    api.delete(JOBS, "j")
    with pytest.raises(MissingError):
        api.get(JOBS, "j")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(server: ApiServer, api: Api, status: int) -> None:
    server.fail("POST", "/jobs", status, times=2)
    api.create(JOB)
    assert server.count("POST", "/jobs") == 3


def test_the_server_says_how_long_to_wait(server: ApiServer, api: Api) -> None:
    server.fail("GET", "/jobs", 429, headers={"Retry-After": "1"})
    api.create(JOB)
    began = time.monotonic()
    api.get(JOBS, "j")
    assert time.monotonic() - began >= 1


def test_connections_that_break_are_made_again(server: ApiServer, api: Api) -> None:
    api.create(JOB)
    server.fail("GET", "/jobs", 0, times=2)
    assert api.get(JOBS, "j")["kind"] == "Job"


def test_a_cluster_that_is_not_there(server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    server.fail("GET", "/jobs", 0, times=99)
    with pytest.raises(
        EngineError, match=r"can't read jobs j: the Kubernetes API at http://127.* does not answer .*VPN"
    ):
        api.get(JOBS, "j")


def test_no_kubeconfig_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"can't find a Kubernetes cluster: .*; set KUBECONFIG"):
        Api("mmflow")


def test_a_context_that_is_not_there_is_said(api: Api) -> None:
    del api
    with pytest.raises(ConfigError, match="nowhere"):
        Api("mmflow", "nowhere")


@pytest.mark.parametrize(
    ("status", "reason", "message", "said"),
    [
        (401, "Unauthorized", "Unauthorized", "log in to the cluster again"),
        (403, "Forbidden", 'jobs.batch is forbidden: User "u" cannot create', "need the role mmflow-submitter"),
        (403, "Forbidden", "exceeded quota: mmflow, requested: requests.cpu=9", "ResourceQuota raised"),
        (422, "Invalid", "spec.template: Invalid value", r"a value of \[kubernetes\] does not fit"),
        (400, "BadRequest", "strict decoding error", "strict decoding error .HTTP 400"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_to_do(
    server: ApiServer, api: Api, status: int, reason: str, message: str, said: str
) -> None:
    server.fail("POST", "/jobs", status, reason, message)
    with pytest.raises(EngineError, match=f"can't create Job j in namespace mmflow of http.*{said}"):
        api.create(JOB)
    assert server.count("POST", "/jobs") == 1


def test_a_missing_operator_is_said(server: ApiServer, api: Api) -> None:
    server.groups.remove("ray.io")
    with pytest.raises(EngineError, match=r"does not know ray.io: install KubeRay .*kind = \"job\""):
        api.create(RAY)


def test_a_missing_namespace_is_said(server: ApiServer, api: Api) -> None:
    server.namespaces.clear()
    for manifest in (RAY, JOB, CODE):
        with pytest.raises(EngineError, match="make the namespace first: kubectl apply -k k8s/base"):
            api.create(manifest)


def test_a_name_that_is_taken(api: Api) -> None:
    api.create(JOB)
    with pytest.raises(ConflictError, match="already exists"):
        api.create(JOB)


# ---- watches -------------------------------------------------------------------------------------------------


def _event(kind: str, name: str, phase: str, version: int) -> dict[str, Any]:
    found = pod(name, LABELS, phase)
    found["metadata"]["resourceVersion"] = str(version)
    return {"type": kind, "object": found}


def _phases(seen: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(p["metadata"]["name"], p["status"]["phase"]) for p in seen]


def test_a_watch_that_breaks_goes_on_where_it_was(server: ApiServer, api: Api) -> None:
    server.pods["a"] = pod("a", LABELS)
    server.watches = [
        [_event("MODIFIED", "a", "Running", 101), None],
        [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "105"}}}],
        [_event("ADDED", "b", "Pending", 106), _event("DELETED", "a", "Running", 107)],
    ]
    watch = api.watch_pods("mmflow.io/run=r", 20)
    seen = [_phases(next(watch)) for _ in range(4)]
    assert seen == [
        [("a", "Pending")],
        [("a", "Running")],
        [("a", "Running"), ("b", "Pending")],
        [("b", "Pending")],
    ]
    asked = [p for m, p in server.requests if "watch=" in p]
    assert [a.split("resourceVersion=")[1].split("&")[0] for a in asked] == ["100", "101", "105"]
    assert sum("watch=" not in p for _, p in server.requests) == 1


@pytest.mark.parametrize("how", ["event", "status"])
def test_a_watch_whose_place_is_too_old_begins_anew(server: ApiServer, api: Api, how: str) -> None:
    server.pods["a"] = pod("a", LABELS)
    gone = {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
    }
    if how == "event":
        server.watches = [[gone]]
    else:
        server.fail("GET", "watch=", 410, "Expired", "too old resource version")
    watch = api.watch_pods("mmflow.io/run=r", 20)
    assert _phases(next(watch)) == [("a", "Pending")]
    server.pods["a"]["status"]["phase"] = "Succeeded"
    server.version = 200
    assert _phases(next(watch)) == [("a", "Succeeded")]


def test_a_watch_ends_in_time(server: ApiServer, api: Api) -> None:
    del server
    began = time.monotonic()
    assert list(api.watch_pods("mmflow.io/run=r", 1.2)) == [[]]
    assert 1 < time.monotonic() - began < 5


def test_logs_come_as_they_are_printed(server: ApiServer, api: Api) -> None:
    server.pods["a"] = pod("a", LABELS, "Running")
    server.logs["a"] = ["2026-01-01T00:00:00.1Z one"]
    server.open_logs.add("a")
    lines = api.logs("a", "driver", follow=True)
    assert next(lines).endswith("one")
    threading.Timer(0.05, lambda: server.logs["a"].append("2026-01-01T00:00:00.2Z two")).start()
    assert next(lines).endswith("two")
    server.open_logs.clear()
    assert list(lines) == []
