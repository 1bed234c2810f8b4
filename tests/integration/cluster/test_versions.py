"""What a newer version writes for all to read: fields that are not known are ignored, formats that are not known harm nobody.

Whole clusters of two versions are in tests/chaos/test_cluster_versions.py, links in tests/integration/links/test_hello.py.
"""

import asyncio
import json

import pytest
from cluster_parts import Cluster, deployments, sdk, until, uploaded

import bettong
from bettong_catalog.shared import desired_prefix
from bettong_domain.pipelines import PipelineKey
from bettong_kit.membership.members import members_prefix

pytestmark = pytest.mark.slow

UNKNOWN = b"\xfa\x07\x05newer"
"""Field 127 of a message, a text."""
ROWS = [{"x": [1.0, 2.0, 3.0, 4.0]}]


async def names(client: bettong.Client) -> list[str]:
    return [member.name for member in (await asyncio.to_thread(client.members)).members]


async def test_desired_state_with_unknown_fields_is_served(cluster: Cluster) -> None:
    """By a gateway that reads it from the beginning and by one that follows it; it can be changed and stopped."""
    first = await cluster.gateway("g1")
    engine = await cluster.engine("e1")
    async with sdk(first) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
        await cluster.run(engine, "e1", PipelineKey("p", 1))
        await deploying
        entries = (await cluster.client.list(desired_prefix(cluster.name))).entries
        messages = [entry for entry in entries if "/counters/" not in entry.key]
        assert len(messages) >= 3
        for entry in messages:
            await cluster.client.put(entry.key, entry.value + UNKNOWN)
        second = await cluster.gateway("g2")
        async with sdk(second) as other:
            for each in (client, other):
                found = await asyncio.to_thread(each.get_pipeline, "p")
                reply = await asyncio.to_thread(found.infer, ROWS)
                assert reply[0]["out.y"] == [10.0]
                assert (await deployments(each))["p"].state == "Running"
            await asyncio.to_thread(pipeline.undeploy)
            assert (await deployments(other))["p"].state == "Stopped"


async def test_members_with_unknown_fields_are_members(cluster: Cluster) -> None:
    """As are their reports; one of a newer format is left out, and the others are there."""
    gateway = await cluster.gateway("g1")
    await cluster.executor("e1")
    key = f"{members_prefix(cluster.name)}executor/"
    (known,) = (await cluster.client.list(key)).entries
    document = json.loads(known.value)
    newer = {**document, "zone": {"name": "north"}, "capacity": {**document["capacity"], "gpus": 2}}
    await cluster.client.put(f"{key}e2", json.dumps(newer).encode())
    await cluster.client.put(f"{key}e3", json.dumps({**newer, "format": 2}).encode())
    async with sdk(gateway) as client:

        async def is_listed() -> bool:
            return await names(client) == ["e1", "e2", "g1"]

        await until(is_listed)
        await cluster.client.put(f"{key}e3", json.dumps(newer).encode())

        async def all_are_listed() -> bool:
            return await names(client) == ["e1", "e2", "e3", "g1"]

        await until(all_are_listed)


async def test_a_report_with_unknown_fields_counts(cluster: Cluster) -> None:
    """What is ready in it is ready."""
    await cluster.executor("e1")
    first = await cluster.gateway("g1")
    async with sdk(first) as client:
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        deploying = asyncio.create_task(asyncio.to_thread(pipeline.deploy))
        cluster.say("e1", PipelineKey("p", 1))
        await deploying
        (report,) = (await cluster.client.list(f"/bettong/{cluster.name}/running/executor/")).entries
        await cluster.client.put(report.key, report.value + UNKNOWN)
    second = await cluster.gateway("g2")
    async with sdk(second) as client:
        found = (await deployments(client))["p"]
        assert [(each.member, each.state) for each in found.replicas] == [("e1", "Ready")]
        assert found.state == "Running"
