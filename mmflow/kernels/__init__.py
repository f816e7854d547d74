"""The native kernels, on the chosen instruction set.

    csv/ ndjson/ lines/    decoding of text to columns
    simd/                  64 bytes at a time, for each instruction set, and the choice of it
    aggregate/             groups by key, exact sums
    inflate/               gzip files
    common/                columns, values, status; Arrow arrays
    program/               filters and projections of batches
    exchange/              rows of batches to partitions
    scan/                  decoding, program and groups in one call
    sort/                  orders of rows, window functions

Of the C++ here, only bindings.cpp, files named binding.cpp and common/python.h know Python. Each kernel decodes common
forms, and stops before a record that needs the fallback: the reference decoders in `mmflow.formats`, against which the
tests compare the kernels. The fallback of programs is DataFusion.
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
    """Return the compiled module, set to the instruction set of MMFLOW_SIMD (scalar, avx2, avx512, neon) or the best.

    Raises:
        ConfigError: MMFLOW_SIMD names an instruction set that this machine does not have.
    """
    module = importlib.import_module("mmflow._kernels")
    name = os.environ.get("MMFLOW_SIMD")
    if name:
        available = module.simd_available()
        if name not in available:
            raise ConfigError(f"MMFLOW_SIMD={name} does not run here; choose one of {', '.join(available)}")
        module.simd_use(name)
    return module
