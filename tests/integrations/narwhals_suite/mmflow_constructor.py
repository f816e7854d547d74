"""Plugin of pytest that gives narwhals' own tests a dataset of mmflow (their option `--use-external-constructor`)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest


def mmflow_constructor(columns: dict[str, Any]) -> Any:
    import mmflow as mf

    return mf.from_arrow(pa.table(columns))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "constructor" in metafunc.fixturenames:
        metafunc.parametrize("constructor", [mmflow_constructor], ids=["mmflow"])
    for eager in ("constructor_eager", "constructor_pandas_like", "constructor_lazy"):
        if eager in metafunc.fixturenames:
            metafunc.parametrize(eager, [], ids=[])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that take a frame of mmflow."""
    kept = [i for i in items if "mmflow" in i.name.partition("[")[2].rstrip("]").split("-")]
    config.hook.pytest_deselected(items=[i for i in items if i not in {*kept}])
    items[:] = kept
