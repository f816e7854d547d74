"""Manifests from settings and a run. Pure: no API, no clock, no files.

    job     ConfigMap, NetworkPolicy, PodDisruptionBudget, Job
    ray     the same with a RayJob, which brings its RayCluster or goes to one that is there
    dask    the same with a DaskJob, which brings its DaskCluster; or a Job beside a DaskCluster that is there

The last manifest is the run; all others belong to it. The overlays in k8s/ are these, written down (`overlays.py`).
"""

from __future__ import annotations

import base64
from typing import Any

from mmflow.k8s.dask import dask_address, dask_cluster_spec, dask_driver_parts
from mmflow.k8s.pods import CODE, CONFIG, LABEL, container, labels, meta, pod, sizes
from mmflow.k8s.ray import ray_cluster_spec, ray_job_spec
from mmflow.k8s.settings import PodSettings
from mmflow.k8s.work import Work, shell_line

__all__ = ["cluster_manifests", "code_volume", "config_volume", "driver_pod", "render"]

Manifest = dict[str, Any]


def render(settings: PodSettings, work: Work) -> list[Manifest]:
    """All objects of a run; the last one owns the others."""
    made: list[Manifest] = []
    if work.code:
        made.append(_code(settings, work))
    if settings.cluster is None:
        made += _around_cluster(settings, work.name, work.name)
    if settings.kind == "job" or settings.kind == "dask":
        made.append(_budget(settings, settings.cluster or work.name, "driver", 1, work.name))
    main = {"job": _job, "ray": _ray_job, "dask": _dask}[settings.kind](settings, work)
    main["metadata"]["annotations"] = {f"{LABEL}/run": work.run, f"{LABEL}/submission": work.submission}
    return [*made, main]


def cluster_manifests(settings: PodSettings, name: str) -> list[Manifest]:
    """A cluster that outlives runs, for `cluster = NAME`."""
    made = _around_cluster(settings, name, None)
    marks = labels(name, "cluster")
    if settings.kind == "ray":
        volumes, mounts = config_volume(settings)
        api, kind, spec = "ray.io/v1", "RayCluster", ray_cluster_spec(settings, name, None, volumes, mounts)
    else:
        api, kind, spec = "kubernetes.dask.org/v1", "DaskCluster", dask_cluster_spec(settings, name, None)
    made.append({"apiVersion": api, "kind": kind, "metadata": meta(name, settings, marks), "spec": spec})
    return made


def _around_cluster(settings: PodSettings, name: str, run: str | None) -> list[Manifest]:
    """What a cluster has beside its pods."""
    made = [_network_policy(settings, name)]
    if settings.kind != "job":
        made.append(_budget(settings, name, "head" if settings.kind == "ray" else "scheduler", 1, run))
        if settings.workers > 1:  # one may go at a time: its tasks run again elsewhere
            made.append(_budget(settings, name, "worker", settings.workers - 1, run))
    return made


# ---- what belongs to a run ---------------------------------------------------------------------------------


def _code(settings: PodSettings, work: Work) -> Manifest:
    data, binary = {}, {}
    for path, content in work.code.items():
        try:
            data[_key(path)] = content.decode()
        except UnicodeDecodeError:
            binary[_key(path)] = base64.b64encode(content).decode()
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(work.name, settings, labels(settings.cluster or work.name, "code", work.name)),
        "immutable": True,
        "data": data,
    }
    return {**made, "binaryData": binary} if binary else made


def _key(path: str) -> str:
    """Keys of ConfigMaps have no slashes; the volume's items put them back."""
    return path.replace("/", "..")


def code_volume(work: Work) -> tuple[list[Manifest], list[Manifest]]:
    """The volume of the run's code, and where it is mounted."""
    if not work.code:
        return [], []
    items = [{"key": _key(path), "path": path} for path in work.code]
    return (
        [{"name": "code", "configMap": {"name": work.name, "items": items}}],
        [{"name": "code", "mountPath": CODE, "readOnly": True}],
    )


def config_volume(settings: PodSettings) -> tuple[list[Manifest], list[Manifest]]:
    """The volume of the settings that the driver reads, and where it is mounted."""
    if settings.config_map is None:
        return [], []
    return (
        [{"name": "config", "configMap": {"name": settings.config_map}}],
        [{"name": "config", "mountPath": CONFIG, "readOnly": True}],
    )


def _network_policy(settings: PodSettings, cluster: str) -> Manifest:
    """Pods of a cluster talk to each other. What else they may do, k8s/base says for all of them."""
    same = {"podSelector": {"matchLabels": {f"{LABEL}/cluster": cluster}}}
    egress: list[Manifest] = [{"to": [same]}]
    if settings.kind == "ray" and settings.max_workers > settings.workers:
        # Ray's autoscaler speaks to the Kubernetes API.
        egress.append({"ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(cluster, settings, labels(cluster, "network")),
        "spec": {
            **same,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [same]}],
            "egress": egress,
        },
    }


def _budget(settings: PodSettings, cluster: str, role: str, least: int, run: str | None) -> Manifest:
    """How many pods of a role must stay when nodes are drained.

    A number, and `minAvailable`: for pods of custom resources Kubernetes can't tell how many there should be.
    """
    chosen = {f"{LABEL}/cluster": cluster, f"{LABEL}/role": role}
    if run is not None:
        chosen[f"{LABEL}/run"] = run
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(f"{run or cluster}-{role}", settings, labels(cluster, role, run)),
        "spec": {"minAvailable": least, "selector": {"matchLabels": chosen}},
    }


# ---- kinds -----------------------------------------------------------------------------------------------


def _files(settings: PodSettings, work: Work) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and mounts of what the driver reads before it runs."""
    (code, at), (config, there) = code_volume(work), config_volume(settings)
    return [*code, *config], [*at, *there]


def _job(settings: PodSettings, work: Work) -> Manifest:
    command = work.driver(settings, "local", None)
    return _batch_job(settings, work, command, sizes(settings), settings.shm)


def _batch_job(
    settings: PodSettings,
    work: Work,
    command: list[str],
    resources: Manifest,
    shm: int,
    parts: tuple[list[Manifest], list[Manifest], list[Manifest]] = ([], [], []),
) -> Manifest:
    """A Job whose pod is the driver.

    A pod that its node took down is replaced, and the run resumed. One that ended by itself is not: exit codes 1 and 2
    say that the data, the function or the settings are wrong, and they will be wrong again.
    """
    marks = labels(settings.cluster or work.name, "driver", work.name)
    spec: dict[str, Any] = {
        "backoffLimit": settings.restarts,
        "ttlSecondsAfterFinished": settings.keep,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "driver", "operator": "In", "values": [1, 2]},
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {
            "metadata": {"labels": marks},
            "spec": driver_pod(settings, work, command, resources, shm, marks, parts),
        },
    }
    if settings.deadline:
        spec["activeDeadlineSeconds"] = settings.deadline
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(work.name, settings, marks),
        "spec": spec,
    }


def driver_pod(
    settings: PodSettings,
    work: Work,
    command: list[str],
    resources: Manifest,
    shm: int,
    marks: dict[str, str],
    parts: tuple[list[Manifest], list[Manifest], list[Manifest]] = ([], [], []),
) -> Manifest:
    """The pod of a driver that is no part of a cluster.

    Args:
        parts: Variables, volumes and mounts beside those that all have.
    """
    variables, more_volumes, more_mounts = parts
    volumes, mounts = _files(settings, work)
    # `entry` touches this file while it looks after the run. A driver has no port that could be asked.
    alive = "test $(($(date +%s) - $(stat -c %Y /tmp/mmflow-alive))) -lt 120"
    made = container(
        "driver",
        settings,
        command=command,
        resources=resources,
        variables=variables,
        mounts=[*mounts, *more_mounts],
        livenessProbe={
            "exec": {"command": ["sh", "-c", alive]},
            "initialDelaySeconds": 60,
            "periodSeconds": 60,
            "timeoutSeconds": 10,
            "failureThreshold": 3,
        },
        # The end of the run, in one line, which the API hands over with the pod's status.
        terminationMessagePath="/tmp/mmflow-end",
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    return pod(settings, [made], shm=shm, marks=marks, volumes=[*volumes, *more_volumes], restart="Never")


def _ray_job(settings: PodSettings, work: Work) -> Manifest:
    standing = settings.cluster is not None
    volumes, mounts = code_volume(work) if standing else _files(settings, work)
    line = shell_line(work.driver(settings, "ray", "auto", here=not standing))
    spec = ray_job_spec(settings, work, line, volumes, mounts)
    marks = labels(settings.cluster or work.name, "driver", work.name)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": meta(work.name, settings, marks),
        "spec": spec,
    }


def _dask(settings: PodSettings, work: Work) -> Manifest:
    cluster = settings.cluster or work.name
    command = work.driver(settings, "dask", dask_address(settings, cluster))
    parts = dask_driver_parts(settings)
    resources, shm = sizes(settings, driver=True), settings.driver_shm
    if settings.cluster is not None:
        return _batch_job(settings, work, command, resources, shm, parts)
    # The operator gives the labels of a DaskJob to the pods it makes of it: a role among them would be everybody's.
    marks = labels(cluster, "driver", work.name)
    del marks[f"{LABEL}/role"]
    runner = labels(cluster, "driver", work.name)
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": meta(work.name, settings, marks),
        "spec": {
            "job": {
                "metadata": {"labels": runner},
                "spec": driver_pod(settings, work, command, resources, shm, runner, parts),
            },
            "cluster": {"spec": dask_cluster_spec(settings, cluster, work.name)},
        },
    }
