"""The chart of README.md: the first table of docs/benchmarks.md as bars. Write it anew whenever the figures change:

python benchmarks/chart.py
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
CHART = ROOT / "docs" / "site" / "static" / "benchmarks.svg"
#: Works of the chart, and what they are.
WORKS = {
    "csv-q6": "CSV, 1.5 GB: filter and sum (TPC-H Q6)",
    "csv-q1": "CSV, 1.5 GB: group by, eight aggregates (TPC-H Q1)",
    "stations": "CSV, 20 million rows: group by a text",
    "text-like": "log, 280 MB: count lines that contain a text",
    "ndjson": "NDJSON, 490 MB: group by",
}
#: Colours that the colour-blind can distinguish, on light and on dark pages (Okabe and Ito, 2008).
COLOURS = {"mmflow": "#d55e00", "polars": "#0072b2", "duckdb": "#e69f00", "datafusion": "#56b4e9"}
_NAMES, _BAR, _WIDTH, _LABEL = 20, 14, 760, 96
_SECONDS = re.compile(r"([\d.]+) s")


def figures(page: str) -> dict[str, dict[str, float]]:
    """Return the seconds of the page's first table, by work and system."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|")
    ]
    head = rows[0]
    found: dict[str, dict[str, float]] = {}
    for row in rows[2:]:
        if len(row) != len(head):
            break
        cells = dict(zip(head, row, strict=True))
        found[cells["work"]] = {s: float(m[1]) for s in COLOURS if (m := _SECONDS.fullmatch(cells[s]))}
    return found


def chart(found: dict[str, dict[str, float]]) -> str:
    """Return the chart as SVG; in each work, the slowest system has the longest bar."""
    parts, y = [], 0
    for work, title in WORKS.items():
        y += _NAMES
        parts.append(f'<text x="0" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 8
        longest = max(found[work].values())
        for system, seconds in sorted(found[work].items(), key=lambda each: each[1]):
            width = round(seconds / longest * (_WIDTH - _LABEL - 64), 1)
            parts.append(f'<text x="{_LABEL - 8}" y="{y + _BAR - 3}" text-anchor="end">{system}</text>')
            parts.append(
                f'<rect x="{_LABEL}" y="{y}" width="{width}" height="{_BAR - 2}" fill="{COLOURS[system]}"/>'
            )
            parts.append(f'<text x="{_LABEL + width + 6}" y="{y + _BAR - 3}">{seconds:.2f} s</text>')
            y += _BAR + 2
        y += 8
    style = "text{font:12px system-ui,sans-serif;fill:#777}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img" '
        f'aria-label="Seconds of mmflow, Polars, DuckDB and DataFusion">\n<style>{style}</style>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    CHART.write_text(chart(figures((ROOT / "docs" / "benchmarks.md").read_text())))
