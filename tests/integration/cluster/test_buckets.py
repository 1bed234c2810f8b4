"""A cluster of real processes whose model files are in a bucket: nothing of them is shared but that and etcd."""

import asyncio
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import onnx_files
import pytest
from clusters import TestedCluster
from detector import MODEL, Detector
from fakes.buckets import s3_bucket, s3_server
from fakes.etcd import etcd_cluster

import bettong
from bettong_catalog.object_stores import open_objects

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Iterator[str]:
    """Return the address of an S3-compatible server."""
    with s3_server() as address:
        yield address


@pytest.fixture
async def tested(server: str, tmp_path: Path) -> AsyncIterator[TestedCluster]:
    """Run two gateways and two executors; each has a folder of its own for what it has fetched."""
    with s3_bucket(server) as place:
        async with etcd_cluster(tmp_path / "etcd") as etcd:
            made = TestedCluster(tmp_path, etcd, blobs=place)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for name in ("gateway-1", "gateway-2", "executor-1", "executor-2"):
                        tasks.create_task(made.add(name.partition("-")[0], name))
                await made.until_seen()
                yield made
            finally:
                await made.close()


async def answered(tested: TestedCluster, count: int) -> None:
    """See that all gateways answer right."""
    detector = Detector(tested.gateways, connections=4)
    async with detector.running() as found:
        await detector.until_answered(count, within_s=20)
    assert (found.failed, found.wrong) == ([], [])


async def test_what_one_gateway_stored_executors_fetch(tested: TestedCluster) -> None:
    """The bucket has the file once, beside the one that says whose it is; it is served on both executors, and again by one that lost its folder."""
    await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=2)
    await answered(tested, 200)
    assert len([found for found in await open_objects(tested.blobs).list() if found.name != "cluster"]) == 1
    victim = tested.of_role("executor")[0]
    await victim.kill()
    shutil.rmtree(tested.folder / victim.name)
    await tested.restart(victim)
    await tested.until(lambda: tested.ready(MODEL) == 2, within_s=30)
    assert any(line.get("event") == "model_fetched" for line in victim.lines)
    await answered(tested, 200)


async def test_a_bucket_that_is_gone_is_named(tested: TestedCluster, server: str) -> None:
    """What is loaded serves on; an upload is refused with the place and the reason, and works when the bucket is there again."""
    await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=2)
    ask(f"{server}/moto-api/reset", "POST")
    with pytest.raises(bettong.NotReadyError, match=f"{tested.blobs} cannot be used: .*NoSuchBucket"):
        await asyncio.to_thread(tested.upload, "other", onnx_files.tagged(2))
    await answered(tested, 200)
    ask(f"{server}/{tested.blobs.split('/')[2]}", "PUT")
    await asyncio.to_thread(tested.deploy, "other", onnx_files.tagged(2), replicas=2)


def ask(url: str, method: str) -> None:
    """Have the server do something that needs no credentials."""
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5):  # noqa: S310 - ours
        pass
