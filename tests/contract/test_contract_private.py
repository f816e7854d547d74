"""Clusters that mmflow starts on this machine take nobody's tasks but its own."""

from __future__ import annotations

import pytest
from distributed import Client, Security

import mmflow as mf
from mmflow.engines.dask import connection


def test_a_cluster_of_dask_takes_connections_with_its_key_only() -> None:
    with mf.Session(engine="dask", workers=2, memory="512MiB") as session:
        assert session.from_arrow({"x": [1, 2]}).count() == 2
        (link,) = connection._links.values()
        assert link.address.startswith("tls://127.0.0.1:")
        plain = link.address.replace("tls://", "tcp://")
        for address, security in ((plain, None), (link.address, Security.temporary())):
            with pytest.raises(OSError):
                Client(address, timeout=3, security=security, set_as_default=False)
