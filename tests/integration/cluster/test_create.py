"""`bettong cluster create` with a real etcd: the shortest way through everything that says how etcd is reached."""

import asyncio
from pathlib import Path

import pytest
from fakes.certificates import Certificates, certificates
from fakes.etcd import etcd_processes, until_ready

from bettong._cli import main

pytestmark = pytest.mark.slow


def test_a_cluster_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Making it again finds the same; a name that breaks the rule is one line."""
    with etcd_processes(tmp_path / "etcd") as etcd:
        asyncio.run(until_ready(etcd.settings()))
        endpoint = etcd.servers[0].endpoint
        for _ in range(2):
            assert main(["cluster", "create", "payments", "--etcd", endpoint]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == second
        assert first.startswith("cluster payments is ")
        assert main(["cluster", "create", "Pay ments", "--etcd", endpoint]) == 1
    assert "cluster name 'Pay ments' must have" in capsys.readouterr().err


def _flags(shown: Certificates, *, ca: Path) -> list[str]:
    files = ["--etcd-ca", str(ca), "--etcd-cert", str(shown.cert), "--etcd-key", str(shown.key)]
    return [*files, "--etcd-server-name", "etcd.local"]


def test_certificates_are_given_by_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours let us in; an expired one is refused before anybody is asked, by its flag, on one line."""
    ours, expired = certificates(tmp_path, "ours"), certificates(tmp_path, "expired", days=-1)
    flags = [f"--cert-file={ours.cert}", f"--key-file={ours.key}", "--client-cert-auth", f"--trusted-ca-file={ours.ca}"]
    with etcd_processes(tmp_path / "etcd", flags=flags) as etcd:
        create = ["cluster", "create", "payments", "--etcd", f"https://{etcd.servers[0].endpoint}"]
        assert main([*create, *_flags(ours, ca=ours.ca)]) == 0
        assert main([*create, *_flags(expired, ca=ours.ca)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(
            "bettong: --etcd-cert (BETTONG_ETCD_CERT), --etcd-key (BETTONG_ETCD_KEY): the certificate"
        )
        assert "expired" in error
        assert error.count("\n") == 1
