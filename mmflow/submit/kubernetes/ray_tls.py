"""TLS of Ray's pods: each has a certificate of its own, which an init container makes when the pod starts.

    Secret: authority, its key ──► init container ──► /tls, in memory: ca.crt, tls.crt, tls.key ──► Ray

Ray verifies the address or name that it connects to. So a certificate holds the pod's address, and that of the head the
name of its service, which KubeRay passes to init containers as FQ_RAY_IP. What KubeRay adds to worker pods
(`wait-gcs-ready`) comes after, with the variables and mounts of the Ray container.

Invariant: only the init container mounts the Secret. Functions of users can't read the authority's key, so a worker
can't present itself as the head.
"""

from __future__ import annotations

from typing import Any

from mmflow.submit.kubernetes.pods import env_vars, init_container, secret_volume
from mmflow.submit.kubernetes.settings import PodSettings

__all__ = ["certificate_container", "tls_mounts", "tls_variables", "tls_volumes"]

_AUTHORITY, _TLS = "/authority", "/tls"
#: A pod gets its certificate once, so this is how long it may run; also, the authority must be valid.
_DAYS = 365
# A step that fails ends the script (`-e`), and the pod's status shows what openssl said.
_SCRIPT = """\
set -eu
umask 077
names="DNS:localhost,IP:127.0.0.1,IP:{names}"
printf 'basicConstraints=critical,CA:FALSE\\nsubjectAltName=%s\\n' "$names" > /tmp/names
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ray \\
  -keyout {tls}/tls.key -out /tmp/request
openssl x509 -req -in /tmp/request -CA {authority}/tls.crt -CAkey {authority}/tls.key \\
  -days {days} -extfile /tmp/names -out {tls}/tls.crt
openssl verify -CAfile {authority}/tls.crt {tls}/tls.crt
cp {authority}/tls.crt {tls}/ca.crt
"""


def certificate_container(settings: PodSettings, *, head: bool) -> list[dict[str, Any]]:
    """Return the init container that makes the certificate of a pod; none without an authority."""
    if settings.ray_ca_secret is None:
        return []
    names = "$POD_IP,DNS:$FQ_RAY_IP" if head else "$POD_IP"
    script = _SCRIPT.format(names=names, authority=_AUTHORITY, tls=_TLS, days=_DAYS)
    _, authority = secret_volume(settings.ray_ca_secret, _AUTHORITY)
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [
        init_container(
            "certificate",
            settings,
            command=["sh", "-c", script],
            variables=[address],
            mounts=[authority, {"name": "tls", "mountPath": _TLS}],
        )
    ]


def tls_volumes(settings: PodSettings) -> list[dict[str, Any]]:
    """Return the volumes of a pod of Ray: the authority, and the pod's certificate."""
    if settings.ray_ca_secret is None:
        return []
    authority, _ = secret_volume(settings.ray_ca_secret, _AUTHORITY)
    return [authority, {"name": "tls", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]


def tls_mounts(settings: PodSettings) -> list[dict[str, Any]]:
    """Return the mount of the pod's certificate."""
    return (
        [{"name": "tls", "mountPath": _TLS, "readOnly": True}] if settings.ray_ca_secret is not None else []
    )


def tls_variables(settings: PodSettings) -> list[dict[str, Any]]:
    """Return the variables that turn on Ray's TLS."""
    if settings.ray_ca_secret is None:
        return []
    return env_vars(
        RAY_USE_TLS="1",
        RAY_TLS_SERVER_CERT=f"{_TLS}/tls.crt",
        RAY_TLS_SERVER_KEY=f"{_TLS}/tls.key",
        RAY_TLS_CA_CERT=f"{_TLS}/ca.crt",
    )
