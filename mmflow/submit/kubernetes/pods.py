"""Hardening, volumes, resources and labels that all pods share. Pure: settings in, dicts out.

/tmp       ephemeral storage, since the root file system is read-only; HOME too
/dev/shm   memory, counted in the container's limit: Ray's object store, blocks of Dask and the local engine
/spill     ephemeral storage, or a claim that lives as long as its pod
/job       code, from the run's ConfigMap
others     claims
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.submit.kubernetes.settings import PodSettings, quantity

__all__ = [
    "CODE",
    "CONFIG",
    "LABEL",
    "PART_OF",
    "SPILL",
    "USER",
    "container",
    "container_resources",
    "env_vars",
    "init_container",
    "labels",
    "metadata",
    "pod",
    "secret_env",
    "secret_volume",
]

#: User id in the image (k8s/Dockerfile).
USER = 10001
CODE, SPILL, CONFIG = "/job", "/spill", "/etc/mmflow"
PART_OF = {"app.kubernetes.io/part-of": "mmflow"}
LABEL = "mmflow.io"
_GIB = 1 << 30
#: Space for /tmp and the containers' logs.
_TMP = 2 * _GIB
#: On SIGTERM a driver ends as on Ctrl-C: its tasks stop between batches, and its journal is complete.
GRACE_SECONDS = 60


def labels(cluster: str, role: str, run: str | None = None) -> dict[str, str]:
    """Return the labels of a pod.

    Args:
        cluster: Name of the cluster; its pods may talk to each other.
        role: driver, head, scheduler, worker or submitter.
        run: Run that owns the pod; None: a cluster that outlives runs.
    """
    made = {**PART_OF, f"{LABEL}/cluster": cluster, f"{LABEL}/role": role}
    return made if run is None else {**made, f"{LABEL}/run": run}


def metadata(name: str, settings: PodSettings, pod_labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of an object."""
    return {"name": name, "namespace": settings.namespace, "labels": dict(pod_labels)}


def env_vars(**values: str) -> list[dict[str, Any]]:
    """Return environment variables of a container."""
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_env(name: str, secret: str, key: str) -> dict[str, Any]:
    """Return a variable whose value is in a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def secret_volume(secret: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a volume with a Secret's files, and its mount."""
    name = path.strip("/").replace("/", "-")
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}, {
        "name": name, "mountPath": path, "readOnly": True,
    }  # fmt: skip


def container_resources(
    settings: PodSettings, *, driver: bool = False, spills: bool = True
) -> dict[str, Any]:
    """Return requests and limits. They are equal: a pod with smaller requests is the first to be evicted."""
    disk = _TMP + (settings.spill if spills and settings.spill_class is None else 0)
    wanted = {
        "cpu": str(settings.driver_cpu if driver else settings.cpu),
        "memory": quantity(settings.driver_memory if driver else settings.memory),
        "ephemeral-storage": quantity(disk),
    }
    return {"requests": wanted, "limits": dict(wanted)}


def container(
    name: str,
    settings: PodSettings,
    *,
    command: Sequence[str] | None,
    resources: Mapping[str, Any],
    variables: Sequence[Mapping[str, Any]] = (),
    mounts: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return a hardened container, with the volumes of `pod`.

    Args:
        name: Name of the container.
        settings: Settings of the run.
        command: Command; None: an operator fills it in.
        resources: Result of `container_resources`.
        variables: Variables in addition to those of all containers.
        mounts: Mounts in addition to those of all containers.
        more: Other fields: ports, probes.
    """
    common = env_vars(HOME="/tmp", TMPDIR="/tmp", PYTHONUNBUFFERED="1", **settings.environment)
    made: dict[str, Any] = {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [*common, *map(dict, variables)],
        "resources": dict(resources),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "spill", "mountPath": SPILL},
            *(
                {
                    "name": claim.volume,
                    "mountPath": claim.path,
                    **({"readOnly": True} if claim.read_only else {}),
                }
                for claim in settings.claims
            ),
            *map(dict, mounts),
        ],
        "securityContext": security_context(),
        **more,
    }
    if command is not None:
        made["command"] = list(command)
    if settings.environment_secrets:
        made["envFrom"] = [{"secretRef": {"name": name}} for name in settings.environment_secrets]
    return made


def init_container(
    name: str,
    settings: PodSettings,
    *,
    command: Sequence[str],
    variables: Sequence[Mapping[str, Any]],
    mounts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return a hardened container that ends before those of `container` start, and sees nothing of them but /tmp.

    Args:
        name: Name of the container.
        settings: Settings of the run.
        command: Command.
        variables: All variables.
        mounts: Mounts in addition to /tmp.
    """
    small = {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": [*map(dict, variables)],
        "resources": {"requests": small, "limits": dict(small)},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *map(dict, mounts)],
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def security_context() -> dict[str, Any]:
    """Return the security context of every container: the "restricted" Pod Security Standard, and a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod(
    settings: PodSettings,
    containers: Sequence[Mapping[str, Any]],
    *,
    shm: int,
    pod_labels: Mapping[str, str],
    volumes: Sequence[Mapping[str, Any]] = (),
    init: Sequence[Mapping[str, Any]] = (),
    restart: str | None = None,
    token: bool = False,
) -> dict[str, Any]:
    """Return a pod as templates have it: its labels and its spec.

    Args:
        settings: Settings of the run.
        containers: Results of `container`.
        shm: Bytes of /dev/shm.
        pod_labels: Labels of the pod; pods of one cluster and role are spread over nodes.
        volumes: Volumes in addition to those of all pods.
        init: Results of `init_container`.
        restart: restartPolicy; None: the operator sets it.
        token: Whether it may speak to the Kubernetes API (Ray's autoscaler does).
    """
    made: dict[str, Any] = {
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": token,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _spread_by(pod_labels)},
            }
        ],
        "containers": [dict(c) for c in containers],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": quantity(_TMP)}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": quantity(shm)}},
            _spill(settings),
            *(
                {
                    "name": claim.volume,
                    "persistentVolumeClaim": {
                        "claimName": claim.name, **({"readOnly": True} if claim.read_only else {}),
                    },
                }
                for claim in settings.claims
            ),
            *map(dict, volumes),
        ],
    }  # fmt: skip
    if init:
        made["initContainers"] = [dict(c) for c in init]
    if restart is not None:
        made["restartPolicy"] = restart
    if settings.pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    if settings.node_selector:
        made["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        made["tolerations"] = [dict(t) for t in settings.tolerations]
    return {"metadata": {"labels": dict(pod_labels)}, "spec": made}


def _spread_by(pod_labels: Mapping[str, str]) -> dict[str, str]:
    return {key: pod_labels[key] for key in (f"{LABEL}/cluster", f"{LABEL}/role")}


def _spill(settings: PodSettings) -> dict[str, Any]:
    if settings.spill_class is None:
        return {"name": "spill", "emptyDir": {"sizeLimit": quantity(settings.spill)}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": settings.spill_class,
        "resources": {"requests": {"storage": quantity(settings.spill)}},
    }
    return {"name": "spill", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
