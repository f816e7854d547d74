"""A session that many threads use at once gives on every engine what it gives one thread."""

from __future__ import annotations

from pathlib import Path

import mmflow as mf
from tests.mixed_work import THREADS, Mix, agrees, alone, make_files

#: Kinds of work that run on the engine. Dask and Ray take a second or so for each.
_ON_CLUSTERS = ("sql", "mapped", "udf", "written")


def test_threads_share_a_session(session: mf.Session, local: mf.Session, tmp_path: Path) -> None:
    files = make_files(tmp_path)
    session.from_arrow({"v": [1]}).count()  # clusters that threads start are the business of tests/cluster
    mix, expected = Mix(session, files, tmp_path), Mix(local, files, tmp_path)
    threads = THREADS
    if session.settings.engine != "local":
        expected.kinds = {kind: expected.kinds[kind] for kind in _ON_CLUSTERS}
        threads = 2 * len(_ON_CLUSTERS)
    agrees(mix, alone(expected), threads)
