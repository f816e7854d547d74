"""`k8s render`: what `submit` would create on Kubernetes, as YAML on stdout."""

from __future__ import annotations

import argparse
import os
import re
import sys

from mmflow.cli.control import submission_of
from mmflow.cli.options import flags_of
from mmflow.cli.running import asked_for
from mmflow.config import Settings, settings_table
from mmflow.errors import ConfigError
from mmflow.k8s.documents import as_yaml
from mmflow.k8s.render import render as rendered
from mmflow.k8s.settings import TABLE, PodSettings
from mmflow.k8s.work import work_of

__all__ = ["render"]


def render(options: argparse.Namespace) -> int:
    """Print the manifests of a job."""
    if options.job is None:
        raise ConfigError("k8s render needs a job file")
    table = settings_table(options.config, TABLE)
    if table is None:
        raise ConfigError("k8s render needs a [kubernetes] table: --config configs/k8s.toml")
    settings = Settings.load(flags_of(options), file=options.config, tables=[TABLE])
    asked_for(options, settings)  # what is wrong with the job is said here, not in a pod
    pods = PodSettings.load(table, f"file {options.config}")
    stem = os.path.basename(options.job).rpartition(".")[0]
    name = options.run_id or options.resume or re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    work = work_of(
        submission_of(options, settings, name, table), pods, again="again" if options.resume else ""
    )
    sys.stdout.write(as_yaml(rendered(pods, work)))
    return 0
