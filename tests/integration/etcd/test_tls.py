"""etcd behind TLS with client certificates."""

import shutil
import subprocess
from pathlib import Path

import pytest
from fakes.etcd import etcd_processes, until_ready

from bettong_kit.errors import CoordinationLostError
from bettong_kit.etcd.client import EtcdClient

SUBJECT = "subjectAltName=DNS:etcd.local"


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    command = ["openssl", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def authority(folder: Path, name: str) -> Path:
    """Make an authority and a certificate by it for server and client; return its own certificate."""
    ca, key = folder / f"{name}-ca.crt", folder / f"{name}-ca.key"
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
    _openssl(*new, "-x509", "-days", "2", "-keyout", str(key), "-out", str(ca))
    request = folder / f"{name}.csr"
    _openssl(*new, "-keyout", str(folder / f"{name}.key"), "-out", str(request))
    extensions = folder / "extensions"
    extensions.write_text(SUBJECT)
    by = ("-CA", str(ca), "-CAkey", str(key), "-CAcreateserial", "-days", "2", "-extfile", str(extensions))
    _openssl("x509", "-req", "-in", str(request), *by, "-out", str(folder / f"{name}.crt"))
    return ca


@pytest.mark.slow
async def test_both_sides_show_certificates(tmp_path: Path) -> None:
    """Ours lets us in; none and one of another authority do not, and neither do we talk to a server without a known one."""
    ours, theirs = authority(tmp_path, "ours"), authority(tmp_path, "theirs")
    own = {"cert_file": tmp_path / "ours.crt", "key_file": tmp_path / "ours.key"}
    flags = [f"--cert-file={own['cert_file']}", f"--key-file={own['key_file']}"]
    flags += ["--client-cert-auth", f"--trusted-ca-file={ours}"]
    with etcd_processes(tmp_path / "etcd", flags=flags) as cluster:
        good = cluster.settings(ca_file=ours, server_name="etcd.local", **own)
        await until_ready(good)
        foreign = {"cert_file": tmp_path / "theirs.crt", "key_file": tmp_path / "theirs.key"}
        short = {"server_name": "etcd.local", "call_timeout_s": 1.0}
        for settings in (
            cluster.settings(ca_file=ours, **short),
            cluster.settings(ca_file=ours, **short, **foreign),
            cluster.settings(ca_file=theirs, **short, **own),
            cluster.settings(call_timeout_s=1.0),
        ):
            client = EtcdClient(settings)
            with pytest.raises(CoordinationLostError):
                await client.put("a", b"")
            await client.close()
        client = EtcdClient(good)
        await client.put("a", b"1")
        await client.close()
