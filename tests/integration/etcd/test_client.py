"""Keys, transactions and leases on a real etcd."""

import asyncio
import time
from pathlib import Path

import pytest
from fakes.etcd import EtcdCluster, etcd_cluster, free_ports

from bettong_kit.errors import CoordinationLostError, CoordinationRefusedError, InvalidArgumentError, NotFoundError
from bettong_kit.etcd.client import ABSENT, EtcdClient, Guarded
from bettong_kit.etcd.pb import rpc_pb2
from bettong_kit.etcd.settings import EtcdSettings


async def test_keys_are_written_read_and_removed(client: EtcdClient) -> None:
    """A key has its value, and the revisions that made and last wrote it."""
    first = await client.put("a", b"1")
    second = await client.put("a", b"\x00\xff")
    entry = await client.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.created, entry.revision) == ("a", b"\x00\xff", first, second)
    assert await client.delete("a") > second
    assert await client.get("a") is None


async def test_a_list_is_one_moment_however_long(client: EtcdClient) -> None:
    """More keys than a page come in order, and the neighbours of a prefix do not."""
    for start in range(0, 2_200, 100):
        await client.commit(Guarded(puts={f"k/{number:05}": b"v" for number in range(start, start + 100)}))
    await client.put("k0", b"")
    listing = await client.list("k/")
    assert [entry.key for entry in listing.entries] == [f"k/{number:05}" for number in range(2_200)]
    assert len((await client.list("")).entries) == 2_201


async def test_a_guard_that_fails_changes_nothing_and_reads(client: EtcdClient) -> None:
    """The caller sees what was there instead."""
    revision = await client.put("a", b"1")
    refused = await client.commit(Guarded(guards={"a": ABSENT}, puts={"a": b"2"}, reads=["a", "b"]))
    assert not refused.applied
    assert {key: entry.value for key, entry in refused.found.items()} == {"a": b"1"}
    assert (await client.commit(Guarded(guards={"a": revision}, puts={"a": b"2"}))).applied


async def test_a_lease_takes_its_keys_along(client: EtcdClient) -> None:
    """A beat begins its time anew; when it is revoked, its keys are gone, and a beat says so."""
    lease = await client.grant(5)
    await client.commit(Guarded(leased={"a": b""}, lease=lease))
    assert await client.keep_alive(lease) == 5
    assert 0 < await client.time_left(lease) <= 5
    await client.revoke(lease)
    assert await client.get("a") is None
    assert await client.keep_alive(lease) == 0
    assert await client.time_left(lease) < 0
    with pytest.raises(NotFoundError):
        await client.commit(Guarded(leased={"a": b""}, lease=lease))


async def test_too_many_changes_at_once_are_refused(client: EtcdClient) -> None:
    """The bound of etcd is told, and nothing happened."""
    with pytest.raises(InvalidArgumentError, match="too many operations"):
        await client.commit(Guarded(puts={f"k{number}": b"" for number in range(200)}))
    assert (await client.list("")).entries == ()


async def test_nobody_there_is_told_in_time() -> None:
    """The error names the servers, and comes within the time of the call."""
    port = free_ports(1)[0]
    client = EtcdClient(EtcdSettings((f"127.0.0.1:{port}",), call_timeout_s=0.3))
    started_s = time.monotonic()
    with pytest.raises(CoordinationLostError, match=rf"etcd \(127.0.0.1:{port}\) did not answer within 0.3 s"):
        await client.get("a")
    # Without that time it would be 10 s.
    assert time.monotonic() - started_s < 5
    await client.close()


async def test_the_next_server_is_asked(etcd: EtcdCluster) -> None:
    """A server that is not there costs one attempt."""
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    client = EtcdClient(EtcdSettings((dead, *etcd.settings().endpoints)))
    await client.put("a", b"1")
    assert client.connection.endpoint.address == etcd.servers[0].endpoint
    await client.close()


@pytest.mark.slow
async def test_a_server_that_is_paused_is_left(tmp_path: Path) -> None:
    """Connections to it stay open and nothing answers; the attempt's time ends it, and the others answer."""
    async with etcd_cluster(tmp_path / "etcd", 3) as cluster:
        client = EtcdClient(cluster.settings(attempt_timeout_s=0.5))
        await client.put("a", b"1")
        asked = next(s for s in cluster.servers if s.endpoint == client.connection.endpoint.address)
        asked.pause()
        started_s = time.monotonic()
        await client.put("a", b"2")
        assert time.monotonic() - started_s < 8
        asked.resume()
        await client.close()


@pytest.mark.slow
async def test_users_have_passwords_and_tokens_are_renewed(etcd: EtcdCluster, client: EtcdClient) -> None:
    """Wrong passwords are refused; a restart makes every token unknown, and the next call gets a new one."""
    await _enable_users(client)
    wrong = EtcdClient(etcd.settings(user="root", password="guess"))  # noqa: S106 - not a secret
    right = EtcdClient(etcd.settings(user="root", password="secret"))  # noqa: S106 - not a secret
    none = EtcdClient(etcd.settings())
    for refused in (wrong, none):
        with pytest.raises(CoordinationRefusedError, match="etcd refuses us"):
            await refused.put("a", b"")
    await right.put("a", b"1")
    etcd.servers[0].kill()
    etcd.start()
    await right.put("a", b"2")
    right.connection._token = "unknown.1"  # noqa: S105 - not a secret
    await right.put("a", b"3")
    for each in (wrong, none, right):
        await each.close()


async def _enable_users(client: EtcdClient) -> None:
    auth = client.connection.endpoint.auth
    await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="secret"))  # noqa: S106 - not a secret
    await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="root"))
    await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    await auth.AuthEnable(rpc_pb2.AuthEnableRequest())


async def test_cancelling_a_call_ends_it(client: EtcdClient) -> None:
    """A caller that leaves takes its attempt along; the client goes on."""
    calls = [asyncio.ensure_future(client.put("a", b"")) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await client.put("b", b"")
    assert await client.get("b") is not None
