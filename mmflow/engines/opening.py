"""Opening of the engine that the settings name. Ray and Dask are imported only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from mmflow.config import Settings
from mmflow.distribution import install_command
from mmflow.engines.local import LocalEngine
from mmflow.engines.protocol import Engine
from mmflow.errors import ConfigError

__all__ = ["open_engine"]


def open_engine(settings: Settings, run: str) -> Engine:
    """Open the engine that `settings.engine` names, for one run.

    Raises:
        ConfigError: What it needs is not installed.
        EngineError: It can't be started.
    """
    name = settings.engine
    made: Callable[[Settings, str], Engine] = LocalEngine
    try:
        if name == "ray":
            from mmflow.engines.ray.engine import RayEngine  # noqa: PLC0415  (need not be installed)

            made = RayEngine
        elif name == "dask":
            from mmflow.engines.dask.engine import DaskEngine  # noqa: PLC0415  (need not be installed)

            made = DaskEngine
    except ImportError as error:
        raise ConfigError(
            f"engine {name} needs {name.capitalize()}: {install_command(name)} ({error})", code="MMF-CFG-002"
        ) from error
    return made(settings, run)
