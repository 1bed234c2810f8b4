"""A cluster around the etcd that all tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster_parts import Cluster, around
from fakes.etcd import EtcdCluster


@pytest.fixture
async def cluster(shared_etcd: EtcdCluster, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Make a cluster whose etcd the test leaves alone."""
    async with around(shared_etcd, tmp_path) as made:
        yield made
