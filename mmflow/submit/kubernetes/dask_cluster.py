"""DaskCluster for the Dask operator. Its processes use TLS, all with the certificate of one Secret.

    scheduler   tls://NAME-scheduler.NAMESPACE.svc:8786
    worker      a process of one thread for each cpu of its pod, with a nanny; mmflow's plugins come with the first run

Dask checks that the peer's certificate has the same authority, but no host names, so one certificate is enough.
"""

from __future__ import annotations

from typing import Any

from mmflow.submit.kubernetes.pods import (
    SPILL,
    container,
    container_resources,
    env_vars,
    labels,
    pod,
    secret_volume,
)
from mmflow.submit.kubernetes.settings import PodSettings

__all__ = ["dask_address", "dask_cluster_spec", "dask_driver_parts"]

_TLS = "/tls"
_PORT, _HTTP, _WORKER_HTTP = 8786, 8787, 8788


def dask_address(settings: PodSettings, cluster: str) -> str:
    """Return the address of the scheduler within the Kubernetes cluster."""
    return f"tls://{cluster}-scheduler.{settings.namespace}.svc:{_PORT}"


def _variables() -> list[dict[str, Any]]:
    tls = {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": f"{_TLS}/ca.crt",
    }
    for who in ("SCHEDULER", "WORKER", "CLIENT"):
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{who}__CERT"] = f"{_TLS}/tls.crt"
        tls[f"DASK_DISTRIBUTED__COMM__TLS__{who}__KEY"] = f"{_TLS}/tls.key"
    return env_vars(**tls, DASK_TEMPORARY_DIRECTORY=SPILL)


def dask_driver_parts(
    settings: PodSettings,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return variables, volumes and mounts of a client of the cluster."""
    volume, mount = secret_volume(settings.dask_secret, _TLS)
    return _variables(), [volume], [mount]


def dask_cluster_spec(settings: PodSettings, name: str, run: str | None) -> dict[str, Any]:
    """Return the spec of a DaskCluster.

    Args:
        settings: Settings of its pods.
        name: Name of the cluster.
        run: Run that owns the cluster; None: it outlives runs.
    """
    variables, volumes, mounts = dask_driver_parts(settings)
    scheduler, worker = labels(name, "scheduler", run), labels(name, "worker", run)
    address = dask_address(settings, name)
    per_process = (settings.memory - settings.shm) // settings.cpu
    # The operator adds the variable with tcp:// where it is missing.
    known = env_vars(DASK_SCHEDULER_ADDRESS=address)
    head = container(
        "scheduler",
        settings,
        command=[
            "dask", "scheduler", "--protocol", "tls", "--port", str(_PORT),
            "--no-dashboard", "--dashboard-address", f":{_HTTP}",
        ],
        resources=container_resources(settings, driver=True),
        variables=variables,
        mounts=mounts,
        ports=[{"name": "tcp-comm", "containerPort": _PORT}, {"name": "http-dashboard", "containerPort": _HTTP}],
        **_probes(),
    )  # fmt: skip
    made = container(
        "worker",
        settings,
        command=[
            "dask", "worker", address, "--nworkers", str(settings.cpu), "--nthreads", "1",
            "--memory-limit", str(per_process), "--local-directory", SPILL,
            "--no-dashboard", "--dashboard-address", f":{_WORKER_HTTP}",
            "--death-timeout", "300",
        ],
        resources=container_resources(settings),
        variables=[*known, *variables],
        mounts=mounts,
        ports=[{"name": "http-dashboard", "containerPort": _WORKER_HTTP}],
        **_probes(),
    )  # fmt: skip
    return {
        "scheduler": {
            **pod(
                settings,
                [head],
                shm=settings.driver_shm,
                pod_labels=scheduler,
                volumes=volumes,
                restart="Always",
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
            "replicas": settings.workers,
            **pod(settings, [made], shm=settings.shm, pod_labels=worker, volumes=volumes, restart="Always"),
        },
    }


def _probes() -> dict[str, Any]:
    # Ports by name: the operator's CRDs accept no numbers here.
    probe = {"httpGet": {"path": "/health", "port": "http-dashboard"}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**probe, "periodSeconds": 3, "failureThreshold": 40},
        "readinessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 6},
    }
