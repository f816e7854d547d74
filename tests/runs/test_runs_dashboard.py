"""The dashboard for Grafana: each metric and label that it names is one that a run exports, and the table has them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from mmflow.runs.metrics import open_metrics
from tests.docs.generated_pages import ROOT
from tests.runs.test_runs_metrics import progress

DASHBOARD = ROOT / "k8s" / "grafana" / "mmflow-runs.json"
_METRIC = re.compile(r"\bmmflow_\w+")


def _exported(folder: Path) -> list[Metric]:
    path = folder / "m.prom"
    metrics = open_metrics(str(path), {"run": "r1", "job": "sums"})
    metrics.update(progress())
    metrics.close()
    return list(text_string_to_metric_families(path.read_text()))


def test_a_dashboard_names_what_runs_export(tmp_path: Path) -> None:
    labels = {s.name: set(s.labels) for family in _exported(tmp_path) for s in family.samples}
    made = json.loads(DASHBOARD.read_text())
    queries = [t["expr"] for panel in made["panels"] for t in panel["targets"]]
    queries += [v["query"] for v in made["templating"]["list"] if v["type"] == "query"]
    used = {name for query in queries for name in _METRIC.findall(query)}
    assert used - labels.keys() == set()
    assert labels.keys() - used == {"mmflow_repairs_total", "mmflow_stage_complete"}  # no panel of their own
    for panel in made["panels"]:
        for target in panel["targets"]:
            (*_, name) = _METRIC.findall(target["expr"])
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels[name]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert max(x for x, _ in own) < 24
        cells |= own


def test_the_table_of_metrics_has_each(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "runs.md").read_text()
    listed = dict(re.findall(r"^\| `(mmflow_\w+)` \| .*? \| (.*) \|$", page, re.MULTILINE))
    exported = {s.name: family.documentation for family in _exported(tmp_path) for s in family.samples}
    assert listed == exported
