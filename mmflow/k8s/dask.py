"""A DaskCluster for the Dask operator. Its processes speak TLS, each with the certificate of one Secret.

    scheduler   tls://NAME-scheduler.NAMESPACE.svc:8786
    worker      a process of one thread for each cpu of its pod, with a nanny; mmflow's plugins come with the first run

Dask checks that the other side has a certificate of the same authority, and no host names: one certificate will do.
"""

from __future__ import annotations

from typing import Any

from mmflow.k8s.pods import SPILL, container, env, labels, pod, sizes, volume_of_secret
from mmflow.k8s.settings import PodSettings

__all__ = ["dask_address", "dask_cluster_spec", "dask_driver_parts"]

_TLS = "/tls"
_PORT, _HTTP, _WORKER_HTTP = 8786, 8787, 8788


def dask_address(settings: PodSettings, cluster: str) -> str:
    """Of the scheduler, for all that are in the Kubernetes cluster."""
    return f"tls://{cluster}-scheduler.{settings.namespace}.svc:{_PORT}"


def _variables() -> list[dict[str, Any]]:
    tls = {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": f"{_TLS}/ca.crt",
    }
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{who}__CERT"] = f"{_TLS}/tls.crt"
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{who}__KEY"] = f"{_TLS}/tls.key"
    return env(**tls, DASK_TEMPORARY_DIRECTORY=SPILL)


def dask_driver_parts(
    settings: PodSettings,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Variables, volumes and mounts of whoever speaks to the cluster."""
    volume, mount = volume_of_secret(settings.dask_secret, _TLS)
    return _variables(), [volume], [mount]


def dask_cluster_spec(settings: PodSettings, name: str, run: str | None) -> dict[str, Any]:
    """The spec of a DaskCluster.

    Args:
        settings: Of its pods.
        name: Its name.
        run: Whose it is; None: it outlives runs.
    """
    variables, volumes, mounts = dask_driver_parts(settings)
    scheduler, worker = labels(name, "scheduler", run), labels(name, "worker", run)
    address = dask_address(settings, name)
    per_process = (settings.memory - settings.shm) // settings.cpu
    # The operator adds the variable with tcp:// where it is missing.
    known = env(DASK_SCHEDULER_ADDRESS=address)
    head = container(
        "scheduler",
        settings,
        command=[
            "dask", "scheduler", "--protocol", "tls", "--port", str(_PORT),
            "--no-dashboard", "--dashboard-address", f":{_HTTP}",
        ],
        resources=sizes(settings, driver=True),
        variables=variables,
        mounts=mounts,
        ports=[{"name": "tcp-comm", "containerPort": _PORT}, {"name": "http-dashboard", "containerPort": _HTTP}],
        **_probes(),
    )  # fmt: skip
    hand = container(
        "worker",
        settings,
        command=[
            "dask", "worker", address, "--nworkers", str(settings.cpu), "--nthreads", "1",
            "--memory-limit", str(per_process), "--local-directory", SPILL,
            "--no-dashboard", "--dashboard-address", f":{_WORKER_HTTP}",
            "--death-timeout", "300",
        ],
        resources=sizes(settings),
        variables=[*known, *variables],
        mounts=mounts,
        ports=[{"name": "http-dashboard", "containerPort": _WORKER_HTTP}],
        **_probes(),
    )  # fmt: skip
    return {
        "scheduler": {
            "metadata": {"labels": scheduler},
            "spec": pod(
                settings, [head], shm=settings.driver_shm, marks=scheduler, volumes=volumes, restart="Always"
            ),
            "service": {
                "type": "ClusterIP",
                "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
                "ports": [
                    {"name": "tcp-comm", "protocol": "TCP", "port": _PORT, "targetPort": "tcp-comm"},
                    {
                        "name": "http-dashboard",
                        "protocol": "TCP",
                        "port": _HTTP,
                        "targetPort": "http-dashboard",
                    },
                ],
            },
        },
        "worker": {
            "metadata": {"labels": worker},
            "replicas": settings.workers,
            "spec": pod(settings, [hand], shm=settings.shm, marks=worker, volumes=volumes, restart="Always"),
        },
    }


def _probes() -> dict[str, Any]:
    # By name: the operator's CRDs take no numbers here.
    asked = {"httpGet": {"path": "/health", "port": "http-dashboard"}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**asked, "periodSeconds": 3, "failureThreshold": 40},
        "readinessProbe": {**asked, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {**asked, "periodSeconds": 20, "failureThreshold": 6},
    }
