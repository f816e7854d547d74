"""Odd files of all kinds give the right rows or the right error: at each shard size, mapped or read, by kernels or not."""

from __future__ import annotations

import importlib
import math
import pkgutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
import tests.corpus
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.formats.schemas.schema import type_text
from tests.corpus.case import Case, Repeated


def _cases() -> Iterator[tuple[str, Case]]:
    for module in pkgutil.iter_modules(tests.corpus.__path__):
        if module.name.startswith("cases_"):
            for case in importlib.import_module(f"tests.corpus.{module.name}").CASES:
                yield f"{module.name.removeprefix('cases_')}: {case.name}", case


_CASES = dict(_cases())


@pytest.fixture(scope="module")
def mapped() -> mf.Session:
    return mf.Session(io="mmap", workers=2)


@pytest.fixture(scope="module")
def pages() -> mf.Session:
    """A session of shards of one page, read in pieces."""
    return mf.Session(io="pread", shard_size=4096, workers=2)


def _by_reference(self: KernelDecoder, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Any:
    return self._fallback._reference.decode(data, stop, final=final, located=located)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float) and math.isnan(expected):
        return math.isnan(found)
    return type(found) is type(expected) and bool(found == expected)


def _check(case: Case, session: mf.Session, path: str, expected: list[Any]) -> None:
    if case.error is not None:
        with pytest.raises(mf.MmflowError) as caught:
            _rows(case, session, path)
        assert case.error in str(caught.value)
        return
    found = _rows(case, session, path)
    for column, kind in case.types.items():
        assert type_text(found.schema.field(column).type) == kind
    rows = found.to_pylist()
    assert len(rows) == len(expected), rows[:10]
    for number, (row, wanted) in enumerate(zip(rows, expected, strict=True)):
        assert list(row) == list(wanted)
        differing = {k: (row[k], wanted[k]) for k in row if not _same(row[k], wanted[k])}
        assert not differing, f"row {number}: found, expected"


def _rows(case: Case, session: mf.Session, path: str) -> pa.Table:
    read = session.read(path, **case.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.BadRecordsWarning)  # repairs
        return (read.select(*case.columns) if case.columns else read).to_arrow()


@pytest.mark.filterwarnings("ignore::mmflow.BadRecordsWarning")
@pytest.mark.parametrize("name", _CASES)
def test_an_odd_file(
    name: str, tmp_path: Path, mapped: mf.Session, pages: mf.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _CASES[name]
    assert (case.rows is None) != (case.error is None), "a case has rows or an error"
    path, expected = case.write(tmp_path, large=False)
    _check(case, mapped, path, expected)
    if isinstance(case.data, Repeated):
        path, expected = case.write(tmp_path, large=True)
        _check(case, pages, path, expected)
    with monkeypatch.context() as patched:
        patched.setattr(KernelDecoder, "decode", _by_reference)
        _check(case, pages, path, expected)
