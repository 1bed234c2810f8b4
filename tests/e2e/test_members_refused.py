"""What somebody sees whose member is not let into its cluster."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.certificates import Certificates, certificates
from fakes.etcd import EtcdCluster, etcd_cluster, etcd_processes, until_ready

from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.pb import rpc_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def started(folder: Path, etcd: EtcdCluster, *flags: str) -> asyncio.subprocess.Process:
    """Start a router with a data folder of its own."""
    command = [sys.executable, "-m", "bettong", "router", "--etcd", etcd.servers[0].endpoint, *flags]
    command += ["--port", "0", "--metrics-port", "0", "--data", tempfile.mkdtemp(dir=folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)


async def refused(folder: Path, etcd: EtcdCluster, *flags: str) -> str:
    """Start a router that cannot start, and return the one line that it says."""
    process = await started(folder, etcd, *flags)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (1, b"")
    assert err.decode().count("\n") == 1, err.decode()
    return err.decode()


async def test_certificates_that_are_not_accepted_are_named(tmp_path: Path) -> None:
    """Expired, of another authority, for another name, missing: one line each, with the setting to look at."""
    good, old, other = (
        certificates(tmp_path, name, days=-1 if name == "old" else 2) for name in ("good", "old", "other")
    )
    proves = ["--client-cert-auth", f"--trusted-ca-file={good.ca}"]
    with (
        etcd_processes(tmp_path / "old", flags=shown(old)) as expired,
        etcd_processes(tmp_path / "good", flags=shown(good)) as tls,
        etcd_processes(tmp_path / "proves", flags=[*shown(good), *proves]) as strict,
        etcd_processes(tmp_path / "plain") as plain,
    ):
        named = ("--etcd-server-name", "etcd.local")
        said = await asyncio.gather(
            refused(tmp_path, expired, "--etcd-ca", str(old.ca), *named),
            refused(tmp_path, tls, "--etcd-ca", str(other.ca), *named),
            refused(tmp_path, tls, "--etcd-ca", str(good.ca)),
            refused(tmp_path, strict, "--etcd-ca", str(good.ca), *named),
            refused(tmp_path, tls),
            refused(tmp_path, plain, "--etcd-ca", str(good.ca), *named),
            refused(tmp_path, tls, "--etcd-ca", str(good.ca), "--etcd-cert", str(old.cert), "--etcd-key", str(old.key)),
        )
    wanted = (
        "certificate is not accepted: certificate has expired (etcd_ca)",
        "certificate is not accepted: unable to get local issuer certificate (etcd_ca)",
        "certificate is for another name than its address (etcd_server_name)",
        "does not accept our certificate, or wants one (etcd_cert)",
        "does it want TLS? (etcd_ca)",
        "does etcd speak TLS? (etcd_ca)",
        f"the certificate {old.cert} expired ",
    )
    for reason, line in zip(wanted, said, strict=True):
        assert line.startswith("bettong: ")
        assert reason in line


def shown(own: Certificates) -> list[str]:
    return [f"--cert-file={own.cert}", f"--key-file={own.key}"]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    """Run an etcd that wants a password."""
    with etcd_processes(tmp_path / "etcd") as etcd:
        await until_ready(etcd.settings())
        client = EtcdClient(etcd.settings())
        auth = client.connection.endpoint.auth
        await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="right"))  # noqa: S106 - of a test
        await auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="root"))
        await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
        await auth.AuthEnable(rpc_pb2.AuthEnableRequest())
        await client.close()
        yield etcd


async def test_credentials_that_are_wrong_are_named(tmp_path: Path, guarded: EtcdCluster) -> None:
    """At once, in one line: a wrong password, and none."""
    password = tmp_path / "password"
    password.write_text("wrong")
    wrong, none = await asyncio.gather(
        refused(tmp_path, guarded, "--etcd-user", "root", "--etcd-password-file", str(password)),
        refused(tmp_path, guarded),
    )
    assert "bettong: etcd refuses us: " in wrong
    assert "authentication failed" in wrong
    assert "bettong: etcd refuses us: " in none
    assert "user name is empty" in none


async def test_a_second_member_of_a_host_needs_a_name(tmp_path: Path) -> None:
    """Both have the host's unless they are given one; the second says where the first is and what to do, and starts with a name."""
    async with etcd_cluster(tmp_path / "etcd") as etcd:
        first = await started(tmp_path, etcd)
        try:
            await until_ready_is_said(first)
            said = await refused(tmp_path, etcd)
            assert "is in the cluster already, at 127.0.0.1:" in said
            assert "give this one a name of its own (--name; else it has the host's)" in said
            second = await started(tmp_path, etcd, "--name", "another")
            await until_ready_is_said(second)
            await ended(second)
        finally:
            await ended(first)


async def until_ready_is_said(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"ready" not in (line := await process.stderr.readline()):
            assert line, "it ended"


async def ended(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await asyncio.wait_for(process.communicate(), 30)
