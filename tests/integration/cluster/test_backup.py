"""What the operator's guide says about backup and restore, done to a real etcd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from docs.pages import ROOT, blocks
from fakes.etcd import EtcdCluster, EtcdServer, etcd_cluster, free_ports, until_ready

from bettong_kit.etcd.client import EtcdClient

pytestmark = pytest.mark.slow

GUIDE = ROOT / "docs/guides/operate-a-cluster.md"


def _run(needle: str, folder: Path, endpoint: str) -> None:
    """Run the block of the guide that has *needle* in it."""
    (block,) = (block for block in blocks(GUIDE) if needle in block.text)
    environment = os.environ | {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoint}
    subprocess.run(["/bin/bash", "-eu", "-c", block.text], cwd=folder, env=environment, check=True, timeout=20)


async def test_a_backup_can_be_restored(tmp_path: Path) -> None:
    """Keys and files of the backup are there afterwards, what came later is not."""
    if shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is not here (Debian: apt-get install etcd-client)")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "a").write_text("model")
    async with etcd_cluster(tmp_path / "etcd") as cluster:
        client = EtcdClient(cluster.settings())
        await client.put("/bettong/c/desired/a", b"1")
        _run("snapshot save", tmp_path, cluster.servers[0].endpoint)
        await client.put("/bettong/c/desired/b", b"2")
        await client.close()
    shutil.rmtree(blobs)
    blobs.mkdir()
    _run("snapshot restore", tmp_path, "none:1")
    assert (blobs / "a").read_text() == "model"
    await _check_restored(tmp_path)


async def _check_restored(folder: Path) -> None:
    client_port, peer_port = free_ports(2)
    server = EtcdServer("etcd-restored", folder / "etcd-restored", client_port, peer_port)
    restored = EtcdCluster([server])
    try:
        restored.start()
        await until_ready(restored.settings())
        client = EtcdClient(restored.settings())
        found = await client.list("/bettong/")
        await client.close()
    finally:
        server.kill()
    assert [(entry.key, entry.value) for entry in found.entries] == [("/bettong/c/desired/a", b"1")]
