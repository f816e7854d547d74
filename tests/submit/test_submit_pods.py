"""Pods without Kubernetes: rendered manifests run as processes with their commands, users, volumes and limits."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from mmflow.submit.kubernetes.log_protocol import parse_outcome
from mmflow.submit.kubernetes.pods import USER
from mmflow.submit.kubernetes.render import cluster_manifests, render
from mmflow.submit.kubernetes.settings import PodSettings
from mmflow.submit.kubernetes.workload import Workload
from tests.cluster.leftovers import adopted_orphans
from tests.cluster.namespaces import Host, Network, why_not
from tests.submit.pods_here import Kubelet, Pod, ray_start

REASON = why_not()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

ROWS = 300_000
JOB = '''
import mmflow as mf
from parts.schema import SCHEMA

@mf.job
def totals(session: mf.Session, *, source: str, title: str = "") -> mf.Dataset:
    """Totals of each key."""
    t = session.read_csv(source, schema=SCHEMA)
    return session.sql("SELECT k, count(*) AS n, sum(v) AS v FROM t GROUP BY k ORDER BY k", t=t)
'''

CODE = {"totals.py": JOB, "parts/schema.py": "SCHEMA = {'k': 'int64', 'v': 'int64'}\n"}


class Place:
    """Claims, secrets, and a kubelet."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.folder = folder
        claims = {"mmflow-data": folder / "data", "mmflow-runs": folder / "runs"}
        for path in claims.values():
            path.mkdir()
            path.chmod(0o777)
        keys = range(ROWS)
        (folder / "data" / "t.csv").write_text("k,v\n" + "".join(f"{i % 7},{i}\n" for i in keys))
        self.secrets = {
            "mmflow-ray-token": {"auth_token": secrets.token_hex(32)},
            "mmflow-ray-ca": _authority(folder),
            "mmflow-dask-tls": _certificates(folder),
        }
        code = {name.replace("/", ".."): text for name, text in CODE.items()}
        self.kubelet = Kubelet(
            network, folder, claims=claims, secrets=self.secrets, config_maps={"mmflow-totals": code}
        )

    def expected(self) -> list[dict[str, int]]:
        return [{"k": k, "n": len(range(k, ROWS, 7)), "v": sum(range(k, ROWS, 7))} for k in range(7)]

    def result(self) -> list[dict[str, int]]:
        rows: list[dict[str, int]] = pq.read_table(self.folder / "runs" / "results" / "out").to_pylist()
        return rows


def _authority(folder: Path) -> dict[str, str]:
    """Make the authority of Ray's certificates as docs/kubernetes.md does."""
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mmflow-ray-ca -keyout ray.key -out ray.crt"
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return {"tls.crt": (folder / "ray.crt").read_text(), "tls.key": (folder / "ray.key").read_text()}


def _certificates(folder: Path) -> dict[str, str]:
    """Make certificates as docs/kubernetes.md does."""
    made = folder / "certificates"
    made.mkdir()
    for command in (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mmflow-ca -keyout ca.key -out ca.crt",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mmflow -keyout tls.key -out tls.csr",
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out tls.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=made, check=True, capture_output=True)
    return {name: (made / name).read_text() for name in ("ca.crt", "tls.crt", "tls.key")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Place, Network]]:
    del tmp_path  # pytest's is its user's alone, and sockets below it have names that are too long
    with tempfile.TemporaryDirectory(prefix="mk", dir="/var/tmp") as folder, adopted_orphans():
        with Network() as network:
            made = Place(network, Path(folder))
            yield made, network
        made.kubelet.bury()


def _settings(kind: str, **more: Any) -> PodSettings:
    table: dict[str, Any] = {
        **more, "image": "mmflow", "kind": kind, "workers": 2, "cpu": 1, "memory": "1536MiB", "shm": "256MiB", "driver_memory": "2GiB",
    }  # fmt: skip
    return PodSettings.load(table, "test")


def _work(settings: PodSettings) -> Workload:
    return Workload(
        run="totals",
        name="mmflow-totals",
        job="totals.py",
        arguments=(
            "--source=/data/t.csv",
            "--output=/runs/results/out",
            "--shard-size=64KiB",
            "--title=$HOME \"x\" 'y'",
        ),
        runs_dir=settings.runs_dir,
        code={name: text.encode() for name, text in CODE.items()},
    )


def _healthy(host: Host, port: int, path: str) -> bool:
    """Return whether a kubelet's httpGet succeeds: from another network namespace, at the pod's address."""
    script = f"import urllib.request as u; print(u.urlopen('http://{host.address}:{port}{path}', timeout=3).status)"
    try:
        return host.run(sys.executable, "-c", script).strip() == "200"
    except AssertionError:
        return False


def _ended(pod: Pod) -> dict[str, Any]:
    ending = parse_outcome(pod.text().splitlines())
    assert ending is not None, pod.text()
    assert b"<html" in ending.files["report.html"][:200].lower()
    return ending.summary


def test_a_job_runs_in_one_pod(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("job")
    spec = render(settings, _work(settings))[-1]["spec"]["template"]["spec"]
    pod = here.kubelet.run("driver", spec, here.kubelet.host(spec))
    assert pod.wait(120) == 0, pod.text()
    assert here.result() == here.expected()
    assert _ended(pod)["state"] == "done"
    facts = json.loads((here.folder / "runs/state/totals/run.json").read_text())
    assert facts["parameters"]["title"] == "$HOME \"x\" 'y'"
    assert (here.folder / "runs/state/totals").stat().st_uid == USER


def test_a_job_that_was_killed_goes_on_in_the_next_pod(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("job")
    spec = render(settings, _work(settings))[-1]["spec"]["template"]["spec"]
    first = here.kubelet.run("first", spec, here.kubelet.host(spec))
    journal = here.folder / "runs/state/totals/journal/000000.jsonl"
    here.kubelet.until(lambda: journal.exists() and journal.stat().st_size > 0, "a task to end", 60)
    first.host.kill()
    second = here.kubelet.run("second", spec, here.kubelet.host(spec))
    assert second.wait(120) == 0, second.text()
    assert here.result() == here.expected()


def test_a_dask_job_runs_to_its_result(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("dask")
    main = render(settings, _work(settings))[-1]
    cluster, runner = main["spec"]["cluster"]["spec"], main["spec"]["job"]["spec"]
    kubelet = here.kubelet
    host = kubelet.host(cluster["scheduler"]["spec"])
    kubelet.names["mmflow-totals-scheduler.mmflow.svc"] = host.address
    kubelet.run("scheduler", cluster["scheduler"]["spec"], host)
    workers = [kubelet.host(cluster["worker"]["spec"]) for _ in range(cluster["worker"]["replicas"])]
    pods = [kubelet.run(f"worker{n}", cluster["worker"]["spec"], w) for n, w in enumerate(workers)]
    kubelet.until(lambda: _healthy(host, 8787, "/health"), "the scheduler to be healthy", 60)
    for worker in workers:
        kubelet.until(partial(_healthy, worker, 8788, "/health"), "a worker to be healthy", 60)
    driver = kubelet.run("driver", runner, kubelet.host(runner))
    assert driver.wait(180) == 0, driver.text() + pods[0].text()
    assert here.result() == here.expected()
    assert _ended(driver)["state"] == "done"
    # Who has no certificate is not heard.
    plain = f"import distributed; distributed.Client('tcp://{host.address}:8786', timeout=3)"
    with pytest.raises(AssertionError):
        workers[0].run(sys.executable, "-c", plain)


def _waits_for_gcs(spec: dict[str, Any], service: str) -> dict[str, Any]:
    """Return the spec with KubeRay's init container `wait-gcs-ready` (controllers/ray/common/pod.go)."""
    line = f"until ray health-check --address {service}:6379; do sleep 5; done"
    waits = {**spec["containers"][0], "command": ["/bin/bash", "-c", "--", line]}
    return {**spec, "initContainers": [*spec["initContainers"], waits]}


class RayPods:
    """Head and workers of a RayCluster, and what KubeRay does around them."""

    def __init__(self, here: Place, cluster: dict[str, Any], name: str) -> None:
        self.kubelet = here.kubelet
        group, hands = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
        spec, hand = group["template"]["spec"], hands["template"]["spec"]
        self.head = self.kubelet.host(spec)
        self.service = f"{name}-head-svc.mmflow.svc.cluster.local"
        self.kubelet.names[self.service] = self.head.address
        known = {"FQ_RAY_IP": self.service}
        self.kubelet.run("head", spec, self.head, ray_start(spec, group, None), known)
        self._healthy(self.head, 8265, "/api/gcs_healthz")
        self.workers = [self.kubelet.host(hand) for _ in range(hands["replicas"])]
        for number, worker in enumerate(self.workers):
            command = ray_start(hand, hands, self.service)
            tls = number == 0 and "initContainers" in hand
            whole = _waits_for_gcs(hand, self.service) if tls else hand
            self.kubelet.run(f"worker{number}", whole, worker, command, known)
        for worker in self.workers:
            self._healthy(worker, 52365, "/api/local_raylet_healthz")

    def _healthy(self, host: Host, port: int, path: str) -> None:
        self.kubelet.until(lambda: _healthy(host, port, path), f"{path} of {host.name}", 90)

    def submit(self, job: dict[str, Any]) -> Pod:
        """Submit a job as KubeRay's submitter does (controllers/ray/common/job.go)."""
        address = f"http://{self.service}:8265"
        env = job.get("runtimeEnvYAML")
        more = "" if env is None else "--runtime-env-json " + json.dumps(json.dumps(yaml.safe_load(env)))
        line = (
            f"ray job submit --address {address} --no-wait {more} --submission-id totals-1 -- {job['entrypoint']} ; "
            f"ray job logs --address {address} --follow totals-1"
        )
        spec = job["submitterPodTemplate"]["spec"]
        pod = self.kubelet.run("submitter", spec, self.kubelet.host(spec), ["/bin/bash", "-c", "--", line])
        assert pod.wait(240) == 0, pod.text()
        return pod


def _checked(here: Place, pod: Pod) -> None:
    assert _ended(pod)["state"] == "done", pod.text()
    assert here.result() == here.expected()
    facts = json.loads((here.folder / "runs/state/totals/run.json").read_text())
    assert facts["parameters"]["title"] == "$HOME \"x\" 'y'"


@pytest.mark.nightly
def test_a_ray_job_runs_to_its_result(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("ray", ray_ca_secret="")
    main = render(settings, _work(settings))[-1]["spec"]
    pods = RayPods(here, main["rayClusterSpec"], "mmflow-totals")
    _checked(here, pods.submit(main))
    # Without the token, nobody hands in jobs.
    script = f"import urllib.request as u; u.urlopen('http://{pods.head.address}:8265/api/jobs/', timeout=5)"
    with pytest.raises(AssertionError, match="401"):
        pods.workers[0].run(sys.executable, "-c", script)


@pytest.mark.nightly
def test_a_ray_job_runs_over_tls(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("ray")
    main = render(settings, _work(settings))[-1]["spec"]
    pods = RayPods(here, main["rayClusterSpec"], "mmflow-totals")
    _checked(here, pods.submit(main))
    _refuses_strangers(here, pods)


_STRANGER = """
import grpc, sys
authority, address, token = sys.argv[1:]
ways = {"plain": grpc.insecure_channel(address)}
for name, key in (("no certificate", None), ("of another authority", sys.stdin.read().encode())):
    trusted = grpc.ssl_channel_credentials(open(authority, "rb").read(), key, key)
    ways[name] = grpc.secure_channel(address, trusted)
for name, channel in ways.items():
    try:
        alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        alive(b"", metadata=[("authorization", f"Bearer {token}")], timeout=5)
    except grpc.RpcError as error:
        print(name, error.code().name)
    else:
        print(name, "is let in")
"""


def _refuses_strangers(here: Place, pods: RayPods) -> None:
    """Check that a client without a certificate of the authority is refused, although it has the token."""
    other = here.folder / "stranger.pem"
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ray -keyout - -out -"
    )
    pem = subprocess.run(["openssl", *command.split()], check=True, capture_output=True).stdout
    other.write_bytes(pem)
    token = here.secrets["mmflow-ray-token"]["auth_token"]
    given = [str(here.folder / "ray.crt"), f"{pods.head.address}:6379", token]
    code = f"import sys; sys.stdin = open({str(other)!r}); exec({_STRANGER!r})"
    said = pods.workers[0].run(sys.executable, "-c", code, *given)
    assert said.splitlines() == [
        "plain UNAVAILABLE", "no certificate UNAVAILABLE", "of another authority UNAVAILABLE",
    ]  # fmt: skip


@pytest.mark.nightly
def test_a_ray_job_goes_to_a_cluster_that_is_there(place: tuple[Place, Network]) -> None:
    here, _ = place
    settings = _settings("ray", cluster="standing", ray_ca_secret="")
    pods = RayPods(here, cluster_manifests(settings, "standing")[-1]["spec"], "standing")
    _checked(here, pods.submit(render(settings, _work(settings))[-1]["spec"]))
