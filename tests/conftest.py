"""What every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.etcd import EtcdCluster, etcd_processes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def fixtures_path() -> Path:
    """Return the folder of outside models and golden replies; skip where it is not."""
    folder = Path(os.environ.get("BETTONG_FIXTURES", ROOT.parent / "shared/fixtures"))
    if not folder.is_dir():
        pytest.skip("the fixtures folder is not here (BETTONG_FIXTURES)")
    return folder


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Run one etcd for all tests that leave it alone; skip where there is none."""
    with etcd_processes(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster
