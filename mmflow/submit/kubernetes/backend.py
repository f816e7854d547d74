"""Backend that submits runs to Kubernetes as Jobs, RayJobs or DaskJobs.

A run's folder is on a claim that the submitting machine can't read, or on an object store that both can. In the first
case this machine keeps a folder of the same name with the submission; the state comes from the API, and the driver's
last lines bring summary and report (`ending.py`). Nothing is executed in pods.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mmflow.errors import ConfigError, EngineError
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorder import CANCEL, EVENTS
from mmflow.submit.base import BackendStatus, Submission
from mmflow.submit.kubernetes.client import Api, ConflictError, MissingError, Resource
from mmflow.submit.kubernetes.log_protocol import LINE_PREFIX, RunOutcome, parse_events, parse_outcome
from mmflow.submit.kubernetes.pods import LABEL
from mmflow.submit.kubernetes.render import render
from mmflow.submit.kubernetes.settings import PodSettings
from mmflow.submit.kubernetes.status import object_status, termination_reason, waiting_reason
from mmflow.submit.kubernetes.workload import make_workload

__all__ = ["Kubernetes"]

_START_SECONDS = 600.0
_POLL_SECONDS = 1.0
_STOP_SECONDS = 15.0
#: Overlap with which a broken log connection is resumed.
_OVERLAP_SECONDS = 10
#: Limit of the difference between a node's clock and this machine's.
_CLOCK_SKEW_SECONDS = 120
_RESOURCES: dict[str, Resource] = {
    "ConfigMap": ("", "v1", "configmaps"),
    "Job": ("batch", "v1", "jobs"),
    "RayJob": ("ray.io", "v1", "rayjobs"),
    "DaskJob": ("kubernetes.dask.org", "v1", "daskjobs"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
}
#: Container and role label of the pod that prints the driver's output.
_LOG_SOURCES = {
    "Job": ("driver", "driver"),
    "RayJob": ("ray-job-submitter", "submitter"),
    "DaskJob": ("driver", "driver"),
}


class Kubernetes:
    """Backend of Kubernetes.

    Args:
        api: Opener of the API for a namespace and context; tests pass their own.
    """

    name = "kubernetes"

    def __init__(self, api: Any = Api) -> None:
        self._open = api

    def submit(self, submission: Submission, directory: RunDirectory) -> dict[str, Any]:
        if submission.pods is None:
            raise ConfigError("Kubernetes needs a [kubernetes] table: --config configs/k8s.toml")
        settings = PodSettings.load(submission.pods, "the configuration")
        workload = make_workload(
            submission, settings, again=f"{int(time.time()):x}" if submission.resumes else ""
        )
        api = self._open(settings.namespace, settings.context)
        *others, main = render(settings, workload)
        made: list[dict[str, Any]] = []
        try:
            for manifest in others:
                self._create(api, manifest)
                made.append(manifest)
            created = self._create(api, main)
        except BaseException:
            for manifest in made:
                with contextlib.suppress(EngineError):
                    api.delete(_RESOURCES[manifest["kind"]], manifest["metadata"]["name"])
            raise
        for manifest in made:
            api.set_owner(manifest, {**main, **created})
        if not directory.remote:
            for name in ("summary.json", CANCEL):  # left by an earlier submission
                directory.remove(name)
        return {
            "namespace": settings.namespace, "context": settings.context, "kind": main["kind"], "name": workload.name,
            "uid": created["metadata"]["uid"], "run": workload.run, "runs_dir": workload.runs_dir,
        }  # fmt: skip

    def _create(self, api: Api, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. An existing one is accepted if an earlier try created it whose response was lost."""
        try:
            return api.create(manifest)
        except ConflictError as error:
            mine = (manifest["metadata"].get("annotations") or {}).get(f"{LABEL}/submission")
            with contextlib.suppress(MissingError):
                if mine is None:
                    return dict(manifest)
                there = api.get(_RESOURCES[manifest["kind"]], manifest["metadata"]["name"])
                if (there["metadata"].get("annotations") or {}).get(f"{LABEL}/submission") == mine:
                    return there
            raise ConfigError(
                f"{error}; a run of that name exists: give another --name, or stop that one: mmflow cancel"
            ) from error

    def _open_api(self, handle: Mapping[str, Any]) -> tuple[Api, Resource]:
        return self._open(handle["namespace"], handle["context"]), _RESOURCES[handle["kind"]]

    # ---- states --------------------------------------------------------------------------------------------

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        try:
            api, resource = self._open_api(handle)
            return object_status(api.get(resource, handle["name"])).state in ("submitted", "running")
        except MissingError:
            return False
        except (ConfigError, EngineError):
            return None

    def status(self, handle: Mapping[str, Any], directory: RunDirectory) -> BackendStatus | None:
        """Return the status from the API. Copies new events, and at the end summary and report, into the folder."""
        api, resource = self._open_api(handle)
        try:
            status = object_status(api.get(resource, handle["name"]))
        except MissingError:
            if directory.exists(CANCEL):
                return BackendStatus("cancelled")
            return BackendStatus(
                "died",
                f"{handle['kind']} {handle['name']} is missing in {api.where}: it was deleted, or has expired",
            )
        if status.state in ("submitted", "running"):
            if status.state == "running":
                self._fetch_events(api, handle, directory)
                return status
            why = waiting_reason(api.pods(f"{LABEL}/run={handle['name']}"), api.events(handle["name"]))
            return BackendStatus("submitted", why or status.message)
        outcome = self._outcome(api, handle)
        if outcome is None:
            message = termination_reason(api.pods(self._selector(handle))) or status.message
            return BackendStatus("died" if status.state == "failed" else status.state, message)
        if not directory.remote:
            for name, data in outcome.files.items():
                directory.write_bytes(name, data)
        state = str(outcome.summary.get("state") or status.state)
        return BackendStatus(state, status.message, outcome.summary)

    def _fetch_events(self, api: Api, handle: Mapping[str, Any], directory: RunDirectory) -> None:
        """Append the run's events since the last fetch to the folder; none if the log can't be read."""
        if directory.remote:
            return
        known = max((float(e.get("t", 0.0)) for e in directory.read_facts(EVENTS)), default=0.0)
        # The whole log if the last event lies in the future: then the clock of the pod's node is ahead of ours.
        seconds = int(time.time() - known) + _CLOCK_SKEW_SECONDS if 0 < known <= time.time() else None
        container, _ = _LOG_SOURCES[handle["kind"]]
        for pod in api.pods(self._selector(handle))[-1:]:
            with contextlib.suppress(EngineError):
                lines = api.logs(pod["metadata"]["name"], container, seconds=seconds)
                if new := list(parse_events(lines, known)):
                    directory.append(EVENTS, new)

    def _outcome(self, api: Api, handle: Mapping[str, Any]) -> RunOutcome | None:
        """Return the outcome from the run's last lines or, where the logs are gone, from its pod's status."""
        container, _ = _LOG_SOURCES[handle["kind"]]
        for pod in reversed(api.pods(self._selector(handle))):
            with contextlib.suppress(EngineError):
                outcome = parse_outcome(api.logs(pod["metadata"]["name"], container))
                if outcome is not None:
                    return outcome
            for status in (pod.get("status") or {}).get("containerStatuses") or []:
                message = ((status.get("state") or {}).get("terminated") or {}).get("message") or ""
                outcome = parse_outcome(f"{LINE_PREFIX}end {line}" for line in message.splitlines()[-1:])
                if outcome is not None:
                    return outcome
        return None

    def _selector(self, handle: Mapping[str, Any]) -> str:
        return f"{LABEL}/run={handle['name']},{LABEL}/role={_LOG_SOURCES[handle['kind']][1]}"

    # ---- logs, stop ------------------------------------------------------------------------------------------

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """Yield the driver's output; a driver that restarted in another pod is followed there."""
        api, _ = self._open_api(handle)
        container, _ = _LOG_SOURCES[handle["kind"]]
        done: set[str] = set()
        while True:
            pods = [p for p in api.pods(self._selector(handle)) if p["metadata"]["name"] not in done]
            if not pods and follow and self.is_alive(handle) is not False:
                pods = self._wait_for_pod(api, handle, done)
            if not pods:
                if not done:
                    status = self.status(handle, directory)
                    why = (
                        status.message
                        if status and status.message
                        else "its pods were deleted, or have not started"
                    )
                    raise EngineError(f"no logs of run {handle['run']} in {api.where}: {why}")
                return
            for pod in pods:
                name = pod["metadata"]["name"]
                yield from self._container_lines(api, name, container, follow=follow)
                done.add(name)
            if not follow:
                return

    def _wait_for_pod(self, api: Api, handle: Mapping[str, Any], done: set[str]) -> list[dict[str, Any]]:
        """Wait for a driver's pod that runs, or has run."""
        for pods in api.watch_pods(self._selector(handle), _START_SECONDS):
            new = [p for p in pods if p["metadata"]["name"] not in done]
            if any((p.get("status") or {}).get("phase") not in (None, "Pending") for p in new):
                return new
            if not new and self.is_alive(handle) is False:
                return []
        return []

    def _container_lines(self, api: Api, pod: str, container: str, *, follow: bool) -> Iterator[str]:
        """Yield the output of a container; with `follow`, a broken connection is resumed after the last line."""
        last, at = "", time.monotonic()
        while True:
            fresh = False
            seconds = None if not last else int(time.monotonic() - at) + _OVERLAP_SECONDS
            try:
                for line in api.logs(pod, container, follow=follow, seconds=seconds):
                    when, _, text = line.partition(" ")
                    if when <= last:  # received before the connection broke
                        continue
                    last, at, fresh = when, time.monotonic(), True
                    if not text.startswith(LINE_PREFIX):
                        yield text + "\n"
            except MissingError:
                return
            if not follow or (not fresh and self._has_ended(api, pod)):
                return
            time.sleep(_POLL_SECONDS)

    def _has_ended(self, api: Api, pod: str) -> bool:
        found = [p for p in api.pods(f"{LABEL}/run") if p["metadata"]["name"] == pod]
        return not found or (found[0].get("status") or {}).get("phase") in ("Succeeded", "Failed")

    def stop(self, handle: Mapping[str, Any]) -> None:
        """Delete the run's object. Pods get SIGTERM, and a minute; the run's folder stays."""
        api, resource = self._open_api(handle)
        api.delete(resource, handle["name"])
        deadline = time.monotonic() + _STOP_SECONDS
        while self.is_alive(handle) is not False and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
