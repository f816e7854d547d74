"""Generator of the kustomize files from `render.py`, so that overlays and submitted runs have the same manifests.

    python -m mmflow.submit.kubernetes.overlays k8s        writes them again; a test compares them

The files that users read and change (kustomization.yaml, k8s/base) are written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmflow.distribution import VERSION
from mmflow.submit.kubernetes.render import cluster_manifests, render
from mmflow.submit.kubernetes.settings import PodSettings
from mmflow.submit.kubernetes.workload import Workload
from mmflow.submit.kubernetes.yaml import as_yaml

__all__ = ["files", "main"]

_HEAD = (
    "# Made by `python -m mmflow.submit.kubernetes.overlays k8s`: change mmflow/submit/kubernetes, or patch this in an "
    "overlay of your own.\n"
)
_JOB = "/opt/mmflow/jobs/pricing_summary.py"
_TABLE: dict[str, Any] = {
    "image": f"mmflow:{VERSION}",
    "jobs_in_image": "/opt/mmflow/jobs",
    "config_map": "mmflow-config",
}


def files() -> Iterator[tuple[str, str]]:
    """Yield the path below k8s/ and the text of each file."""
    for kind in ("job", "ray", "dask"):
        table = {**_TABLE, "kind": kind, **({} if kind == "job" else {"cluster": f"mmflow-{kind}"})}
        settings = PodSettings.load(table, "overlays")
        if settings.cluster is not None:
            yield (
                f"overlays/{kind}/cluster.yaml",
                _HEAD + as_yaml(cluster_manifests(settings, settings.cluster)),
            )
        workload = Workload(
            run="example",
            name="mmflow-example",
            job=_JOB,
            arguments=(
                "--source=/data/lineitem.csv",
                "--output=/runs/results/example",
                "--if-exists=replace",
            ),
            runs_dir=settings.runs_dir,
        )
        yield f"overlays/{kind}/run.yaml", _HEAD + as_yaml(render(settings, workload))


def main() -> None:
    """Write the files below the folder given as argument."""
    for path, text in files():
        Path(sys.argv[1], path).write_text(text)


if __name__ == "__main__":
    main()
