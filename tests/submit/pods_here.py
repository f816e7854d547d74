"""Pods as a kubelet would run them, on this machine: the containers' commands, environment, volumes, user and limits.

Each pod is a host of `tests.cluster.namespaces` (own address, processes, /dev/shm of its size), with a root file system
that is read-only but for what the manifest mounts, as the manifest's user, without capabilities, and in a memory control
group with the manifest's limit where this machine lets one be made.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmflow.config import parse_size
from tests.cluster.namespaces import Host, Network
from tests.memory_groups import MemoryGroup
from tests.waiting import wait_until

__all__ = ["Kubelet", "Pod", "ray_start"]

ROOT = Path(__file__).parents[2]
_SYSTEM = ("usr", "lib", "lib64", "bin", "sbin", "etc", "proc", "dev", "sys", "opt")


def _bytes(text: str) -> int:
    return parse_size(re.sub("([KMG]i)$", r"\1B", text))


class Pod:
    """Containers of a pod that runs; the last one stays."""

    def __init__(self, host: Host, process: subprocess.Popen[str], log: Path) -> None:
        self.host = host
        self.process = process
        self.log = log

    def text(self) -> str:
        """Return the output."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs:\n{self.text()}") from None


class Kubelet:
    """Runs pods.

    Args:
        network: Their hosts.
        folder: Folder for roots, logs and claims.
        claims: Folder of each claim, by name.
        secrets: Files of each Secret, by name.
        config_maps: Files of each ConfigMap, by name.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        *,
        claims: Mapping[str, Path],
        secrets: Mapping[str, Mapping[str, str]],
        config_maps: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._network = network
        self._folder = folder
        self._claims = claims
        self._secrets = secrets
        self._config_maps = config_maps
        self._groups: list[MemoryGroup] = []
        self.pods: list[Pod] = []
        self.names: dict[str, str] = {}
        folder.chmod(0o755)

    def host(self, spec: Mapping[str, Any]) -> Host:
        """A host with a pod's /dev/shm."""
        volumes = {v["name"]: v for v in spec["volumes"]}
        return self._network.host(shm_bytes=_bytes(volumes["shm"]["emptyDir"]["sizeLimit"]))

    def run(
        self,
        name: str,
        spec: Mapping[str, Any],
        host: Host,
        command: list[str] | None = None,
        init: Mapping[str, str] | None = None,
    ) -> Pod:
        """Start a pod's containers: those of `initContainers`, one after the other, then its own.

        Args:
            name: Name for its files.
            spec: Specification of the pod.
            host: Host that it runs on.
            command: Command that an operator would fill in.
            init: Variables that an operator would add to init containers.
        """
        (container,) = spec["containers"]
        here = self._folder / name
        here.mkdir()
        sources = self._sources(here, spec, container["securityContext"]["runAsUser"])
        lines = ["set -e"]
        for number, first in enumerate(spec.get("initContainers", ())):
            at = here / f"root{number}"
            lines += [
                self._script(here, at, host, sources, first),
                f"chroot {at} {self._words(host, first, first['command'], init or {})}",
            ]
        at = here / "root"
        group = self._group(name, container["resources"]["limits"]["memory"])
        inside = "" if group is None else f"{group.joins} && "
        words = [*(container.get("command") or command or []), *container.get("args", [])]
        lines += [
            self._script(here, at, host, sources, container),
            f"{inside}cd / && exec chroot {at} {self._words(host, container, words, {})}\n",
        ]
        (here / "start.sh").write_text("\n".join(lines))
        log = here / "log"
        with log.open("w") as out:
            process = host.start(
                "sh", str(here / "start.sh"), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.pods.append(Pod(host, process, log))
        return self.pods[-1]

    def _words(
        self, host: Host, container: Mapping[str, Any], words: Sequence[str], more: Mapping[str, str]
    ) -> str:
        """Return the command line that runs words as a container's user, with its variables."""
        env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **more,
        }
        for variable in container["env"]:
            if "value" in variable:
                env[variable["name"]] = variable["value"]
            elif "fieldRef" in variable["valueFrom"]:
                assert variable["valueFrom"]["fieldRef"] == {"fieldPath": "status.podIP"}
                env[variable["name"]] = host.address
            else:
                key = variable["valueFrom"]["secretKeyRef"]
                env[variable["name"]] = self._secrets[key["name"]][key["key"]]
        user = container["securityContext"]["runAsUser"]
        return shlex.join([
            "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", "--bounding-set=-all",
            "--inh-caps=-all", "env", "-i", *(f"{k}={v}" for k, v in env.items()), *words,
        ])  # fmt: skip

    def _sources(self, here: Path, spec: Mapping[str, Any], user: int) -> dict[str, Path]:
        """Return the folder of each volume of a pod."""
        made = {}
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                made[volume["name"]] = self._claims[volume["persistentVolumeClaim"]["claimName"]]
                continue
            source = made[volume["name"]] = here / f"volume-{volume['name']}"
            source.mkdir()
            if "secret" in volume:
                self._write(source, self._secrets[volume["secret"]["secretName"]])
            elif "configMap" in volume:
                files = self._config_maps[volume["configMap"]["name"]]
                items = volume["configMap"].get("items") or [{"key": k, "path": k} for k in files]
                self._write(source, {i["path"]: files[i["key"]] for i in items})
            os.chown(source, user, user)  # fsGroup
        return made

    def _script(
        self, here: Path, root: Path, host: Host, sources: Mapping[str, Path], container: Mapping[str, Any]
    ) -> str:
        """Return commands that make the root file system of a container."""
        root.mkdir()
        python = Path(sys.executable).resolve().parents[1]
        lines = [f"mount -t tmpfs tmpfs {root}"]

        def bind(source: Path | str, at: str, *, writable: bool = False) -> None:
            if not os.path.isfile(source):
                lines.append(f"mkdir -p {root}{at}")
            lines.append(f"mount --rbind {source} {root}{at}")
            if not writable and at not in ("/proc", "/dev", "/sys"):
                lines.append(f"mount -o remount,bind,ro {root}{at}")

        for name in _SYSTEM:
            path = Path("/", name)
            if path.is_symlink():
                lines.append(f"ln -s {os.readlink(path)} {root}/{name}")
            elif path.exists():
                bind(path, f"/{name}")
        for folder in {str(ROOT), str(Path(sys.prefix)), str(python)}:
            if not folder.startswith("/usr"):
                bind(folder, folder)
        hosts = here / "hosts"
        names = {"localhost": "127.0.0.1", host.name: host.address, **self.names}
        hosts.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
        bind(hosts, "/etc/hosts")
        for mount in container["volumeMounts"]:
            at = mount["mountPath"]
            if at != "/dev/shm":  # the host's
                bind(sources[mount["name"]], at, writable=not mount.get("readOnly", False))
        lines.append(f"mount -o remount,ro {root}")
        return "\n".join(lines)

    def _write(self, folder: Path, files: Mapping[str, str]) -> None:
        """Write files as the kubelet does, so that all change at once: links to a folder that is itself behind a link."""
        for name, text in files.items():
            path = folder / "..2026_01_01" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
        (folder / "..data").symlink_to("..2026_01_01")
        for first in {name.partition("/")[0] for name in files}:
            (folder / first).symlink_to(f"..data/{first}")

    def _group(self, name: str, limit: str) -> MemoryGroup | None:
        group = MemoryGroup.make(name, _bytes(limit))
        if group is not None:
            self._groups.append(group)
        return group

    def until(self, true: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait, and say what the pods printed if it does not come."""
        try:
            wait_until(true, what, seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n" + "\n".join(f"== {p.log}\n{p.text()}" for p in self.pods)
            ) from None

    def bury(self) -> None:
        """Remove the rest when the hosts are gone."""
        for pod in self.pods:
            pod.process.wait(20)
        for group in self._groups:
            group.remove()


def ray_start(spec: Mapping[str, Any], group: Mapping[str, Any], head: str | None) -> list[str]:
    """The command that KubeRay makes of rayStartParams (controllers/ray/common/pod.go).

    Args:
        spec: The pod's.
        group: headGroupSpec, or one of workerGroupSpecs.
        head: The head's service; None: it is the head.
    """
    limits = spec["containers"][0]["resources"]["limits"]
    flags = dict(group["rayStartParams"])
    if head is not None:
        flags.setdefault("address", f"{head}:6379")
    flags.setdefault("num-cpus", limits["cpu"])
    flags.setdefault("memory", str(_bytes(limits["memory"])))
    flags |= {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365", "block": "true"}
    text = " ".join(f"--{k}" if v == "true" else f"--{k}={v}" for k, v in flags.items())
    start = "ray start --head" if head is None else "ray start"
    return ["/bin/bash", "-c", "--", f"ulimit -n 65536; {start} {text}"]
