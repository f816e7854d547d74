"""Versions of what a driver and its workers must have in common: they exchange pickled plans and tasks.

Invariant: the versions are those that a process has loaded, not those that were installed under it since.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import sys
from collections.abc import Mapping

import pyarrow as pa

from mmflow.distribution import NAME
from mmflow.errors import EngineError

__all__ = ["check_same", "versions"]


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of this process by name."""
    # Not imported: the package is above this layer, and datafusion is not for every worker to load.
    mmflow, datafusion = sys.modules["mmflow"], sys.modules.get("datafusion")
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "mmflow": str(mmflow.__version__),
        "pyarrow": pa.__version__,
        "datafusion": str(
            getattr(datafusion, "__version__", None) or importlib.metadata.version("datafusion")
        ),
    }


def check_same(there: Mapping[str, str], where: str, here: Mapping[str, str] | None = None) -> None:
    """Check that a worker has the versions of its driver.

    Args:
        there: Versions of the worker.
        where: The worker, for the message.
        here: Versions of the driver; None: those of this process.

    Raises:
        EngineError: One is another.
    """
    here = versions() if here is None else here
    others = [name for name, version in here.items() if there.get(name) != version]
    if others:
        found = "; ".join(f"{n} is {here[n]} here and {there.get(n, 'missing')} on {where}" for n in others)
        packages = [f"{NAME if n == 'mmflow' else n}=={here[n]}" for n in others if n != "Python"]
        command = f", for example on {where}: pip install {' '.join(packages)}" if packages else ""
        raise EngineError(f"{found}: install the same version on both{command}", code="MMF-ENG-010")
