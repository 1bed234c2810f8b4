"""Members that prove themselves to each other: links by certificates, and nobody else's."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from fakes.certificates import Certificates, certificates
from fakes.etcd import etcd_processes, until_ready
from onnx_files import tagged
from servers import Server, spawn

import bettong

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def settings_of(proof: Certificates) -> dict[str, str]:
    return {
        "BETTONG_LINK_CA": str(proof.ca),
        "BETTONG_LINK_CERT": str(proof.cert),
        "BETTONG_LINK_KEY": str(proof.key),
    }


async def test_only_members_with_a_certificate_are_linked(tmp_path: Path) -> None:
    """A chain whose members prove themselves answers; a gateway with another authority's certificate, or none, gets nothing."""
    ours = certificates(tmp_path, "ours", names="DNS:localhost,IP:127.0.0.1")
    others = certificates(tmp_path, "others", names="DNS:localhost,IP:127.0.0.1")
    with etcd_processes(tmp_path / "etcd") as etcd:
        await until_ready(etcd.settings())
        shared = {"BETTONG_ETCD": etcd.servers[0].endpoint, "BETTONG_BLOBS": f"file://{tmp_path / 'blobs'}"}
        behind = "false"
        members = {
            "executor": spawn(tmp_path / "e", shared | settings_of(ours), module="bettong_executor"),
            "router": spawn(tmp_path / "r", shared | settings_of(ours), module="bettong_router"),
            "ours": spawn(
                tmp_path / "g1", shared | settings_of(ours) | {"BETTONG_NAME": "g1", "BETTONG_ROUTER_INSIDE": behind}
            ),
            "others": spawn(tmp_path / "g2", shared | settings_of(others) | {"BETTONG_NAME": "g2"}),
            "none": spawn(tmp_path / "g3", shared | {"BETTONG_NAME": "g3"}),
        }
        try:
            for member in members.values():
                member.data = str(member.until("ready")["data"])
            await asyncio.to_thread(until_seen, members["ours"], {"executor", "router"})
            members["ours"].deploy("tagged", tagged(), tmp_path)
            assert ask(members["ours"]) == [[7, 0]]
            for stranger in ("others", "none"):
                with pytest.raises(bettong.BettongError, match="not available|deadline|no answer within 3 s"):
                    ask(members[stranger])
            assert answer_in_clear(members["executor"]) == ""
        finally:
            for member in members.values():
                member.forget()


def until_seen(gateway: Server, roles: set[str]) -> None:
    """Wait until a gateway sees members of these roles, which started beside it."""
    with gateway.client() as client:
        while not roles <= {member.role for member in client.members().members}:
            pass


def ask(gateway: Server) -> list[object]:
    with bettong.Client(gateway.url) as client:
        rows = [{"tag": [7, 0], "x": [1.0, 2.0, 3.0]}]
        reply = client.get_pipeline("tagged").infer(rows, dataset=["out.echo"], timeout=3)
    return [row["out.echo"] for row in reply]


def answer_in_clear(executor: Server) -> str:
    """Ask the port of links without TLS, as a stranger does."""
    command = ["curl", "--silent", "--max-time", "3", f"http://{executor.data}/v2/health/live"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
