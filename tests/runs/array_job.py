"""A job that changes an npy file in place."""

import mmflow as mf


@mf.job
def doubled(session: mf.Session, *, source: str) -> mf.WriteResult:
    """Twice everything."""
    return session.map_array(source, lambda rows: rows * 2, in_place=True)
