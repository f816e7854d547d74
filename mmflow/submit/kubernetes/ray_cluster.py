"""RayCluster and RayJob for KubeRay, with token authentication and TLS (`ray_tls.py`).

    head        no tasks run here: GCS, dashboard, and the driver of a run (Ray's Jobs API starts it)
    worker      one raylet a pod, with as many CPUs as the pod
    submitter   submits the job to the head, and prints the driver's output

The submitter, KubeRay and the kubelet's probes speak HTTP to the head, for which Ray has no TLS.

The token is in a Secret under `auth_token`. It is passed by variables, which every KubeRay supports, and by
`authOptions`, with which KubeRay 1.5.1 and later also authenticates itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmflow.submit.kubernetes.pods import (
    CODE,
    SPILL,
    container,
    container_resources,
    env_vars,
    labels,
    pod,
    secret_env,
    security_context,
)
from mmflow.submit.kubernetes.ray_tls import (
    certificate_container,
    tls_mounts,
    tls_variables,
    tls_volumes,
)
from mmflow.submit.kubernetes.settings import MIB, PodSettings
from mmflow.submit.kubernetes.workload import Workload

__all__ = ["RAY_VERSION", "ray_cluster_spec", "ray_job_spec"]

#: Ray's version in the image (k8s/Dockerfile), which KubeRay requires.
RAY_VERSION = "2.60.0"
#: After SIGTERM, a node drains within the 30 seconds that spot nodes have; Ray itself would take all of them.
_DRAIN = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "20"}
_GCS, _DASHBOARD, _AGENT = 6379, 8265, 52365
#: Time that a cluster is kept after its job, for inspection.
_KEEP_CLUSTER_SECONDS = 60

Parts = Sequence[dict[str, Any]]


def _variables(settings: PodSettings) -> list[dict[str, Any]]:
    token = secret_env("RAY_AUTH_TOKEN", settings.ray_secret, "auth_token")
    return [*env_vars(RAY_AUTH_MODE="token"), token, *env_vars(RAY_USAGE_STATS_ENABLED="0", **_DRAIN)]


def ray_cluster_spec(
    settings: PodSettings, name: str, run: str | None, volumes: Parts = (), mounts: Parts = ()
) -> dict[str, Any]:
    """Return the spec of a RayCluster.

    Args:
        settings: Settings of its pods.
        name: Name of the cluster.
        run: Run that owns the cluster; None: it outlives runs.
        volumes, mounts: Those of the head: the run's code.
    """
    variables, own = [*_variables(settings), *tls_variables(settings)], tls_volumes(settings)
    scales = settings.max_workers > settings.workers
    head_marks, worker_marks = labels(name, "head", run), labels(name, "worker", run)
    head = container(
        "ray-head",
        settings,
        command=None,
        resources=container_resources(settings, driver=True),
        variables=variables,
        mounts=[*mounts, *tls_mounts(settings)],
        ports=[
            {"name": "gcs-server", "containerPort": _GCS},
            {"name": "dashboard", "containerPort": _DASHBOARD},
        ],
        **_probes(_DASHBOARD, "/api/gcs_healthz"),
    )
    worker = container(
        "ray-worker",
        settings,
        command=None,
        resources=container_resources(settings),
        variables=variables,
        mounts=tls_mounts(settings),
        **_probes(_AGENT, "/api/local_raylet_healthz"),
    )
    made: dict[str, Any] = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": settings.ray_secret},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {
                "num-cpus": "0",
                "dashboard-host": "0.0.0.0",  # for the submitter and the operator; the NetworkPolicy keeps others out
                "object-store-memory": str(_store(settings.driver_shm)),
                "object-spilling-directory": f"{SPILL}/ray",
            },
            "template": pod(
                settings,
                [head],
                shm=settings.driver_shm,
                pod_labels=head_marks,
                volumes=[*volumes, *own],
                init=certificate_container(settings, head=True),
                token=scales,
            ),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": settings.workers,
                "minReplicas": settings.workers,
                "maxReplicas": max(settings.workers, settings.max_workers),
                "rayStartParams": {
                    "num-cpus": str(settings.cpu),
                    "object-store-memory": str(_store(settings.shm)),
                    "object-spilling-directory": f"{SPILL}/ray",
                },
                "template": pod(
                    settings,
                    [worker],
                    shm=settings.shm,
                    pod_labels=worker_marks,
                    volumes=own,
                    init=certificate_container(settings, head=False),
                ),
            }
        ],
    }
    if scales:
        small = {"cpu": "500m", "memory": "512Mi"}
        made |= {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "idleTimeoutSeconds": 120,
                "securityContext": security_context(),
                "resources": {"requests": small, "limits": dict(small)},
                "env": [*env_vars(HOME="/tmp"), *variables],
                "volumeMounts": tls_mounts(settings),
            },
        }
    return made


def _store(shm: int) -> int:
    return shm * 19 // 20 // MIB * MIB


def _probes(port: int, path: str) -> dict[str, Any]:
    """Return probes on paths that Ray serves without a token."""
    alive = {"httpGet": {"path": "/api/local_raylet_healthz", "port": _AGENT}, "timeoutSeconds": 5}
    ready = {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**alive, "periodSeconds": 3, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 10, "failureThreshold": 5},
        "livenessProbe": {**alive, "periodSeconds": 15, "failureThreshold": 8},
    }


def ray_job_spec(
    settings: PodSettings, workload: Workload, line: str, volumes: Parts, mounts: Parts
) -> dict[str, Any]:
    """Return the spec of a RayJob.

    Args:
        settings: Settings of its pods.
        workload: The run.
        line: The driver's command.
        volumes, mounts: Those of its code: on the head, or, for an existing cluster, on the submitter that uploads it.
    """
    made: dict[str, Any] = {
        "entrypoint": line,
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": _submitter(settings, workload, volumes, mounts),
    }
    if settings.deadline:
        made["activeDeadlineSeconds"] = settings.deadline
    if settings.cluster is None:
        made |= {
            # A retry gets another cluster, where the run is resumed.
            "backoffLimit": settings.restarts,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _KEEP_CLUSTER_SECONDS,
            "rayClusterSpec": ray_cluster_spec(settings, workload.name, workload.name, volumes, mounts),
        }
    else:
        made["clusterSelector"] = {"ray.io/cluster": settings.cluster}
        if workload.code:
            made["runtimeEnvYAML"] = f"working_dir: {CODE}\n"
    return made


def _submitter(settings: PodSettings, workload: Workload, volumes: Parts, mounts: Parts) -> dict[str, Any]:
    small = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi"}
    pod_labels = labels(settings.cluster or workload.name, "submitter", workload.name)
    made = container(
        "ray-job-submitter",
        settings,
        command=None,
        resources={"requests": small, "limits": dict(small)},
        variables=_variables(settings),
        mounts=mounts,
    )
    return pod(settings, [made], shm=MIB, pod_labels=pod_labels, volumes=volumes, restart="Never")
