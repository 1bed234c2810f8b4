"""etcd behind TLS with client certificates."""

from pathlib import Path

import pytest
from fakes.certificates import Certificates, certificates
from fakes.etcd import etcd_processes, until_ready

from bettong_kit.errors import CoordinationLostError
from bettong_kit.etcd.client import EtcdClient


def _shown(own: Certificates) -> dict[str, Path]:
    return {"cert_file": own.cert, "key_file": own.key}


@pytest.mark.slow
async def test_both_sides_show_certificates(tmp_path: Path) -> None:
    """Ours lets us in; none and one of another authority do not, and neither do we talk to a server without a known one."""
    ours, theirs = certificates(tmp_path, "ours"), certificates(tmp_path, "theirs")
    flags = [f"--cert-file={ours.cert}", f"--key-file={ours.key}", "--client-cert-auth", f"--trusted-ca-file={ours.ca}"]
    with etcd_processes(tmp_path / "etcd", flags=flags) as cluster:
        good = cluster.settings(ca_file=ours.ca, server_name="etcd.local", **_shown(ours))
        await until_ready(good)
        short = {"server_name": "etcd.local", "call_timeout_s": 1.0}
        for settings in (
            cluster.settings(ca_file=ours.ca, **short),
            cluster.settings(ca_file=ours.ca, **short, **_shown(theirs)),
            cluster.settings(ca_file=theirs.ca, **short, **_shown(ours)),
            cluster.settings(call_timeout_s=1.0),
        ):
            client = EtcdClient(settings)
            with pytest.raises(CoordinationLostError):
                await client.put("a", b"")
            await client.close()
        client = EtcdClient(good)
        await client.put("a", b"1")
        await client.close()
