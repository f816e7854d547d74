"""The kustomize files that are made from `render.py`, so that both ways to the cluster are one.

    python -m mmflow.k8s.overlays k8s        writes them again; a test holds them equal

What people read and change (kustomization.yaml, k8s/base) is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmflow.k8s.documents import as_yaml
from mmflow.k8s.render import cluster_manifests, render
from mmflow.k8s.settings import PodSettings
from mmflow.k8s.work import Work

__all__ = ["files", "main"]

_HEAD = "# Made by `python -m mmflow.k8s.overlays k8s`: change mmflow/k8s, or patch this in an overlay of your own.\n"
_JOB = "/opt/mmflow/jobs/pricing_summary.py"
_TABLE: dict[str, Any] = {
    "image": "mmflow:0.1.0",
    "jobs_in_image": "/opt/mmflow/jobs",
    "config_map": "mmflow-config",
}


def files() -> Iterator[tuple[str, str]]:
    """Path below k8s/, and text, of each file."""
    for kind in ("job", "ray", "dask"):
        table = {**_TABLE, "kind": kind, **({} if kind == "job" else {"cluster": f"mmflow-{kind}"})}
        settings = PodSettings.load(table, "overlays")
        if settings.cluster is not None:
            yield (
                f"overlays/{kind}/cluster.yaml",
                _HEAD + as_yaml(cluster_manifests(settings, settings.cluster)),
            )
        work = Work(
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
        yield f"overlays/{kind}/run.yaml", _HEAD + as_yaml(render(settings, work))


def main() -> None:
    """Write the files below the folder that is given."""
    for path, text in files():
        Path(sys.argv[1], path).write_text(text)


if __name__ == "__main__":
    main()
