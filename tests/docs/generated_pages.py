"""Writer of what docs/settings.md, docs/sql-functions.md, docs/errors.md and docs/json.md list.

After a change of a setting (configs/local.toml has its text) or an update of DataFusion:
`python -m tests.docs.generated_pages` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from datafusion import SessionConfig, SessionContext

from mmflow import functions
from mmflow.cli.tree import command_line
from mmflow.config import Settings
from mmflow.error_codes import CODES, OF_CLASS
from mmflow.plan.functions.json_values import JSON_FUNCTIONS

__all__ = ["PAGES", "with_list"]

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "mmflow" / "cli" / "schemas.json"
_BEGIN = "<!-- Written by `python -m tests.docs.generated_pages`. -->\n"
_END = "<!-- End of what is written. -->\n"
#: Settings of `local.toml`, commented out, with their defaults.
_KEY = re.compile(r"# (\w+) = (.*)")
_KINDS = {"SCALAR": "Functions of rows", "AGGREGATE": "Aggregates", "WINDOW": "Window functions"}


def with_list(page: str, listed: Callable[[], Iterator[str]]) -> str:
    """Return the page with today's list."""
    before, _, rest = page.partition(_BEGIN)
    return before + _BEGIN + "\n" + "\n".join(listed()) + "\n" + _END + rest.partition(_END)[2]


def _settings() -> Iterator[str]:
    options = {p.name for p in command_line().command_of("run").params}
    yield "| setting | option | default | meaning |"
    yield "|---|---|---|---|"
    found: dict[str, str] = {}
    for paragraph in (ROOT / "configs" / "local.toml").read_text().split("\n\n"):
        lines = paragraph.splitlines()
        meaning = " ".join(line.removeprefix("# ") for line in lines if not _KEY.fullmatch(line))
        for key, value in (match.groups() for line in lines if (match := _KEY.fullmatch(line))):
            option = f"`--{key.replace('_', '-')}`" if key in options else ""
            default = "" if "Default" in meaning else f"`{value}`"
            found[key] = f"| `{key}` | {option} | {default} | {_cell(meaning)} |"
    for field in fields(Settings):
        yield found[field.name]
    yield ""


def _functions() -> Iterator[str]:
    context = SessionContext(SessionConfig({"datafusion.catalog.information_schema": "true"}))
    rows = context.sql(
        "SELECT DISTINCT function_type AS kind, routine_name AS name, description, syntax_example AS syntax"
        " FROM information_schema.routines ORDER BY name"
    ).to_pylist()
    python = set(dir(functions))
    for kind, title in _KINDS.items():
        yield f"## {title}\n"
        yield "| function | in Python | meaning |"
        yield "|---|---|---|"
        own = {row["name"]: row for row in rows if row["kind"] == kind}
        aliases: dict[str, list[str]] = {}
        for name, row in own.items():
            called = (row["syntax"] or "").partition("(")[0]
            aliases.setdefault(called if called in own else name, []).append(name)
        for name, names in sorted(aliases.items()):
            spellings = [own[name]["syntax"] or f"{name}(…)", *(n for n in names if n != name)]
            meaning = (own[name]["description"] or "").partition("\n\n")[0]
            method = f"`F.{name}`" if name in python else ""
            yield f"| {' '.join(map(_code, spellings))} | {method} | {_cell(meaning)} |"
        yield ""
    yield "## JSON\n"
    yield "Functions of mmflow over [text of JSON](sql.md#table-functions): "
    yield ", ".join(f"`{name}`" for name in sorted(JSON_FUNCTIONS)) + ".\n"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def _cell(text: str) -> str:
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)  # links within DataFusion's documentation
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _codes() -> Iterator[str]:
    yield "| code | meaning | class |"
    yield "|---|---|---|"
    classes = {code: name for name, code in reversed(OF_CLASS.items())}
    for code, meaning in CODES.items():
        known = f"`{classes[code]}`" if code in classes else ""
        yield f"| `{code}` | {meaning} | {known} |"
    yield ""
    yield "The class is that whose errors have this code unless their message has one of its own.\n"


def _json() -> Iterator[str]:
    schemas = json.loads(SCHEMAS.read_text())
    for command in schemas["commands"]:
        schema = _resolved(schemas["commands"][command], schemas)
        yield f"## {command}\n"
        for each in schema.get("oneOf", [schema]):
            yield f"{each['description']}\n"
            items = _resolved(each.get("items", {}), schemas)
            fields = (each if "properties" in each else items).get("properties", {})
            if fields:
                yield "| key | type | meaning |"
                yield "|---|---|---|"
            for key, field in fields.items():
                known = _resolved(field, schemas)
                yield f"| `{key}` | {_json_type(known)} | {_cell(known.get('description', ''))} |"
            yield ""
    yield ""


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    more = schemas["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    return {**more, **schema}


def _json_type(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(kinds)


PAGES = {
    ROOT / "docs/json.md": _json,
    ROOT / "docs/settings.md": _settings,
    ROOT / "docs/errors.md": _codes,
    ROOT / "docs/sql-functions.md": _functions,
}


if __name__ == "__main__":
    for path, listed in PAGES.items():
        path.write_text(with_list(path.read_text(), listed))
