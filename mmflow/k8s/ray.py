"""A RayCluster and a RayJob for KubeRay, with token authentication.

    head        no tasks run here: GCS, dashboard, and the driver of a run (Ray's Jobs API starts it)
    worker      one raylet a pod, with as many CPUs as the pod
    submitter   hands the job to the head, and prints what the driver prints

The token is in a Secret under `auth_token`. It is given by variables, which every KubeRay passes on, and by
`authOptions`, by which KubeRay 1.5.1 and later also authenticates itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmflow.k8s.pods import CODE, SPILL, container, env, hardened, labels, pod, secret_env, sizes
from mmflow.k8s.settings import MIB, PodSettings
from mmflow.k8s.work import Work

__all__ = ["RAY_VERSION", "ray_cluster_spec", "ray_job_spec"]

#: Of the image (k8s/Dockerfile); KubeRay wants to know.
RAY_VERSION = "2.60.0"
_GCS, _DASHBOARD, _AGENT = 6379, 8265, 52365
#: A cluster is kept so long after its job, for a look at it.
_AFTER_SECONDS = 60

Parts = Sequence[dict[str, Any]]


def _variables(settings: PodSettings) -> list[dict[str, Any]]:
    token = secret_env("RAY_AUTH_TOKEN", settings.ray_secret, "auth_token")
    return [*env(RAY_AUTH_MODE="token"), token, *env(RAY_USAGE_STATS_ENABLED="0")]


def ray_cluster_spec(
    settings: PodSettings, name: str, run: str | None, volumes: Parts = (), mounts: Parts = ()
) -> dict[str, Any]:
    """The spec of a RayCluster.

    Args:
        settings: Of its pods.
        name: Its name.
        run: Whose it is; None: it outlives runs.
        volumes, mounts: Of the head: the run's code.
    """
    scales = settings.max_workers > settings.workers
    head_marks, worker_marks = labels(name, "head", run), labels(name, "worker", run)
    head = container(
        "ray-head",
        settings,
        command=None,
        resources=sizes(settings, driver=True),
        variables=_variables(settings),
        mounts=mounts,
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
        resources=sizes(settings),
        variables=_variables(settings),
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
            "template": {
                "metadata": {"labels": head_marks},
                "spec": pod(
                    settings, [head], shm=settings.driver_shm, marks=head_marks, volumes=volumes, token=scales
                ),
            },
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
                "template": {
                    "metadata": {"labels": worker_marks},
                    "spec": pod(settings, [worker], shm=settings.shm, marks=worker_marks),
                },
            }
        ],
    }
    if scales:
        small = {"cpu": "500m", "memory": "512Mi"}
        made |= {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "idleTimeoutSeconds": 120,
                "securityContext": hardened(),
                "resources": {"requests": small, "limits": dict(small)},
                "env": [*env(HOME="/tmp"), *_variables(settings)],
            },
        }
    return made


def _store(shm: int) -> int:
    return shm * 19 // 20 // MIB * MIB


def _probes(port: int, path: str) -> dict[str, Any]:
    """Ray lets these paths be asked without a token."""
    alive = {"httpGet": {"path": "/api/local_raylet_healthz", "port": _AGENT}, "timeoutSeconds": 5}
    ready = {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**alive, "periodSeconds": 3, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 10, "failureThreshold": 5},
        "livenessProbe": {**alive, "periodSeconds": 15, "failureThreshold": 8},
    }


def ray_job_spec(
    settings: PodSettings, work: Work, line: str, volumes: Parts, mounts: Parts
) -> dict[str, Any]:
    """The spec of a RayJob.

    Args:
        settings: Of its pods.
        work: The run.
        line: The driver's command.
        volumes, mounts: Of its code: on the head, or, for a cluster that is there, with the submitter: it uploads it.
    """
    made: dict[str, Any] = {
        "entrypoint": line,
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": _submitter(settings, work, volumes, mounts),
    }
    if settings.deadline:
        made["activeDeadlineSeconds"] = settings.deadline
    if settings.cluster is None:
        made |= {
            # On another cluster, where the run is resumed.
            "backoffLimit": settings.restarts,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _AFTER_SECONDS,
            "rayClusterSpec": ray_cluster_spec(settings, work.name, work.name, volumes, mounts),
        }
    else:
        made["clusterSelector"] = {"ray.io/cluster": settings.cluster}
        if work.code:
            made["runtimeEnvYAML"] = f"working_dir: {CODE}\n"
    return made


def _submitter(settings: PodSettings, work: Work, volumes: Parts, mounts: Parts) -> dict[str, Any]:
    small = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi"}
    marks = labels(settings.cluster or work.name, "submitter", work.name)
    made = container(
        "ray-job-submitter",
        settings,
        command=None,
        resources={"requests": small, "limits": dict(small)},
        variables=_variables(settings),
        mounts=mounts,
    )
    spec = pod(settings, [made], shm=MIB, marks=marks, volumes=volumes, restart="Never")
    return {"metadata": {"labels": marks}, "spec": spec}
