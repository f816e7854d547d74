"""Tests of the report: its content, the escaping of data, and its display in a browser."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.formats.rejects import SCHEMA
from mmflow.runs.report.history import build_history
from mmflow.runs.report.page import report_html, resume_command
from mmflow.runs.report.timeline import MAX_BARS
from tests.runs import simulated

_VOID = {"meta", "link", "br", "img", "hr"}


class Page(html.parser.HTMLParser):
    """Elements and texts of a page; fails where tags don't nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(t == tag for t, _ in self.tags)


def report(**more: Any) -> str:
    given: dict[str, Any] = {
        "facts": simulated.FACTS, "events": simulated.run(), "plan": simulated.PLAN, "rejects": simulated.rejects(),
    }  # fmt: skip
    return report_html(**(given | more))


def test_shows_all_sections() -> None:
    page = Page(report())
    ids = [a["id"] for t, a in page.tags if t == "section" and "id" in a]
    assert ids == ["stages", "time", "speed", "slowest", "failures", "bad", "sources", "settings", "plan"]
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert links == [f"#{i}" for i in ids]
    for text in (
        "Done",
        "pricing_summary",
        "15.0 GiB",
        "8 retries",
        "/data/lineitem/part-0003.csv",
        "hash exchange on",
    ):
        assert text in page.text, text


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", None])
def test_shows_state_and_resume_command(end: str | None) -> None:
    page = Page(report(events=simulated.run(end=end, resumed_at=0.5)))
    words = {"done": "Done", "failed": "Failed", "cancelled": "Cancelled", None: "No end recorded"}
    assert words[end] in page.text
    resume = "mmflow run --resume 20261125-213500-a1b2"
    assert (resume in page.text) == (end != "done")
    assert ("UserFunctionError" in page.text) == (end == "failed")
    assert "resumed 1 time" in page.text


def test_renders_run_without_events() -> None:
    page = Page(report(facts={}, events=[], plan="", rejects=None))
    assert "Not started" in page.text
    Page(
        report(
            facts={},
            events=[{"event": "run_started"}, {"event": "task_done"}, {"event": "progress"}],
            rejects=None,
        )
    )


def test_escapes_all_data() -> None:
    evil = simulated.HOSTILE

    def poisoned(value: Any) -> Any:
        if isinstance(value, str):
            return value if value in ("done", "failed") else value + evil
        if isinstance(value, dict):
            return {
                k if k in simulated.FACTS or k == "path" else k + evil: poisoned(v) for k, v in value.items()
            }
        return [poisoned(v) for v in value] if isinstance(value, list) else value

    facts = poisoned(dict(simulated.FACTS))
    facts["command"] = ["mmflow", "run", evil]
    events = [
        {k: v if k == "event" else [{n: poisoned(w) for n, w in s.items()} for s in v] if k == "stages" else
         {n: poisoned(w) for n, w in v.items()} if isinstance(v, dict) else poisoned(v) for k, v in e.items()}
        for e in simulated.run(end="failed")
    ]  # fmt: skip
    rejects = simulated.rejects().set_column(0, "path", pa.array([evil] * 120, pa.string()))
    rejects = rejects.set_column(5, "reason", pa.array([evil] * 120, pa.string()))
    text = report(facts=facts, events=events, plan=evil, rejects=rejects)
    page = Page(text)
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert text.count("&lt;/script&gt;&lt;script&gt;") > 100
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_start_up_does_not_import_jinja2() -> None:
    code = "import sys, mmflow.cli.main, mmflow.runs.recorded_run; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_escapes_control_characters() -> None:
    raw = [b"\x00\x01\xff\n", "\u0000\U0001f600".encode(), None]
    rows = {n: [None] * 3 for n in SCHEMA.names} | {
        "raw": raw,
        "path": ["a", "b", "c"],
        "reason": ["x", "y", None],
    }
    text = report(facts={"name": "caf\udce9"}, rejects=pa.table(rows, schema=SCHEMA))
    text.encode()
    assert r"\x00\x01\xff\n" in text
    assert r"caf\udce9" in text


def test_samples_each_reason() -> None:
    rows = 5000
    rejects = simulated.rejects(rows)
    reasons = pa.array(["common"] * (rows - 1) + ["rare"], pa.string())
    text = Page(report(rejects=rejects.set_column(5, "reason", reasons))).text
    assert "37 of 5,000 quarantined records" in text
    assert re.search(r"\b1 \S+ rare", text)


def test_needs_no_network() -> None:
    page = Page(report())
    outside = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data")
        and not (value or "").startswith(("#", "data:"))
    ]
    assert outside == []
    assert "url(" not in report()
    (policy,) = (a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_aggregates_hundred_thousand_tasks() -> None:
    events = list(simulated.run((90_000, 9_000, 1_000), workers=32, seconds=0.05))
    begun = time.perf_counter()
    text = report(events=events)
    took = time.perf_counter() - begun
    page = Page(text)
    drawn = sum(t == "rect" and re.fullmatch(r"c\d", a.get("class") or "") is not None for t, a in page.tags)
    assert 1000 < drawn <= MAX_BARS
    assert "100,000 tasks on 32 workers. This is aggregated" in page.text
    assert len(text) < 1 << 20
    assert took < 20  # about a second where nothing else runs


def test_limits_lanes() -> None:
    page = Page(report(events=simulated.run((3000, 8, 8), workers=400)))
    assert "The 48 busiest of 400 lanes are shown" in page.text


def test_gives_concurrent_tasks_their_own_lanes() -> None:
    page = Page(report(events=simulated.run(workers=4, names="one", trouble=False)))
    assert "320 tasks on 1 worker." in page.text
    assert any("in 4 lanes" in (a.get("aria-label") or "") for t, a in page.tags if t == "svg")


def test_resume_command() -> None:
    history = build_history([{"event": "run_started", "t": 1.0, "run": "r1"}])
    assert resume_command({}, history) == "mmflow run --resume r1"
    settings = {"runs_dir": "s3://my runs"}
    assert (
        resume_command({"run": "r2", "settings": settings}, history)
        == "mmflow run --resume r2 --runs-dir 's3://my runs'"
    )
    assert resume_command({"settings": {"resumable": False}}, history) == ""
    assert resume_command({}, build_history([])) == ""
    facts = simulated.FACTS | {"parameters": {"db_password": "***"}}
    assert (
        "secrets are not kept: give --db-password again"
        in Page(report(facts=facts, events=simulated.run(end="failed"))).text
    )


def test_input_excludes_bytes_between_stages() -> None:
    events = list(simulated.run(trouble=False))
    for e in events:
        if e["event"] == "task_done" and e["stage"]:
            e["bytes_read"] = 1 << 40
    text = Page(report(events=events)).text
    assert "12 files, all read" in text
    assert "of 15.0 GiB read" in text


def test_counts_repeated_warnings() -> None:
    warned = {"v": 1, "t": simulated.START + 1, "event": "warning", "message": "runs_dir is not shared <b>"}
    page = Page(report(events=[*simulated.run(), warned, warned]))
    assert "Warnings runs_dir is not shared <b> (2 times)" in page.text


def test_numbers_stages_of_several_plans() -> None:
    first, second = list(simulated.run((20, 4))), list(simulated.run((10, 2), seed=8))
    later = first[-1]["t"] - second[0]["t"]
    events = first[:-1] + [{**e, "t": e["t"] + later, "plan": 1} for e in second[1:]]
    for e in events:
        e["started"] = e.get("started", 0) + (later if e["t"] > first[-1]["t"] else 0)
    page = Page(report(events=events))
    for text in ("1.0 filter", "1.1 join", "2.0 filter", "2.1 join", "reads stage 2.0"):
        assert text in page.text, text
    history = build_history(events)
    assert [s.tasks for s in history.stages.values()] == [20, 4, 10, 2]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 1280])
def test_browser_shows_page(tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    # What the page did is written into it, since a headless browser prints nothing but the document.
    probe = """
      <script>
        const d = document.documentElement.dataset;
        addEventListener("securitypolicyviolation", (e) => { d.violation = e.violatedDirective + " " + e.blockedURI; });
        addEventListener("error", (e) => { d.error = e.message || "a resource"; }, true);
        addEventListener("load", () => {
          d.requests = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length;
          d.wide = document.documentElement.scrollWidth <= innerWidth;
          const head = document.querySelector("#slowest th:nth-child(5) button");
          head.click(); head.click();
          const took = [...document.querySelectorAll("#slowest td:nth-child(5)")].map((c) => Number(c.dataset.v));
          d.sorted = took.every((v, i) => !i || took[i - 1] <= v);
          document.querySelector("button.key").click();
          d.lit = document.querySelectorAll("#time svg.only rect.on").length;
        });
      </script>"""
    text = report(events=simulated.run(end="failed", resumed_at=0.4))
    digest = "'unsafe-inline'"  # the probe is a script of the test's; the page's own hash is tested below
    text = re.sub(r"script-src 'sha256-[^']+'", f"script-src {digest}", text).replace(
        "<title>", probe + "<title>", 1
    )
    path.write_text(text, encoding="utf-8")
    opening = _shown(path, tmp_path, width)
    assert 'data-ready="1"' in opening
    assert 'data-requests="0"' in opening
    assert 'data-wide="true"' in opening
    assert 'data-sorted="true"' in opening
    lit = re.search(r'data-lit="(\d+)"', opening)
    assert lit is not None
    assert int(lit[1]) > 200
    for none in ("data-error", "data-violation", "data-owned"):
        assert none not in opening


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_browser_blocks_other_scripts(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    smuggled = "<script>document.documentElement.dataset.owned=1</script><img src=x onerror='document.documentElement.dataset.owned=1'>"
    path.write_text(report().replace("<footer>", smuggled + "<footer>", 1), encoding="utf-8")
    opening = _shown(path, tmp_path, 800)
    assert 'data-ready="1"' in opening
    assert "data-owned" not in opening


def _shown(path: Path, folder: Path, width: int) -> str:
    """The root element's opening tag after a headless browser has loaded the page."""
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    opening = re.search(r"<html[^>]*>", done.stdout)
    assert opening is not None
    return opening[0]
