"""Manifests from settings and a run. Pure: no API, no clock, no files.

    job     ConfigMap, NetworkPolicy, PodDisruptionBudget, Job
    ray     the same with a RayJob, which creates its RayCluster or uses an existing one
    dask    the same with a DaskJob, which creates its DaskCluster; or a Job for an existing DaskCluster

The last manifest is the run and owns the others. The overlays in k8s/ are generated from them (`overlays.py`).
"""

from __future__ import annotations

import base64
from typing import Any

from mmflow.submit.kubernetes.dask_cluster import dask_address, dask_cluster_spec, dask_driver_parts
from mmflow.submit.kubernetes.pods import (
    CODE,
    CONFIG,
    LABEL,
    container,
    container_resources,
    labels,
    metadata,
    pod,
)
from mmflow.submit.kubernetes.ray_cluster import ray_cluster_spec, ray_job_spec
from mmflow.submit.kubernetes.settings import PodSettings
from mmflow.submit.kubernetes.workload import Workload, shell_line

__all__ = ["cluster_manifests", "code_volume", "config_volume", "driver_pod", "render"]

Manifest = dict[str, Any]


def render(settings: PodSettings, workload: Workload) -> list[Manifest]:
    """Return all objects of a run; the last one owns the others."""
    made: list[Manifest] = []
    if workload.code:
        made.append(_code(settings, workload))
    if settings.cluster is None:
        made += _cluster_policies(settings, workload.name, workload.name)
    if settings.kind == "job" or settings.kind == "dask":
        made.append(
            _disruption_budget(settings, settings.cluster or workload.name, "driver", 1, workload.name)
        )
    main = {"job": _job, "ray": _ray_job, "dask": _dask}[settings.kind](settings, workload)
    main["metadata"]["annotations"] = {
        f"{LABEL}/run": workload.run,
        f"{LABEL}/submission": workload.submission,
    }
    return [*made, main]


def cluster_manifests(settings: PodSettings, name: str) -> list[Manifest]:
    """Return the manifests of a cluster that outlives runs, for `cluster = NAME`."""
    made = _cluster_policies(settings, name, None)
    pod_labels = labels(name, "cluster")
    if settings.kind == "ray":
        volumes, mounts = config_volume(settings)
        api, kind, spec = "ray.io/v1", "RayCluster", ray_cluster_spec(settings, name, None, volumes, mounts)
    else:
        api, kind, spec = "kubernetes.dask.org/v1", "DaskCluster", dask_cluster_spec(settings, name, None)
    made.append(
        {"apiVersion": api, "kind": kind, "metadata": metadata(name, settings, pod_labels), "spec": spec}
    )
    return made


def _cluster_policies(settings: PodSettings, name: str, run: str | None) -> list[Manifest]:
    """Return the network policy and disruption budgets of a cluster."""
    made = [_network_policy(settings, name)]
    if settings.kind != "job":
        made.append(
            _disruption_budget(settings, name, "head" if settings.kind == "ray" else "scheduler", 1, run)
        )
        if settings.workers > 1:  # one may be evicted at a time: its tasks are rerun elsewhere
            made.append(_disruption_budget(settings, name, "worker", settings.workers - 1, run))
    return made


# ---- what belongs to a run ---------------------------------------------------------------------------------


def _code(settings: PodSettings, workload: Workload) -> Manifest:
    data, binary = {}, {}
    for path, content in workload.code.items():
        try:
            data[_key(path)] = content.decode()
        except UnicodeDecodeError:
            binary[_key(path)] = base64.b64encode(content).decode()
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            workload.name, settings, labels(settings.cluster or workload.name, "code", workload.name)
        ),
        "immutable": True,
        "data": data,
    }
    return {**made, "binaryData": binary} if binary else made


def _key(path: str) -> str:
    """Return a ConfigMap key for a path: keys have no slashes, and the volume's items restore them."""
    return path.replace("/", "..")


def code_volume(workload: Workload) -> tuple[list[Manifest], list[Manifest]]:
    """Return the volume of the run's code, and its mount."""
    if not workload.code:
        return [], []
    items = [{"key": _key(path), "path": path} for path in workload.code]
    return (
        [{"name": "code", "configMap": {"name": workload.name, "items": items}}],
        [{"name": "code", "mountPath": CODE, "readOnly": True}],
    )


def config_volume(settings: PodSettings) -> tuple[list[Manifest], list[Manifest]]:
    """Return the volume of the settings that the driver reads, and its mount."""
    if settings.config_map is None:
        return [], []
    return (
        [{"name": "config", "configMap": {"name": settings.config_map}}],
        [{"name": "config", "mountPath": CONFIG, "readOnly": True}],
    )


def _network_policy(settings: PodSettings, cluster: str) -> Manifest:
    """Return a policy that lets the pods of a cluster talk to each other; k8s/base says what else pods may do."""
    same = {"podSelector": {"matchLabels": {f"{LABEL}/cluster": cluster}}}
    egress: list[Manifest] = [{"to": [same]}]
    if settings.kind == "ray" and settings.max_workers > settings.workers:
        # Ray's autoscaler speaks to the Kubernetes API.
        egress.append({"ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(cluster, settings, labels(cluster, "network")),
        "spec": {
            **same,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [same]}],
            "egress": egress,
        },
    }


def _disruption_budget(
    settings: PodSettings, cluster: str, role: str, min_available: int, run: str | None
) -> Manifest:
    """Return the budget of pods of a role that must stay when nodes are drained.

    A number as `minAvailable`: for pods of custom resources Kubernetes doesn't know the expected number.
    """
    chosen = {f"{LABEL}/cluster": cluster, f"{LABEL}/role": role}
    if run is not None:
        chosen[f"{LABEL}/run"] = run
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(f"{run or cluster}-{role}", settings, labels(cluster, role, run)),
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": chosen}},
    }


# ---- kinds -----------------------------------------------------------------------------------------------


def _files(settings: PodSettings, workload: Workload) -> tuple[list[Manifest], list[Manifest]]:
    """Return volumes and mounts of the files that the driver reads at its start."""
    (code, at), (config, there) = code_volume(workload), config_volume(settings)
    return [*code, *config], [*at, *there]


def _job(settings: PodSettings, workload: Workload) -> Manifest:
    command = workload.driver_command(settings, "local", None)
    return _batch_job(settings, workload, command, container_resources(settings), settings.shm)


def _batch_job(
    settings: PodSettings,
    workload: Workload,
    command: list[str],
    resources: Manifest,
    shm: int,
    parts: tuple[list[Manifest], list[Manifest], list[Manifest]] = ([], [], []),
) -> Manifest:
    """Return a Job whose pod is the driver.

    A pod that was evicted is replaced, and the run resumed. One that ended by itself is not: exit codes 1 and 2 mean
    that the data, the function or the settings are wrong, which a retry can't change.
    """
    pod_labels = labels(settings.cluster or workload.name, "driver", workload.name)
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
        "template": driver_pod(settings, workload, command, resources, shm, pod_labels, parts),
    }
    if settings.deadline:
        spec["activeDeadlineSeconds"] = settings.deadline
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(workload.name, settings, pod_labels),
        "spec": spec,
    }


def driver_pod(
    settings: PodSettings,
    workload: Workload,
    command: list[str],
    resources: Manifest,
    shm: int,
    pod_labels: dict[str, str],
    parts: tuple[list[Manifest], list[Manifest], list[Manifest]] = ([], [], []),
) -> Manifest:
    """Return the pod of a driver that is not part of a cluster.

    Args:
        parts: Variables, volumes and mounts in addition to those of all drivers.
    """
    variables, more_volumes, more_mounts = parts
    volumes, mounts = _files(settings, workload)
    # `entry` touches this file while it watches the run. A driver has no port to probe.
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
        # The outcome of the run in one line, which the API returns with the pod's status.
        terminationMessagePath="/tmp/mmflow-end",
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    return pod(
        settings, [made], shm=shm, pod_labels=pod_labels, volumes=[*volumes, *more_volumes], restart="Never"
    )


def _ray_job(settings: PodSettings, workload: Workload) -> Manifest:
    standing = settings.cluster is not None
    volumes, mounts = code_volume(workload) if standing else _files(settings, workload)
    line = shell_line(workload.driver_command(settings, "ray", "auto", here=not standing))
    spec = ray_job_spec(settings, workload, line, volumes, mounts)
    pod_labels = labels(settings.cluster or workload.name, "driver", workload.name)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata(workload.name, settings, pod_labels),
        "spec": spec,
    }


def _dask(settings: PodSettings, workload: Workload) -> Manifest:
    cluster = settings.cluster or workload.name
    command = workload.driver_command(settings, "dask", dask_address(settings, cluster))
    parts = dask_driver_parts(settings)
    resources, shm = container_resources(settings, driver=True), settings.driver_shm
    if settings.cluster is not None:
        return _batch_job(settings, workload, command, resources, shm, parts)
    # The operator copies the labels of a DaskJob to all its pods, so they must not include a role.
    pod_labels = labels(cluster, "driver", workload.name)
    del pod_labels[f"{LABEL}/role"]
    runner = labels(cluster, "driver", workload.name)
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": metadata(workload.name, settings, pod_labels),
        "spec": {
            "job": driver_pod(settings, workload, command, resources, shm, runner, parts),
            "cluster": {"spec": dask_cluster_spec(settings, cluster, workload.name)},
        },
    }
