"""Types of numpy arrays for annotations. numpy.typing has the same, and takes 20 ms to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    __all__ = ["DTypeLike", "NDArray"]
else:
    NDArray = np.ndarray[tuple[Any, ...], np.dtype[TypeVar("ScalarT", bound=np.generic)]]

    def __getattr__(name: str) -> Any:  # of a function whose arguments were wrong
        import numpy.typing as npt  # noqa: PLC0415  (slow)

        return getattr(npt, name)
