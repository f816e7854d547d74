"""Data of a faulted run: where its files lie, how they change meanwhile, and the result."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

import mmflow as mf
from tests.runs.faulted_data import FORMATS, QUERIES, Data, encoded, rows_of
from tests.runs.faulted_servers import FaultyServer

__all__ = ["NOTHING", "RIGHT", "ArrayWork", "QueryWork", "Work"]

NOTHING, RIGHT = "nothing", "right"
_HERE = Path(__file__).parent
BUCKET = "soak"


class Work(Protocol):
    """One job and its files.

    Attributes:
        arguments: Arguments of `mmflow run`, without settings.
        replaces: Arguments with which another run may take the place of an output.
    """

    arguments: list[str]
    replaces: list[str]

    def change(self, how: str) -> None:
        """Change an input: replace, rewrite, truncate, append."""

    def settle(self) -> None:
        """Make inputs readable that a change broke."""

    def state(self, *, last: bool = False) -> str:
        """`NOTHING` or `RIGHT`, as the output is; or the difference. `last`: by the inputs as they are now."""

    def left(self) -> list[str]:
        """Names of what lies beside the output."""


class QueryWork:
    """A query over files of a place (file, http, s3), into files."""

    def __init__(
        self, folder: Path, r: random.Random, place: str, server: FaultyServer | None, web_folder: Path
    ) -> None:
        self._place, self._folder = place, folder
        self._data = Data.make(r, list(FORMATS))
        self._target = folder / "target"
        self._target.mkdir(parents=True)
        self._server = server
        name = folder.name
        inputs = web_folder / name if place == "http" else folder / "inputs"
        inputs.mkdir(parents=True)
        self._inputs, self._prefix = inputs, f"{BUCKET}/{name}"
        for file, data in zip(self._data.names, self._data.files(), strict=True):
            self._put(file, data)
        base = {
            "file": str(inputs),
            "http": f"{server and server.url}/{name}",
            "s3": f"s3://{self._prefix}/inputs",
        }
        self._versions = {"before": self._data.tables}
        self._now: list[pa.Table] | None = self._data.tables
        self._format = r.choice(["parquet", "csv", "arrow"])
        single = r.random() < 0.2
        self._name = f"out.{self._format}" if single else "out"
        self._on_s3 = place == "s3" and r.random() < 0.4
        output = f"s3://{self._prefix}/target/{self._name}" if self._on_s3 else str(self._target / self._name)
        storage = {
            "http": {"client_kwargs": {"timeout": 2}},
            "s3": {"config_kwargs": {"read_timeout": 2}},
        }.get(place)
        self.arguments = [
            str(_HERE / "faulted_job.py"),
            f"--source={','.join(f'{base[place]}/{n}' for n in self._data.names)}",
            f"--kind={self._data.kind}",
            f"--sql={QUERIES[self._data.query]}",
            f"--output={output}",
            f"--format={self._format}",
        ]
        if storage:
            self.arguments.append(f"--storage={json.dumps(storage)}")
        self.replaces = ["--if-exists=replace"]

    def __str__(self) -> str:
        target = "s3" if self._on_s3 else "file"
        return f"{self._data.query} over {self._data.kind} of {self._place}, to {self._name} ({self._format}) on {target}"

    def _put(self, name: str, data: bytes) -> None:
        if self._place == "s3":
            _s3().pipe(f"{self._prefix}/inputs/{name}", data)
        else:
            hidden = self._inputs / f"new-{name}"
            hidden.write_bytes(data)
            hidden.replace(self._inputs / name)

    def change(self, how: str) -> None:
        data, tables = self._data.versions(how)
        if tables is not None:
            self._versions[how] = tables
        self._now = tables
        name = self._data.names[self._data.changed]
        if self._place != "file" or how == "replace":
            self._put(name, data)
        else:
            _change(self._inputs / name, how, data)

    def settle(self) -> None:
        if self._now is None:
            self._now = self._data.tables
            number = self._data.changed
            self._put(self._data.names[number], encoded(self._data.tables[number], self._data.kind))

    def state(self, *, last: bool = False) -> str:
        files = self._files()
        if not files:
            return NOTHING
        rows = [row for name, data in files for row in rows_of(name, data)]
        found = self._data.ordered(rows)
        allowed = list(self._versions.values())
        if last:
            assert self._now is not None  # it was settled
            allowed = [self._now]
        for tables in allowed:
            expected = self._data.expected(tables)
            if found == expected:
                return RIGHT
        return f"{len(found)} rows, {len(expected)} expected; first {found[:1]}, expected {expected[:1]}"

    def _files(self) -> list[tuple[str, bytes]]:
        if self._on_s3:
            fs = _s3()
            found = sorted(fs.find(f"{self._prefix}/target"))
            # What tasks have staged lies in a folder `_mmflow` there.
            kept = [n for n in found if all(map(_is_data, Path(n).parts))]
            return [(n, fs.cat_file(n)) for n in kept if f"/target/{self._name}" in n and "/." not in n]
        place = self._target / self._name
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        return [(str(p), p.read_bytes()) for p in files if _is_data(p.name)]

    def left(self) -> list[str]:
        beside = [n for n in os.listdir(self._target) if n != self._name]
        if self._on_s3:
            begin = f"{self._prefix}/target/"
            named = [n.removeprefix(begin) for n in _s3().find(begin)]
            beside += [n for n in named if n.split("/")[0] != self._name or "/." in n]
        return beside


def _is_data(name: str) -> bool:
    return not name.startswith(("_mmflow", "."))


def _s3() -> Any:
    import fsspec

    fs = fsspec.filesystem("s3", use_listings_cache=False)
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return fs


def _change(path: Path, how: str, data: bytes) -> None:
    """The same file with other bytes."""
    if how == "truncate":
        os.truncate(path, len(data))
    elif how == "append":
        with path.open("ab") as file:
            file.write(data[path.stat().st_size :])
    else:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()


class ArrayWork:
    """An array that is doubled, in place or into another file."""

    def __init__(self, folder: Path, r: random.Random) -> None:
        self._target = folder / "target"
        self._target.mkdir(parents=True)
        self._source = self._target / "a.npy"
        self._out = self._target / "b.npy" if r.random() < 0.5 else None
        self._old = np.arange(r.choice([4000, 12_000]))
        self._now = self._old
        np.save(self._source, self._old)
        self.arguments = [str(_HERE / "array_job.py"), f"--source={self._source}"]
        self.arguments += [f"--out={self._out}"] if self._out else []
        self.replaces: list[str] = []

    def __str__(self) -> str:
        return f"an array of {len(self._old)} doubled {'into another' if self._out else 'in place'}"

    def change(self, how: str) -> None:
        """Change the source: in place, only another file leaves no doubt about the right result."""
        self._now = self._old + 10**6
        hidden = self._target.parent / "new.npy"
        np.save(hidden, self._now)
        if how == "rewrite" and self._out:
            shutil.copyfile(hidden, self._source)
        else:
            hidden.replace(self._source)

    def settle(self) -> None:
        """Delete old pages of the file that another one replaced, as the error says."""
        for folder in self._target.glob(".*mmflow~*"):
            shutil.rmtree(folder)

    def state(self, *, last: bool = False) -> str:
        if self._out and not self._out.exists():
            return NOTHING
        try:
            with mf.open_array(self._out or self._source, "r") as array:
                found = array[:].copy()
        except mf.SinkError:  # it was replaced in the middle of its change: its old pages may be another's
            return NOTHING
        for known in (self._now,) if last else (self._now, self._old):
            if np.array_equal(found, known * 2):
                return RIGHT
            if not self._out and np.array_equal(found, known):
                return NOTHING
        return f"neither old nor new: {found[:3]}, {found[-3:]}"

    def left(self) -> list[str]:
        known = {self._source.name} | ({self._out.name} if self._out else set())
        return [n for n in os.listdir(self._target) if n not in known]
