"""Instruction sets: each test restores the one in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmflow import _kernels


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = _kernels.simd_used()
    yield
    _kernels.simd_use(before)


@pytest.fixture(params=_kernels.simd_available())
def simd(request: pytest.FixtureRequest) -> str:
    """Yield every instruction set that runs here."""
    _kernels.simd_use(request.param)
    return str(request.param)
