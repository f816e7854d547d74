"""Status of a run from its Kubernetes objects. Pure: objects as the API returns them in, a `BackendStatus` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmflow.submit.base import BackendStatus

__all__ = ["object_status", "termination_reason", "waiting_reason"]

#: Reasons for which a container waits and that need a user's action; with the action.
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


def object_status(found: Mapping[str, Any]) -> BackendStatus:
    """Return the status of a Job, RayJob or DaskJob."""
    status = found.get("status") or {}
    kind = found["kind"]
    if found["metadata"].get("deletionTimestamp"):
        return BackendStatus("running", "it is being stopped")
    if kind == "Job":
        for condition in status.get("conditions") or []:
            if condition.get("status") == "True" and condition["type"] in ("Complete", "Failed"):
                if condition["type"] == "Complete":
                    return BackendStatus("done")
                return BackendStatus(
                    "failed", _join_reason(condition.get("reason"), condition.get("message"))
                )
        return BackendStatus("running" if status.get("ready") else "submitted")
    if kind == "RayJob":
        stage = status.get("jobDeploymentStatus") or ""
        if stage in _RAY:
            state = "done" if status.get("jobStatus") == "SUCCEEDED" else "failed"
            return BackendStatus(
                state, None if state == "done" else _join_reason(status.get("reason"), status.get("message"))
            )
        return BackendStatus(
            "running" if status.get("jobStatus") == "RUNNING" else "submitted", _operator(found, "KubeRay")
        )
    stage = status.get("jobStatus") or ""
    if stage in _DASK:
        return BackendStatus(_DASK[stage], None if _DASK[stage] == "done" else "its pod failed")
    return BackendStatus(
        "running" if stage == "Running" else "submitted", _operator(found, "the Dask operator")
    )


def _operator(found: Mapping[str, Any], name: str) -> str | None:
    if found.get("status"):
        return None
    return f"no operator has handled it yet: does {name} run, and watch this namespace?"


def waiting_reason(pods: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why a run does not start; None if nothing prevents it."""
    for pod in pods:
        name = pod["metadata"]["name"]
        status = pod.get("status") or {}
        for container in [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
        ]:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _STUCK:
                said = _join_reason(waiting["reason"], waiting.get("message"))
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


def termination_reason(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why the containers of the last pod were terminated; None if they ended by themselves."""
    for pod in reversed(pods):
        status = pod.get("status") or {}
        for container in status.get("containerStatuses") or []:
            for state in (container.get("state") or {}, container.get("lastState") or {}):
                terminated = state.get("terminated") or {}
                if terminated.get("reason") == "OOMKilled":
                    return (
                        f"container {container['name']} of pod {pod['metadata']['name']} ran out of memory and was "
                        "killed: give it more (memory in [kubernetes]), or its tasks less (--memory)"
                    )
        if status.get("reason") in ("Evicted", "NodeLost", "Preempting"):
            return f"pod {pod['metadata']['name']} was removed: {_join_reason(status['reason'], status.get('message'))}"
    return None


def _join_reason(reason: Any, message: Any) -> str:
    return ": ".join(str(part) for part in (reason, message) if part) or "no reason is given"
