"""A job that changes an npy file in place, or writes another one."""

import time

import numpy as np

import mmflow as mf


@mf.job
def doubled(
    session: mf.Session, *, source: str, out: str = "", pause: float = 0.0, processes: bool = False
) -> mf.WriteResult:
    """Twice everything.

    Args:
        source: The file.
        out: Path of the output; empty: in place.
        pause: Seconds that each call takes.
        processes: Compute in other processes.
    """

    def twice(rows: np.ndarray) -> np.ndarray:
        if len(rows):
            time.sleep(pause)
        return rows * 2

    target = {"out": out, "overwrite": True} if out else {"in_place": True}
    return session.map_array(source, twice, processes=processes, **target)
