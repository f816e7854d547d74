"""`k8s render`: the manifests that `submit` would create on Kubernetes, as YAML on stdout."""

from __future__ import annotations

import json
import os
import re
import sys

from mmflow.cli.named import name_of
from mmflow.cli.options import flags_of
from mmflow.cli.parsing import Options
from mmflow.cli.run import load_requested_job
from mmflow.cli.runs import submission_of
from mmflow.config import Settings, settings_table
from mmflow.errors import ConfigError
from mmflow.submit.kubernetes.render import render as rendered
from mmflow.submit.kubernetes.settings import TABLE, PodSettings
from mmflow.submit.kubernetes.workload import make_workload
from mmflow.submit.kubernetes.yaml import as_yaml

__all__ = ["render"]


def render(options: Options) -> int:
    """Print the manifests of a job."""
    table = settings_table(options.config, TABLE)
    if table is None:
        raise ConfigError("k8s render needs a [kubernetes] table: --config configs/k8s.toml")
    settings = Settings.load(flags_of(options), file=options.config, tables=[TABLE])
    job = load_requested_job(options, settings)[0]  # errors of the job appear here, not in a pod
    pods = PodSettings.load(table, f"file {options.config}")
    stem = os.path.basename(options.job).rpartition(".")[0]
    name = options.resume or re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if options.name is not None:
        name = name_of(options, job)
    resumes = options.resume is not None
    submission = submission_of(options, settings, name, table, resumes=resumes)
    workload = make_workload(submission, pods, again="again" if resumes else "")
    manifests = rendered(pods, workload)
    if options.json:
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": [dict(m) for m in manifests]}))
    else:
        sys.stdout.write(as_yaml(manifests))
    return 0
