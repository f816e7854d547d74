"""What the objects of a run say about it. Pure: objects as the API gives them, in; a `Told`, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.runs.backends import Told

__all__ = ["ended", "state_of_object", "why_waiting"]

#: Reasons for which a container waits, that don't pass by themselves; and what to do.
_STUCK = {
    "ErrImagePull": "is the image's name right, is it in a registry that the nodes reach, and pull_secrets set?",
    "ImagePullBackOff": "is the image's name right, is it in a registry that the nodes reach, and pull_secrets set?",
    "InvalidImageName": "correct image in [kubernetes]",
    "ErrImageNeverPull": "load the image into the nodes, or give one of a registry",
    "CreateContainerConfigError": "a Secret or ConfigMap is missing (docs/kubernetes.md says how to make them)",
    "CreateContainerError": "the container can't be made on its node",
    "CrashLoopBackOff": "it starts, and ends at once: look at its logs",
}
_RAY = {"Complete": "done", "Failed": "failed", "ValidationFailed": "failed"}
_DASK = {"Successful": "done", "Completed": "done", "Failed": "failed"}


def state_of_object(found: Mapping[str, Any]) -> Told:
    """What a Job, RayJob or DaskJob says."""
    status = found.get("status") or {}
    kind = found["kind"]
    if found["metadata"].get("deletionTimestamp"):
        return Told("running", "it is being stopped")
    if kind == "Job":
        for condition in status.get("conditions") or []:
            if condition.get("status") == "True" and condition["type"] in ("Complete", "Failed"):
                if condition["type"] == "Complete":
                    return Told("done")
                return Told("failed", _joined(condition.get("reason"), condition.get("message")))
        return Told("running" if status.get("ready") else "submitted")
    if kind == "RayJob":
        stage = status.get("jobDeploymentStatus") or ""
        if stage in _RAY:
            state = "done" if status.get("jobStatus") == "SUCCEEDED" else "failed"
            return Told(
                state, None if state == "done" else _joined(status.get("reason"), status.get("message"))
            )
        return Told(
            "running" if status.get("jobStatus") == "RUNNING" else "submitted", _operator(found, "KubeRay")
        )
    stage = status.get("jobStatus") or ""
    if stage in _DASK:
        return Told(_DASK[stage], None if _DASK[stage] == "done" else "its pod failed")
    return Told("running" if stage == "Running" else "submitted", _operator(found, "the Dask operator"))


def _operator(found: Mapping[str, Any], name: str) -> str | None:
    if found.get("status"):
        return None
    return f"no operator has looked at it yet: does {name} run, and look after this namespace?"


def why_waiting(pods: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a run does not begin; None: nothing speaks against it."""
    for pod in pods:
        name = pod["metadata"]["name"]
        status = pod.get("status") or {}
        for container in [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
        ]:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                said = _joined(waiting["reason"], waiting.get("message"))
                return f"pod {name}, container {container['name']}: {said}; {_STUCK[waiting['reason']]}"
        for condition in status.get("conditions") or []:
            if condition.get("reason") == "Unschedulable":
                return (
                    f"pod {name} fits no node: {condition.get('message')}; ask for less (cpu, memory, spill in "
                    "[kubernetes]), or give the cluster nodes, or claims that can be bound"
                )
    for event in reversed(events):
        message = str(event.get("message") or "")
        if "exceeded quota" in message:
            return (
                f"{message}; ask for less (workers, cpu, memory in [kubernetes]), wait for other runs to end, or have "
                "the ResourceQuota raised"
            )
        if event.get("reason") in (
            "FailedCreate",
            "FailedMount",
            "FailedAttachVolume",
            "FailedToCreateWorkerPod",
        ):
            return f"{event['reason']}: {message}"
    return None


def ended(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """How the containers of the last pod ended, if that was not by themselves."""
    for pod in reversed(pods):
        status = pod.get("status") or {}
        for container in status.get("containerStatuses") or []:
            for state in (container.get("state") or {}, container.get("lastState") or {}):
                gone = state.get("terminated") or {}
                if gone.get("reason") == "OOMKilled":
                    return (
                        f"container {container['name']} of pod {pod['metadata']['name']} had no memory left and was "
                        "killed: give it more (memory in [kubernetes]), or its tasks less (--memory)"
                    )
        if status.get("reason") in ("Evicted", "NodeLost", "Preempting"):
            return f"pod {pod['metadata']['name']} was removed: {_joined(status['reason'], status.get('message'))}"
    return None


def _joined(reason: Any, message: Any) -> str:
    return ": ".join(str(part) for part in (reason, message) if part) or "no reason is given"
