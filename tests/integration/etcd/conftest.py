"""One etcd for all tests that leave it alone, one of its own for each that does not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.etcd import EtcdCluster, emptied_client, etcd_cluster

from bettong_kit.etcd.client import EtcdClient


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    """Run a server that the test may kill."""
    async with etcd_cluster(tmp_path / "etcd") as cluster:
        yield cluster


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[EtcdClient]:
    """Open a client of the test's own server, or of the shared one, which is emptied."""
    name = "etcd" if "etcd" in request.fixturenames else "shared_etcd"
    async with emptied_client(request.getfixturevalue(name).settings()) as opened:
        yield opened
