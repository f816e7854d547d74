"""Operations of the Kubernetes API that mmflow uses, by the official client: objects, events, logs, watches.

    temporary failures (429, 5xx, a broken connection) are retried, after the pause that the server requests
    others raise an error that says what happened, where, and what to do

The only module that imports `kubernetes`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3
from kubernetes import client as official
from kubernetes import config as official_config

from mmflow.errors import ConfigError, EngineError

__all__ = ["Api", "ConflictError", "MissingError", "Resource"]

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 30.0
#: Of its own: a program that seeds the generator of all gets the numbers that it expects.
_JITTER = random.Random()
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
#: Servers end watches after some minutes.
_WATCH_SECONDS = 240

#: API group, version, plural.
Resource = tuple[str, str, str]
_OPERATORS = {"ray.io": "KubeRay", "kubernetes.dask.org": "the Dask operator"}


class MissingError(EngineError):
    """Absence of the requested object."""


class ConflictError(EngineError):
    """Existence of another object of that name."""


class Api:
    """Client of one namespace of a cluster.

    Args:
        namespace: The namespace.
        context: Context of the kubeconfig; None: its current one, or the service account of this pod.
        api: A configured client; tests pass their own.

    Raises:
        ConfigError: There is no kubeconfig, or no such context.
    """

    def __init__(self, namespace: str, context: str | None = None, api: Any = None) -> None:
        self.namespace = namespace
        self._api = api or _api_client(context)
        self._core = official.CoreV1Api(self._api)
        self._custom = official.CustomObjectsApi(self._api)
        self.where = f"namespace {namespace} of {self._api.configuration.host}"

    # ---- objects ------------------------------------------------------------------------------------------

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object.

        Raises:
            ConflictError: There is one of that name.
            EngineError: It is refused.
        """
        what = f"create {manifest['kind']} {manifest['metadata']['name']}"
        made: dict[str, Any]
        if manifest["apiVersion"] == "v1":
            made = self._call(
                what, lambda: self._core.create_namespaced_config_map(self.namespace, dict(manifest), **_RAW)
            )
            return made
        resource = _resource(manifest)
        made = self._call(
            what,
            lambda: self._custom.create_namespaced_custom_object(
                *resource[:2], self.namespace, resource[2], dict(manifest), **_PLAIN
            ),
            group=resource[0],
        )
        return made

    def get(self, resource: Resource, name: str) -> dict[str, Any]:
        """Read an object.

        Raises:
            MissingError: There is none.
            EngineError: It can't be read.
        """
        found: dict[str, Any] = self._call(
            f"read {resource[2]} {name}",
            lambda: self._custom.get_namespaced_custom_object(
                *resource[:2], self.namespace, resource[2], name, **_PLAIN
            ),
            group=resource[0],
        )
        return found

    def delete(self, resource: Resource, name: str) -> None:
        """Delete an object, and then what belongs to it. Idempotent.

        Raises:
            EngineError: It can't be deleted.
        """
        options = {"propagationPolicy": "Foreground"}
        with contextlib.suppress(MissingError):
            if resource[0] == "":
                self._call(
                    f"delete {resource[2]} {name}",
                    lambda: self._core.delete_namespaced_config_map(
                        name, self.namespace, body=options, **_RAW
                    ),
                )
            else:
                self._call(
                    f"delete {resource[2]} {name}",
                    lambda: self._custom.delete_namespaced_custom_object(
                        *resource[:2], self.namespace, resource[2], name, body=options, **_PLAIN
                    ),
                    group=resource[0],
                )

    def set_owner(self, manifest: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
        """Make an object owned by another, so that it is deleted with it.

        Raises:
            EngineError: It can't be changed.
        """
        reference = {
            "apiVersion": owner["apiVersion"], "kind": owner["kind"],
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        }  # fmt: skip
        patch = {"metadata": {"ownerReferences": [reference]}}
        name = manifest["metadata"]["name"]
        what = f"change {manifest['kind']} {name}"
        if manifest["apiVersion"] == "v1":
            self._call(
                what, lambda: self._core.patch_namespaced_config_map(name, self.namespace, patch, **_RAW)
            )
            return
        resource = _resource(manifest)
        self._call(
            what,
            lambda: self._custom.patch_namespaced_custom_object(
                *resource[:2], self.namespace, resource[2], name, patch, **_PLAIN
            ),
        )

    # ---- pods ---------------------------------------------------------------------------------------------

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods with these labels, oldest first.

        Raises:
            EngineError: They can't be listed.
        """
        return self._pods(selector)[0]

    def _pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        listed = self._call(
            "list pods",
            lambda: self._core.list_namespaced_pod(self.namespace, label_selector=selector, **_RAW),
        )
        pods = sorted(listed.get("items") or [], key=lambda p: p["metadata"].get("creationTimestamp") or "")
        return pods, str((listed.get("metadata") or {}).get("resourceVersion") or "")

    def watch_pods(self, selector: str, seconds: float) -> Iterator[list[dict[str, Any]]]:
        """Yield the pods with these labels: now, and after each change, for this many seconds.

        A watch that ends is resumed where it ended; one whose version is too old (410) restarts with a list.

        Raises:
            EngineError: They can't be listed.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pods, version = self._pods(selector)
            known = {p["metadata"]["name"]: p for p in pods}
            yield list(known.values())
            while version and (left := deadline - time.monotonic()) > 0:
                began = time.monotonic()
                for event in self._watch(selector, version, left):
                    if event.get("type") == "ERROR":
                        version = ""
                        break
                    pod = event["object"]
                    version = pod["metadata"].get("resourceVersion") or version
                    if event["type"] == "BOOKMARK":
                        continue
                    known[pod["metadata"]["name"]] = pod
                    if event["type"] == "DELETED":
                        del known[pod["metadata"]["name"]]
                    yield sorted(known.values(), key=lambda p: p["metadata"].get("creationTimestamp") or "")
                if time.monotonic() - began < 1:  # a server that ends each watch at once must not be flooded
                    time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))

    def _watch(self, selector: str, version: str, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the events of one watch until it ends for any reason."""
        try:
            response = self._call(
                "watch pods",
                lambda: self._core.list_namespaced_pod(
                    self.namespace, label_selector=selector, resource_version=version, watch=True,
                    allow_watch_bookmarks=True, timeout_seconds=max(1, int(min(seconds, _WATCH_SECONDS))), **_STREAM,
                ),
                raw=True,
            )  # fmt: skip
        except MissingError:  # 410 comes as a status, too
            yield {"type": "ERROR"}
            return
        for line in _lines(response):
            try:
                event = json.loads(line)
            except ValueError:
                return  # cut off
            if isinstance(event, dict) and isinstance(event.get("object"), dict):
                yield event

    def events(self, prefix: str) -> list[dict[str, Any]]:
        """Return the warnings about objects with this name prefix, latest last; none if they may not be read."""
        try:
            listed = self._call(
                "list events",
                lambda: self._core.list_namespaced_event(
                    self.namespace, field_selector="type=Warning", **_RAW
                ),
            )
        except EngineError:
            return []
        found = [
            e for e in listed.get("items") or []
            if str((e.get("involvedObject") or {}).get("name", "")).startswith(prefix)
        ]  # fmt: skip
        return sorted(found, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")

    def logs(
        self, pod: str, container: str, *, follow: bool = False, seconds: int | None = None
    ) -> Iterator[str]:
        """Yield lines that a container printed (in the last `seconds` seconds); with `follow` until it has ended.

        Each begins with its time, from which a broken connection can be resumed.

        Raises:
            MissingError: The pod no longer exists.
            EngineError: They can't be read.
        """
        response = self._call(
            f"read logs of pod {pod}",
            lambda: self._core.read_namespaced_pod_log(
                pod, self.namespace, container=container, follow=follow, timestamps=True, since_seconds=seconds,
                **(_STREAM if follow else _RAW),
            ),
            raw=True,
        )  # fmt: skip
        yield from _lines(response)

    # ---- calls ---------------------------------------------------------------------------------------------

    def _call(self, what: str, call: Callable[[], Any], *, group: str = "", raw: bool = False) -> Any:
        """Make a call, with retries where they may help; raise errors as mmflow's."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = call()
                status = getattr(response, "status", 200)
                if (
                    isinstance(status, int) and status >= 400
                ):  # the client leaves answers alone that it does not parse
                    raise _api_exception(response)
                return response if raw or isinstance(response, dict) else json.loads(response.data or "{}")
            except official.ApiException as error:
                if error.status in (429, 500, 502, 503, 504) and attempt < _ATTEMPTS:
                    time.sleep(_pause(attempt, (error.headers or {}).get("Retry-After")))
                    continue
                raise self._error(what, error, group) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if isinstance(error, urllib3.exceptions.SSLError) or attempt == _ATTEMPTS:
                    raise EngineError(
                        f"can't {what}: the Kubernetes API at {self._api.configuration.host} does not answer "
                        f"({_reason(error)}); is the cluster up, the VPN on, and kubectl's context the right one?"
                    ) from error
                time.sleep(_pause(attempt, None))
        raise AssertionError("unreachable")

    def _error(self, what: str, error: official.ApiException, group: str) -> EngineError:
        body: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # a proxy in between may send something other than JSON
            read = json.loads(error.body or "{}")
            body = read if isinstance(read, dict) else {}
        message = str(body.get("message") or error.reason or "").strip()
        said = f"can't {what} in {self.where}: {message} (HTTP {error.status})"
        if error.status in (404, 410):
            details = body.get("details") or {}
            if details.get("kind") == "namespaces":
                return EngineError(f"{said}; make the namespace first: kubectl apply -k k8s/base")
            if group in _OPERATORS and "name" not in details:
                return EngineError(
                    f"{said}; this cluster does not know {group}: install {_OPERATORS[group]} (docs/kubernetes.md), or "
                    'set kind = "job" in [kubernetes]'
                )
            return MissingError(said)
        if error.status == 409:
            return ConflictError(said)
        if error.status == 401:
            return EngineError(
                f"{said}; your credentials are missing or too old: log in to the cluster again"
            )
        if error.status == 403 and "exceeded quota" in message:
            return EngineError(
                f"{said}; ask for less (workers, cpu, memory in [kubernetes]), wait for other runs to end, or have the "
                "ResourceQuota raised"
            )
        if error.status == 403:
            return EngineError(
                f"{said}; you need the role mmflow-submitter of k8s/base in this namespace: kubectl create rolebinding"
            )
        if error.status == 422:
            return EngineError(f"{said}; a value of [kubernetes] does not fit this cluster")
        return EngineError(said)


_RAW: dict[str, Any] = {"_preload_content": False, "_request_timeout": (_CONNECT_SECONDS, _READ_SECONDS)}
_PLAIN: dict[str, Any] = {"_request_timeout": (_CONNECT_SECONDS, _READ_SECONDS)}
_STREAM: dict[str, Any] = {
    "_preload_content": False,
    "_request_timeout": (_CONNECT_SECONDS, _WATCH_SECONDS + 30),
}


def _api_exception(response: Any) -> official.ApiException:
    made = official.ApiException(status=response.status, reason=response.reason)
    made.body = response.read().decode(errors="replace")
    made.headers = response.headers
    response.release_conn()
    return made


def _api_client(context: str | None) -> Any:
    configuration = official.Configuration()
    # Read here: the client reads it once, when it is imported.
    file = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    try:
        if context is None and not os.path.exists(file) and "KUBERNETES_SERVICE_HOST" in os.environ:
            official_config.load_incluster_config(client_configuration=configuration)
        else:
            official_config.load_kube_config(file, context=context, client_configuration=configuration)
    except (official_config.ConfigException, OSError) as error:
        raise ConfigError(
            f"can't find a Kubernetes cluster: {_reason(error)}; set KUBECONFIG, or context in [kubernetes] to one of "
            "kubectl config get-contexts"
        ) from error
    configuration.retries = False  # `_call` retries
    return official.ApiClient(configuration)


def _resource(manifest: Mapping[str, Any]) -> Resource:
    group, _, version = manifest["apiVersion"].partition("/")
    kind = manifest["kind"].lower()
    return group, version, kind[:-1] + "ies" if kind.endswith("y") else f"{kind}s"


def _lines(response: Any) -> Iterator[str]:
    """Yield the lines of a response until it ends or breaks."""
    rest = b""
    try:
        for piece in response.stream(amt=None, decode_content=True):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
    except (urllib3.exceptions.HTTPError, OSError):
        return  # the caller resumes after the last line
    finally:
        response.close()
        response.release_conn()
    if rest:
        yield rest.decode(errors="replace")


def _pause(attempt: int, retry_after: str | None) -> float:
    if retry_after is not None:
        with contextlib.suppress(ValueError):
            return min(float(retry_after), _MAX_PAUSE_SECONDS)
    return min(float(_PAUSE_SECONDS * 2 ** (attempt - 1)), _MAX_PAUSE_SECONDS) * _JITTER.uniform(0.5, 1)


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", None)
    text = str(cause if isinstance(cause, BaseException) else error).strip()
    return (text.splitlines() or [type(error).__name__])[0]
