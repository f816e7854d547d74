"""Submitted runs on Kubernetes: a `Backend` whose runs are Jobs, RayJobs or DaskJobs.

The folder of a run is on a claim that whoever submitted can't see, or on an object store that both see. Where it is not
seen, a folder of the same name stays here, with what was submitted; the state comes from the API, and at the end the
driver's last lines bring summary and report (`ending.py`). Nothing is executed in pods.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mmflow.errors import ConfigError, EngineError
from mmflow.k8s.client import Api, ConflictError, MissingError, Resource
from mmflow.k8s.ending import MARK, Ending, parse_events, parse_lines
from mmflow.k8s.pods import LABEL
from mmflow.k8s.render import render
from mmflow.k8s.settings import PodSettings
from mmflow.k8s.watching import ended, state_of_object, why_waiting
from mmflow.k8s.work import work_of
from mmflow.runs.backends import Submission, Told
from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorder import CANCEL, EVENTS

__all__ = ["Kubernetes"]

_BEGIN_SECONDS = 600.0
_POLL_SECONDS = 1.0
_STOP_SECONDS = 15.0
#: Logs are asked for again from so long before the last line.
_AGAIN_SECONDS = 10
#: So much may the clocks of a node and of this machine differ.
_CLOCKS_SECONDS = 120
_RESOURCES: dict[str, Resource] = {
    "ConfigMap": ("", "v1", "configmaps"),
    "Job": ("batch", "v1", "jobs"),
    "RayJob": ("ray.io", "v1", "rayjobs"),
    "DaskJob": ("kubernetes.dask.org", "v1", "daskjobs"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
}
#: Container and labels of the pod that prints what the driver prints.
_PRINTS = {
    "Job": ("driver", "driver"),
    "RayJob": ("ray-job-submitter", "submitter"),
    "DaskJob": ("driver", "driver"),
}


class Kubernetes:
    """A `Backend`.

    Args:
        api: For tests: opens the API of a namespace and context.
    """

    name = "kubernetes"

    def __init__(self, api: Any = Api) -> None:
        self._open = api

    def submit(self, what: Submission, directory: RunDirectory) -> dict[str, Any]:
        """See `Backend.submit`."""
        if what.pods is None:
            raise ConfigError("Kubernetes needs a [kubernetes] table: --config configs/k8s.toml")
        settings = PodSettings.load(what.pods, "the configuration")
        resumed = any(a.startswith("--resume=") for a in what.arguments)
        work = work_of(what, settings, again=f"{int(time.time()):x}" if resumed else "")
        api = self._open(settings.namespace, settings.context)
        *others, main = render(settings, work)
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
            api.own(manifest, {**main, **created})
        if not directory.remote:
            for name in ("summary.json", CANCEL):  # of an earlier opening
                directory.remove(name)
        return {
            "namespace": settings.namespace, "context": settings.context, "kind": main["kind"], "name": work.name,
            "uid": created["metadata"]["uid"], "run": work.run, "runs_dir": work.runs_dir,
        }  # fmt: skip

    def _create(self, api: Api, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; that it is there may be our own doing, where the answer to an earlier try was lost."""
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
                f"{error}; a run of that name is there: give another --run-id, or stop that one: mmflow cancel"
            ) from error

    def _at(self, handle: Mapping[str, Any]) -> tuple[Api, Resource]:
        return self._open(handle["namespace"], handle["context"]), _RESOURCES[handle["kind"]]

    # ---- states --------------------------------------------------------------------------------------------

    def alive(self, handle: Mapping[str, Any]) -> bool | None:
        """See `Backend.alive`."""
        try:
            api, resource = self._at(handle)
            return state_of_object(api.get(resource, handle["name"])).state in ("submitted", "running")
        except MissingError:
            return False
        except (ConfigError, EngineError):
            return None

    def told(self, handle: Mapping[str, Any], directory: RunDirectory) -> Told | None:
        """See `Backend.told`: the API's word. Events, and at the end summary and report, come into the folder."""
        api, resource = self._at(handle)
        try:
            told = state_of_object(api.get(resource, handle["name"]))
        except MissingError:
            if directory.exists(CANCEL):
                return Told("cancelled")
            return Told(
                "died",
                f"{handle['kind']} {handle['name']} is gone from {api.where}: deleted, or kept no longer",
            )
        if told.state in ("submitted", "running"):
            if told.state == "running":
                self._bring_events(api, handle, directory)
                return told
            why = why_waiting(api.pods(f"{LABEL}/run={handle['name']}"), api.events(handle["name"]))
            return Told("submitted", why or told.message)
        ending = self._ending(api, handle)
        if ending is None:
            message = ended(api.pods(self._selector(handle))) or told.message
            return Told("died" if told.state == "failed" else told.state, message)
        if not directory.remote:
            for name, data in ending.files.items():
                directory.write_bytes(name, data)
        state = str(ending.summary.get("state") or told.state)
        return Told(state, told.message, ending.summary)

    def _bring_events(self, api: Api, handle: Mapping[str, Any], directory: RunDirectory) -> None:
        """What the run has told of itself since somebody last looked. A log that can't be read brings none."""
        if directory.remote:
            return
        known = max((float(e.get("t", 0.0)) for e in directory.read_facts(EVENTS)), default=0.0)
        seconds = int(time.time() - known) + _CLOCKS_SECONDS if known else None
        container, _ = _PRINTS[handle["kind"]]
        for pod in api.pods(self._selector(handle))[-1:]:
            with contextlib.suppress(EngineError):
                if seconds is None or seconds > 0:
                    lines = api.logs(pod["metadata"]["name"], container, seconds=seconds)
                    if new := list(parse_events(lines, known)):
                        directory.append(EVENTS, new)

    def _ending(self, api: Api, handle: Mapping[str, Any]) -> Ending | None:
        """What the run said at its end: its last lines, or, where the logs are gone, what its pod's status keeps."""
        container, _ = _PRINTS[handle["kind"]]
        for pod in reversed(api.pods(self._selector(handle))):
            with contextlib.suppress(EngineError):
                ending = parse_lines(api.logs(pod["metadata"]["name"], container))
                if ending is not None:
                    return ending
            for status in (pod.get("status") or {}).get("containerStatuses") or []:
                message = ((status.get("state") or {}).get("terminated") or {}).get("message") or ""
                ending = parse_lines(f"{MARK}end {line}" for line in message.splitlines()[-1:])
                if ending is not None:
                    return ending
        return None

    def _selector(self, handle: Mapping[str, Any]) -> str:
        return f"{LABEL}/run={handle['name']},{LABEL}/role={_PRINTS[handle['kind']][1]}"

    # ---- logs, stop ------------------------------------------------------------------------------------------

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """See `Backend.logs`. A driver that was started again in another pod is followed there."""
        api, _ = self._at(handle)
        container, _ = _PRINTS[handle["kind"]]
        done: set[str] = set()
        while True:
            pods = [p for p in api.pods(self._selector(handle)) if p["metadata"]["name"] not in done]
            if not pods and follow and self.alive(handle) is not False:
                pods = self._begun(api, handle, done)
            if not pods:
                if not done:
                    told = self.told(handle, directory)
                    why = told.message if told and told.message else "its pods are gone, or have not begun"
                    raise EngineError(f"no logs of run {handle['run']} in {api.where}: {why}")
                return
            for pod in pods:
                name = pod["metadata"]["name"]
                yield from self._printed(api, name, container, follow=follow)
                done.add(name)
            if not follow:
                return

    def _begun(self, api: Api, handle: Mapping[str, Any], done: set[str]) -> list[dict[str, Any]]:
        """Wait for a driver's pod that runs, or has run."""
        for pods in api.watch_pods(self._selector(handle), _BEGIN_SECONDS):
            new = [p for p in pods if p["metadata"]["name"] not in done]
            if any((p.get("status") or {}).get("phase") not in (None, "Pending") for p in new):
                return new
            if not new and self.alive(handle) is False:
                return []
        return []

    def _printed(self, api: Api, pod: str, container: str, *, follow: bool) -> Iterator[str]:
        """What a container printed; with `follow`, a connection that breaks is taken up after the last line."""
        last, at = "", time.monotonic()
        while True:
            fresh = False
            seconds = None if not last else int(time.monotonic() - at) + _AGAIN_SECONDS
            try:
                for line in api.logs(pod, container, follow=follow, seconds=seconds):
                    when, _, text = line.partition(" ")
                    if when <= last:  # it came before the connection broke
                        continue
                    last, at, fresh = when, time.monotonic(), True
                    if not text.startswith(MARK):
                        yield text + "\n"
            except MissingError:
                return
            if not follow or (not fresh and self._over(api, pod)):
                return
            time.sleep(_POLL_SECONDS)

    def _over(self, api: Api, pod: str) -> bool:
        found = [p for p in api.pods(f"{LABEL}/run") if p["metadata"]["name"] == pod]
        return not found or (found[0].get("status") or {}).get("phase") in ("Succeeded", "Failed")

    def stop(self, handle: Mapping[str, Any]) -> None:
        """See `Backend.stop`. Pods get SIGTERM, and a minute; the run's folder stays."""
        api, resource = self._at(handle)
        api.delete(resource, handle["name"])
        deadline = time.monotonic() + _STOP_SECONDS
        while self.alive(handle) is not False and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
