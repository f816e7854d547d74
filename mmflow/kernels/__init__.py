"""The native kernels, on the instruction set that is asked for.

The C++ beside this file knows nothing of Python but for bindings.cpp. Each kernel reads what is plain and stops
before what is not; the reference decoders in `mmflow.formats` judge that, and are what tests compare against.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from mmflow.errors import ConfigError

__all__ = ["kernels"]


@functools.cache
def kernels() -> Any:
    """The compiled module. MMFLOW_SIMD=scalar|avx2|avx512|neon forces an instruction set; else the best here is used.

    Raises:
        ConfigError: That instruction set doesn't run here.
    """
    module = importlib.import_module("mmflow._kernels")
    wanted = os.environ.get("MMFLOW_SIMD")
    if wanted:
        available = module.simd_available()
        if wanted not in available:
            raise ConfigError(f"MMFLOW_SIMD={wanted}: not on this machine, which has {', '.join(available)}")
        module.simd_use(wanted)
    return module
