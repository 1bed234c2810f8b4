"""What people get wrong about a cluster is one clear line, and harms nobody who is there already.

Damaged model files are in test_executors.py, certificates in tests/unit/kit/test_certificates.py and tests/integration/etcd/test_tls.py.
"""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_parts import Cluster, deployments, sdk, until, uploaded
from fakes.etcd import emptied_client, etcd_cluster, free_ports

import bettong
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.pb import rpc_pb2
from bettong_kit.membership.members import members_prefix

pytestmark = pytest.mark.slow

ROLES = ("gateway", "router", "executor")
START_S = 25.0
NOWHERE = "/proc/nowhere"
"""A folder that nobody can make."""


@dataclass(frozen=True)
class Ended:
    """A member that could not start."""

    code: int
    lines: list[str]


def command(cluster: Cluster, role: str, *options: str) -> list[str]:
    """Return how a member is started from a shell; what *options* say again counts."""
    etcd, name = cluster.settings("m").etcd, cluster.name
    ours = ["--etcd", etcd, "--cluster", name, "--name", "m", "--data", str(cluster.folder / f"data-{role}")]
    ours += ["--port", "0", "--metrics-port", "0", "--lanes", "1"]
    ours += ["--control-port", "0"] if role == "gateway" else []
    ours += [] if role == "router" else ["--blobs", f"file://{cluster.folder}/blobs"]
    return [sys.executable, "-m", "bettong", role, *ours, *options]


async def ended(*arguments: str) -> Ended:
    """Start a member that cannot start, and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(START_S):
            told, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        told, _ = await process.communicate()
        pytest.fail(f"it goes on: {told.decode()[-500:]}")
    return Ended(process.returncode or 0, told.decode().splitlines())


@contextlib.asynccontextmanager
async def started(cluster: Cluster, *arguments: str) -> AsyncIterator[None]:
    """Run the member `m`, from when it is ready and seen to the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *arguments, "--log-format", "json", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_S):
            while b'"ready"' not in (line := await process.stderr.readline()):
                assert line, "it ended"
        await cluster.until_seen("m")
        yield
    finally:
        process.kill()
        await process.communicate()


def assert_one_line(found: Ended, *parts: str) -> None:
    """Check that the end is told in one line which has these parts."""
    assert (found.code, len(found.lines)) == (1, 1), found
    for part in parts:
        assert part in found.lines[0]


@pytest.mark.parametrize("role", ROLES)
async def test_a_taken_name_is_refused(cluster: Cluster, role: str) -> None:
    """With the address of the one that has it, which stays."""
    async with started(cluster, *command(cluster, role)):
        (before,) = (await cluster.client.list(members_prefix(cluster.name))).entries
        found = await ended(*command(cluster, role, "--data", str(cluster.folder / "another")))
        (after,) = (await cluster.client.list(members_prefix(cluster.name))).entries
    assert_one_line(found, f"{role} 'm' is in the cluster already, at 127.0.0.1:")
    assert (before.created, before.value) == (after.created, after.value)


@pytest.mark.parametrize("role", ROLES)
async def test_an_unknown_cluster_is_told_with_those_that_there_are(cluster: Cluster, role: str) -> None:
    """A typo makes no second cluster."""
    found = await ended(*command(cluster, role, "--cluster", "typo"))
    assert_one_line(found, "etcd has no cluster 'typo'; it has: ", cluster.name)


@pytest.mark.parametrize("role", ROLES)
async def test_the_folder_of_another_cluster_is_refused(cluster: Cluster, role: str) -> None:
    """And stays as it is."""
    folder = cluster.folder / f"data-{role}"
    folder.mkdir()
    (folder / "cluster").write_text("0123456789abcdef")
    found = await ended(*command(cluster, role))
    assert_one_line(found, f"cluster '{cluster.name}' in etcd is ", "the data folder belongs to 01234567")
    assert (folder / "cluster").read_text() == "0123456789abcdef"


@pytest.mark.parametrize("etcd", ["127.0.0.1:{port}", "nowhere.invalid"], ids=["nobody listens", "no such host"])
async def test_an_etcd_that_is_not_there_is_named(cluster: Cluster, etcd: str) -> None:
    """After the time for a call, with the reason of the last attempt."""
    (port,) = free_ports(1)
    where = etcd.format(port=port)
    found = await asyncio.gather(*(ended(*command(cluster, role, "--etcd", where)) for role in ROLES))
    for each in found:
        assert_one_line(each, f"etcd ({where}", "did not answer within 10 s: ")


async def test_credentials_that_etcd_refuses_are_told(tmp_path: Path) -> None:
    """A wrong password, none where one is needed, and a user without the right to our keys."""
    async with etcd_cluster(tmp_path / "etcd") as etcd, emptied_client(etcd.settings()) as client:
        await _enable_users(client)
        cluster = Cluster(etcd, client, tmp_path, "default", contextlib.AsyncExitStack())
        password = tmp_path / "password"
        password.write_text("guess")
        given = ("--etcd-password-file", str(password))
        wrong = await asyncio.gather(
            ended(*command(cluster, "router", "--etcd-user", "root", *given)),
            ended(*command(cluster, "gateway")),
        )
        password.write_text("secret")
        powerless = await ended(*command(cluster, "executor", "--etcd-user", "guest", *given))
    for found, reason in ((wrong[0], "password"), (wrong[1], "user name is empty"), (powerless, "permission denied")):
        assert_one_line(found, "etcd refuses us", reason)
        assert "guess" not in found.lines[0]
        assert "secret" not in found.lines[0]


async def _enable_users(client: EtcdClient) -> None:
    auth = client.connection.endpoint.auth
    for name in ("root", "guest"):
        await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name=name, password="secret"))  # noqa: S106 - not a secret
    await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="root"))
    await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    await auth.AuthEnable(rpc_pb2.AuthEnableRequest())


@pytest.mark.parametrize(
    ("role", "options", "parts"),
    [
        ("router", ("--etcd", ""), ("--etcd (BETTONG_ETCD) is missing",)),
        ("router", ("--name", "Not A Name"), ("member name 'Not A Name'",)),
        ("router", ("--cluster", "a/b"), ("cluster name 'a/b'",)),
        ("router", ("--advertise", "here:x"), ("--advertise", "'here:x' is no address")),
        ("router", ("--etcd-user", "nobody"), ("--etcd-user", "--etcd-password-file")),
        ("executor", ("--blobs", "ftp://x"), ("--blobs", "'ftp://x' is unknown; expected file:///folder or s3://")),
        ("executor", ("--blobs", "file://x"), ("--blobs", "file://x")),
        ("executor", ("--blobs", ""), ("--blobs (BETTONG_BLOBS) is missing",)),
        ("gateway", ("--data", f"{NOWHERE}/x"), (NOWHERE,)),
        ("executor", ("--cache", f"{NOWHERE}/x", "--data", f"{NOWHERE}/y"), (NOWHERE,)),
    ],
)
async def test_settings_that_cannot_work_are_named(
    cluster: Cluster, role: str, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """By flag and variable, with what is expected, before anything is asked of etcd."""
    found = await ended(*command(cluster, role, *options))
    assert_one_line(found, *parts)
    assert (await cluster.client.list(members_prefix(cluster.name))).entries == ()


async def test_an_executor_that_cannot_reach_the_blobs_says_so(cluster: Cluster) -> None:
    """The deployment names the executor, the store and the reason; the executor stays a member."""
    gateway = await cluster.gateway("g1")
    async with (
        sdk(gateway) as client,
        started(cluster, *command(cluster, "executor", "--blobs", f"file://{NOWHERE}")),
    ):
        pipeline = await asyncio.to_thread(uploaded, client, "p")
        with pytest.raises(bettong.NotReadyError, match=f"m: .*file://{NOWHERE}") as caught:
            await asyncio.to_thread(pipeline.deploy)
        assert "\n" not in str(caught.value)
        (replica,) = (await deployments(client))["p"].replicas
        assert (replica.member, replica.state) == ("m", "Failed")
        assert {each.name for each in (await asyncio.to_thread(client.members)).members} == {"g1", "m"}


async def test_a_gateway_that_cannot_reach_the_blobs_refuses_uploads(cluster: Cluster) -> None:
    """With the store and the reason; nothing of the model is left."""
    blobs = cluster.folder / "blobs"
    blobs.write_text("a file where the folder should be")
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client:
        with pytest.raises(bettong.BettongError, match=f"file://{blobs}") as caught:
            await asyncio.to_thread(uploaded, client, "p")
        assert "\n" not in str(caught.value)
        assert await asyncio.to_thread(client.list_models) == []
        blobs.unlink()
        await asyncio.to_thread(uploaded, client, "p")


@pytest.mark.parametrize(
    ("ask", "short"),
    [
        pytest.param({"replica_count": 3}, "3 replicas.*1 executor", id="more replicas than executors"),
        pytest.param({"cpus": 64}, "64 CPUs", id="more lanes"),
        pytest.param({"memory": "100Ti"}, "100 TiB", id="more memory"),
    ],
)
async def test_a_deployment_that_asks_for_too_much_says_what_is_short(
    cluster: Cluster, ask: dict[str, object], short: str
) -> None:
    """In its reason and in the status of the pipeline; what was deployed before is not harmed."""
    gateway = await cluster.gateway("g1")
    async with sdk(gateway) as client, started(cluster, *command(cluster, "executor")):
        small = await asyncio.to_thread(uploaded, client, "small")
        await asyncio.to_thread(small.deploy)
        builder = bettong.DeploymentConfigBuilder()
        for name, value in ask.items():
            getattr(builder, name)(value)
        pipeline = await asyncio.to_thread(uploaded, client, "large")
        with contextlib.suppress(bettong.NotReadyError):
            await asyncio.to_thread(pipeline.deploy, builder.build())

        async def is_told() -> bool:
            return re.search(short, (await deployments(client))["large"].reason) is not None

        await until(is_told)
        (told,) = (await asyncio.to_thread(pipeline.status))["details"]
        assert re.search(short, told)
        assert (await deployments(client))["small"].state == "Running"
        rows = await asyncio.to_thread(small.infer, [{"x": [1.0, 2.0, 3.0, 4.0]}])
        assert rows[0]["out.y"] == [10.0]
