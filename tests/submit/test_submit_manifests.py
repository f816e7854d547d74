"""Manifests: what settings make of them, that a cluster would take them, and that both ways to it are the same."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mmflow.cli.main import main
from mmflow.config import Settings
from mmflow.errors import ConfigError
from mmflow.submit.base import Submission
from mmflow.submit.kubernetes.overlays import files
from mmflow.submit.kubernetes.render import cluster_manifests, render
from mmflow.submit.kubernetes.settings import KINDS, PodSettings
from mmflow.submit.kubernetes.workload import Workload, make_workload, object_name, shell_line
from mmflow.submit.kubernetes.yaml import as_yaml

ROOT = Path(__file__).parents[2]
CRDS = ROOT.parent / "shared" / "k8s-crds"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OVERLAYS = ("job", "ray", "dask", "minikube")
#: Kubernetes versions, the oldest that docs/kubernetes.md names and a new one.
VERSIONS = ("1.31", "1.35")


def _settings(kind: str, **more: Any) -> PodSettings:
    return PodSettings.load({"image": "r/mmflow:1", "kind": kind, **more}, "test")


def _work(**more: Any) -> Workload:
    code = {"j.py": b"import mmflow", "more/x.py": "# π".encode(), "raw.csv": b"\xff"}
    made = Workload(
        run="r", name="mmflow-r", job="j.py", arguments=("--top=1",), runs_dir="/runs/state", code=code
    )
    return replace(made, **more)


def _all() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    full = {
        "pull_secrets": ["p"], "spill_class": "fast", "deadline": 60, "environment": {"A": "b"},
        "environment_secrets": ["s3"], "node_selector": {"pool": "spot"}, "config_map": "mmflow-config",
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "claims": {"/data": "d:ro", "/more/data": "m:ro", "/runs": "r"},
    }  # fmt: skip
    for kind in KINDS:
        more = full | ({"max_workers": 9} if kind == "ray" else {})
        yield kind, render(_settings(kind), _work())
        yield (
            f"{kind}, everything",
            render(_settings(kind, **more), _work(resume=True, arguments=("--title=a b $X",))),
        )
        if kind != "job":
            yield f"{kind}, on a cluster", render(_settings(kind, cluster="there"), _work())
            yield f"{kind} cluster", cluster_manifests(_settings(kind, **more), "there")


MANIFESTS = dict(_all())


def _closed(schema: Any) -> Any:
    """A CRD's schema under which fields that it does not know are errors: an API server would drop them in silence."""
    if isinstance(schema, list):
        return [_closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    open_ = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if made.get("type") == "object" and "properties" in made and not open_:
        made["additionalProperties"] = False
    return made


@functools.cache
def _crds() -> dict[tuple[str, str], Any]:
    found = {}
    for path in CRDS.glob("*.yaml"):
        spec = yaml.load(path.read_text(), _LOADER)["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"metadata": {"type": "object"}, "apiVersion": {}, "kind": {}}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _check(manifests: list[dict[str, Any]], version: str) -> None:
    crds = _crds()
    for manifest in manifests:
        key = manifest["apiVersion"], manifest["kind"]
        if key in crds:
            errors = jsonschema.Draft202012Validator(crds[key]).iter_errors(manifest)
            assert [f"{list(e.absolute_path)}: {e.message[:200]}" for e in errors] == []
        elif "." not in key[0].partition("/")[0] or key[0].partition("/")[0].endswith("k8s.io"):
            kubernetes_validate.validate(manifest, version, strict=True)
        else:
            pytest.skip(f"no CRD of {key[1]}: {CRDS} is not there")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_is_valid(name: str, version: str) -> None:
    _check(MANIFESTS[name], version)
    assert list(yaml.safe_load_all(as_yaml(MANIFESTS[name]))) == MANIFESTS[name]


# ---- pods ---------------------------------------------------------------------------------------------------


def _pods(value: Any) -> Iterator[dict[str, Any]]:
    """Specs of pods in a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from _pods(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pods(inner)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_is_hardened_and_sized(name: str) -> None:
    for manifest in MANIFESTS[name]:
        for pod in _pods(manifest):
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            autoscales = (
                manifest["kind"].startswith("Ray")
                and "everything" in name
                and pod["containers"][0]["name"] == "ray-head"
            )
            assert pod["automountServiceAccountToken"] is (
                autoscales or (name == "ray cluster" and "head" in pod["containers"][0]["name"])
            )
            volumes = {v["name"]: v for v in pod["volumes"]}
            for container in [*pod["containers"], *pod.get("initContainers", ())]:
                context = container["securityContext"]
                assert context["runAsNonRoot"]
                assert context["readOnlyRootFilesystem"]
                assert not context["allowPrivilegeEscalation"]
                assert context["capabilities"] == {"drop": ["ALL"]}
                limits = container["resources"]["limits"]
                assert limits == container["resources"]["requests"]
                assert set(limits) == {"cpu", "memory", "ephemeral-storage"}
                assert {m["name"] for m in container["volumeMounts"]} <= set(volumes)
            for container in pod["containers"]:
                assert container["name"] == "ray-job-submitter" or "livenessProbe" in container
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


# ---- TLS of Ray ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name.startswith("ray")])
def test_only_an_init_container_sees_the_key_that_signs_certificates_of_ray(name: str) -> None:
    on = {"name": "RAY_USE_TLS", "value": "1"}
    for manifest in MANIFESTS[name]:
        for pod in _pods(manifest):
            (container,) = pod["containers"]
            secrets = {v["name"] for v in pod["volumes"] if "secret" in v}
            mounts = {m["name"]: m for m in container["volumeMounts"]}
            assert not secrets & set(mounts)
            assert (on in container["env"]) is (container["name"] != "ray-job-submitter")
            if on in container["env"]:
                assert mounts["tls"]["readOnly"]
                (first,) = pod["initContainers"]
                assert {m["name"] for m in first["volumeMounts"]} == {"tmp", "authority", "tls"}
                assert secrets == {"authority"}
        if "rayClusterSpec" in manifest.get("spec", ()) and "everything" in name:
            scaler = manifest["spec"]["rayClusterSpec"]["autoscalerOptions"]
            assert on in scaler["env"]
            assert [m["name"] for m in scaler["volumeMounts"]] == ["tls"]


def test_ray_has_no_tls_without_an_authority() -> None:
    settings = _settings("ray", ray_ca_secret="", max_workers=9)
    text = json.dumps([*render(settings, _work()), *cluster_manifests(settings, "there")])
    assert "RAY_AUTH_TOKEN" in text
    assert "TLS" not in text
    assert "authority" not in text


def _openssl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("address", "head"), [("10.1.2.3", True), ("10.1.2.4", False), ("fd00::7", False)])
def test_a_pod_of_ray_has_a_certificate_for_its_own_address(tmp_path: Path, address: str, head: bool) -> None:
    authority, tls, service = tmp_path / "authority", tmp_path / "tls", "r-head-svc.mmflow.svc.cluster.local"
    authority.mkdir()
    tls.mkdir()
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mmflow-ray-ca"
    assert (
        _openssl(*new.split(), "-keyout", f"{authority}/tls.key", "-out", f"{authority}/tls.crt").returncode
        == 0
    )
    cluster = render(_settings("ray"), _work())[-1]["spec"]["rayClusterSpec"]
    group = cluster["headGroupSpec"] if head else cluster["workerGroupSpecs"][0]
    (first,) = group["template"]["spec"]["initContainers"]
    shell, option, script = first["command"]
    places = {"authority": authority, "tls": tls, "tmp": tmp_path}
    script = re.sub(r"(?<= )/(authority|tls|tmp)(?=/)", lambda found: str(places[found[1]]), script)
    known = {"PATH": os.environ["PATH"], "POD_IP": address, "FQ_RAY_IP": service}
    subprocess.run([shell, option, script], env=known, check=True, capture_output=True, cwd=tmp_path)

    def holds(option: str, name: str) -> bool:
        done = _openssl(
            "verify", "-purpose", "sslserver", option, name, "-CAfile", f"{tls}/ca.crt", f"{tls}/tls.crt"
        )
        return done.returncode == 0

    assert holds("-verify_ip", address)
    assert holds("-verify_ip", "127.0.0.1")
    assert not holds("-verify_ip", "10.1.2.5")
    assert holds("-verify_hostname", service) is head
    assert (tls / "tls.key").stat().st_mode & 0o077 == 0
    assert sorted(p.name for p in tls.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]
    assert "CA:FALSE" in _openssl("x509", "-in", f"{tls}/tls.crt", "-noout", "-text").stdout
    (authority / "tls.key").write_text((tls / "tls.key").read_text())  # not that of the authority
    again = subprocess.run([shell, option, script], env=known, check=False, capture_output=True)
    assert again.returncode != 0


# ---- sizes and words ----------------------------------------------------------------------------------------


def test_sizes_follow_from_the_pod() -> None:
    settings = _settings("dask", workers=3, cpu=4, memory="16GiB")
    assert (settings.shm, settings.tasks, settings.task_memory) == (4 << 30, 12, 3 * (6 << 30))
    driver = render(settings, _work())[-1]["spec"]["job"]["spec"]["containers"][0]
    assert {"--workers=12", f"--memory={18 << 30}", "--engine=dask"} <= set(driver["command"])
    assert "--address=tls://mmflow-r-scheduler.mmflow.svc:8786" in driver["command"]


def test_what_people_give_wins_over_sizes_and_not_over_places() -> None:
    command = _work(arguments=("--memory=1GiB", "--engine=ray")).driver_command(
        _settings("job"), "local", None
    )
    assert command.index("--memory=1GiB") > next(
        i for i, w in enumerate(command) if w.startswith("--memory=3")
    )
    assert command[-1] == "--engine=local"


def test_words_that_shells_spoil_are_packed() -> None:
    plain = ["python", "-m", "x", "--", "j.py", "--top=1"]
    assert shell_line(plain) == "python -m x -- j.py --top=1"
    assert "$" not in shell_line([*plain, "--title=$HOME"])
    assert "--packed=" in shell_line([*plain, "--title=a b"])


def test_names() -> None:
    names = [
        object_name(n, s)
        for n in ("a", "A", "a" * 60, "a" * 59 + "b", "x_1", "x.1")
        for s in ("", "-65a1b2c3")
    ]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 45
        assert name == name.lower().strip("-")


# ---- overlays ------------------------------------------------------------------------------------------------


def test_overlays_are_what_render_makes() -> None:
    for path, text in files():
        assert (ROOT / "k8s" / path).read_text() == text, (
            f"{path}: python -m mmflow.submit.kubernetes.overlays k8s"
        )


def _kustomized(folder: Path) -> list[dict[str, Any]]:
    tool = shutil.which("kubectl")
    if tool is None:
        pytest.skip("needs kubectl (apt-get install kubernetes-client)")
    done = subprocess.run([tool, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_renders_and_is_valid(name: str) -> None:
    made = _kustomized(ROOT / "k8s" / "overlays" / name)
    kinds = {m["kind"] for m in made}
    assert {
        "Namespace", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy",
        "PodDisruptionBudget", "ResourceQuota",
    } <= kinds  # fmt: skip
    assert (
        kinds
        >= {
            "job": {"Job"},
            "ray": {"RayCluster", "RayJob"},
            "dask": {"DaskCluster", "Job"},
            "minikube": {"Job"},
        }[name]
    )
    assert all(
        m["metadata"].get("namespace") == "mmflow"
        for m in made
        if m["kind"] not in ("Namespace", "PersistentVolume")
    )
    _check(made, VERSIONS[-1])


def test_spill_may_be_a_claim(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [k8s/overlays/job]\ncomponents: [k8s/components/spill-claims]\n"
    )
    made = _kustomized(tmp_path)
    (job,) = (m for m in made if m["kind"] == "Job")
    (spill,) = (v for v in job["spec"]["template"]["spec"]["volumes"] if v["name"] == "spill")
    assert set(spill) == {"name", "ephemeral"}
    _check(made, VERSIONS[-1])


def test_policies_let_pods_of_one_cluster_talk_and_nobody_else() -> None:
    for manifests in MANIFESTS.values():
        for policy in (m for m in manifests if m["kind"] == "NetworkPolicy"):
            same = {"podSelector": policy["spec"]["podSelector"]}
            assert policy["spec"]["ingress"] == [{"from": [same]}]
            assert policy["spec"]["egress"][0] == {"to": [same]}
    base = _kustomized(ROOT / "k8s" / "base")
    (default,) = (
        m for m in base if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "mmflow-default"
    )
    assert "ingress" not in default["spec"]


# ---- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "said"), [
    ({"imag": "x"}, "unknown key 'imag' in .kubernetes.; did you mean 'image'?"),
    ({}, "needs image"),
    ({"image": "x", "kind": "rays"}, "must be one of job, ray, dask; did you mean 'ray'?"),
    ({"image": "x", "workers": 0}, "must be a whole number, at least 1"),
    ({"image": "x", "memory": "lots"}, "is not a size"),
    ({"image": "x", "memory": "4GiB", "shm": "3GiB"}, "counts in memory = 4Gi"),
    ({"image": "x", "kind": "ray", "memory": "256MiB"}, "Ray's object store: give it at least 100MiB"),
    ({"image": "x", "kind": "ray", "driver_memory": "1GiB"}, "need 2GiB at least"),
    ({"image": "x", "kind": "ray", "max_workers": 1}, "max_workers = 1 is below workers = 2"),
    ({"image": "x", "kind": "dask", "max_workers": 9}, "only Ray's clusters grow and shrink"),
    ({"image": "x", "kind": "job", "max_workers": 9}, "only Ray's clusters grow and shrink"),
    ({"image": "x", "max_workers": -1}, "must be a whole number, at least 0"),
    ({"image": "x", "cluster": "c"}, "names one of Ray or Dask"),
    ({"image": "x", "claims": {"/data": "d:rw"}}, "or \"claim:ro\" to read only"),
    ({"image": "x", "claims": {"/tmp": "d"}}, "/tmp is used already"),
    ({"image": "x", "namespace": "My Space"}, "lower-case letters"),
])  # fmt: skip
def test_settings_that_are_wrong(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PodSettings.load(table, "file k8s.toml")


def test_the_example_is_all_defaults() -> None:
    text = (ROOT / "configs" / "k8s.toml").read_text()
    keys = {line.removeprefix("# ").partition(" = ")[0] for line in text.splitlines() if " = " in line}
    tables = {line.strip("# []").partition(".")[2] for line in text.splitlines() if line.startswith("# [")}
    missing = set(PodSettings.__dataclass_fields__) - keys - tables
    assert missing == set(), "keys that configs/k8s.toml does not explain"


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_that_the_example_shows_is_taken(kind: str) -> None:
    """Uncommented, each line is a value that loads, and the default."""
    text = (ROOT / "configs" / "k8s.toml").read_text()
    shown = re.findall(r"^# (\w+ = .*)$", text.partition("# [kubernetes.claims]")[0], re.MULTILINE)
    table = tomllib.loads("\n".join(line for line in shown if not line.startswith("kind")))
    for key in ("workers", "max_workers", "cluster", "restarts", "keep"):
        assert key in table
    least = {"image": "x", "kind": kind}
    assert PodSettings.load(least | table, "example") == PodSettings.load(least, "example")


@pytest.mark.parametrize(("kind", "argument", "said"), [
    ("job", "--engine=dask", "engine = 'dask' does not go with .kubernetes. kind = 'job'.* or set kind = 'dask'"),
    ("job", "--engine=ray", "set kind = 'ray'"),
    ("ray", "--engine=dask", "whose pods run the ray engine"),
    ("dask", "--engine=local", "set kind = 'job'"),
    ("dask", "--engine=spark", "leave engine out$"),
    ("ray", "--address=ray://h:1", "cluster says; leave address out"),
])  # fmt: skip
def test_an_engine_that_is_not_that_of_the_pods_is_refused(kind: str, argument: str, said: str) -> None:
    what = Submission("r", str(ROOT / "jobs" / "pricing_summary.py"), (argument,), Settings.load(env={}))
    with pytest.raises(ConfigError, match=said):
        make_workload(what, _settings(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_is_told_its_engine_once(kind: str) -> None:
    own = {"job": "local", "ray": "ray", "dask": "dask"}[kind]
    job = str(ROOT / "jobs" / "pricing_summary.py")
    what = Submission("r", job, (f"--engine={own}", "--top=3"), Settings.load(env={}))
    (main,) = render(_settings(kind, jobs_in_image="/jobs"), make_workload(what, _settings(kind)))[-1:]
    assert re.findall(r"--engine=\w+", json.dumps(main)) == [f"--engine={own}"]
    assert "--top=3" in json.dumps(main)


def test_other_commands_say_that_the_table_is_not_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "k.toml"
    file.write_text('workers = 3\n[kubernetes]\nimage = "x"\n')
    assert main(["sql", "SELECT 1", "--config", str(file)]) == 2
    assert "[kubernetes] is for mmflow submit" in capsys.readouterr().err
    assert Settings.load(file=file, tables=["kubernetes"]).workers == 3


def test_render_prints_what_submit_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "k.toml"
    file.write_text('[kubernetes]\nimage = "x"\nkind = "dask"\n')
    job = str(ROOT / "jobs" / "top_errors.py")
    assert (
        main(["k8s", "render", job, "--source", "/data/a.log", "--config", str(file), "--output", "/runs/o"])
        == 0
    )
    made = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [m["kind"] for m in made][-1] == "DaskJob"
    assert made[-1]["metadata"]["name"] == "mmflow-top-errors"
    assert main(["k8s", "render", job, "--sourc", "/data/a.log", "--config", str(file)]) == 2
