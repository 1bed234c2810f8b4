"""`bettong cluster create` with a real etcd."""

from pathlib import Path

import pytest
from fakes.etcd import etcd_processes, until_ready

from bettong._cli import main


@pytest.mark.slow
def test_a_cluster_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Making it again finds the same; a name that breaks the rule and an etcd that is away are one line."""
    import asyncio

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
