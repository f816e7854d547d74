"""Content of a URL, read through fsspec alone."""

from __future__ import annotations

import json
from typing import Any

import fsspec
import pyarrow as pa

MANIFEST = "_mmflow_manifest.json"


def rows(*values: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"v": list(values)})


def objects(url: str) -> set[str]:
    """All objects below a URL, hidden ones too."""
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    fs.invalidate_cache()
    return {path[len(root.rstrip("/")) + 1 :] for path in fs.find(root)}


def text(url: str) -> str:
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return bytes(fs.cat_file(path)).decode()  # in one step


def manifest(url: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(text(f"{url}/{MANIFEST}"))
    except FileNotFoundError:
        return None
    return found


def state(url: str) -> list[str] | None:
    """The values of one CSV file, or of the files that the manifest names; all must be there."""
    if url.endswith(".csv"):
        try:
            return text(url).splitlines()[1:]
        except FileNotFoundError:
            return None
    found = manifest(url)
    if found is None:
        return None
    return sorted(line for f in found["files"] for line in text(f"{url}/{f['path']}").splitlines()[1:])


def tidy(url: str) -> bool:
    """Only what the manifest names is there, or the one file: no lock, no staging, nothing that doesn't count."""
    if url.endswith(".csv"):
        base, _, name = url.rpartition("/")
        return objects(base) <= {name}
    found = manifest(url)
    return objects(url) == ({MANIFEST, *(f["path"] for f in found["files"])} if found else set())
