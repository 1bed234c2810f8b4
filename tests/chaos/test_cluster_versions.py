"""Members of two versions in one cluster: one after the other is replaced under load, forth and back, and nothing is lost.

The other one is a commit of the past, which is frozen in `other_version.py`, or what `BETTONG_OTHER` names: a checkout that was set up.
`BETTONG_SEED` repeats a run.
"""
# ruff: noqa: S311 - a seed decides what happens

import asyncio
import random
from pathlib import Path

import onnx_files
import pytest
from clusters import Role, TestedCluster, cluster
from detector import MODEL, Detector, Right
from other_version import other_version
from runs import LEAST_OPERATIONS, report, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

FACTORS = {str(version): float(version) for version in range(1, 100)}
UPGRADE = ("executor", "router", "gateway")
"""The order of the operator's guide, in which nobody is asked for what it does not know yet."""
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def other() -> Path:
    """Where the other version is."""
    return other_version()


def of_version_in(root: Path, command: list[str]) -> list[str]:
    """Return how a member of the version in a folder is started."""
    packages = [root / "sdk", *sorted((root / "services").iterdir()), root / "engine/python"]
    path = ":".join(str(package) for package in packages if package.is_dir())
    return ["env", f"PYTHONPATH={path}", *command]


def is_of_version_in(root: Path, member: Role) -> bool:
    """Look whether a process has mapped the engine of the version in a folder."""
    return str(root) in Path(f"/proc/{member.pid}/maps").read_text()


async def replace(tested: TestedCluster, member: Role, command: list[str]) -> None:
    """Stop a member, and start it with another version under the same name, which must be there before the next one goes."""
    assert await member.stop() == 0
    member.command = command
    await tested.restart(member)
    await tested.until(lambda: tested.ready(MODEL) == 2, within_s=WITHIN_S)


async def test_a_rolling_upgrade_and_the_way_back_cost_no_request(tmp_path: Path, other: Path) -> None:
    """Each member is replaced, a version deployed and a member killed in every mix of the two."""
    number, changes, version = seed(), 0, 1
    choose = random.Random(number)
    async with cluster(tmp_path / "c", gateways=2, routers=2, executors=2) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(version), replicas=2)
        ours = {member.name: member.command for member in tested.members.values()}
        # Clients go to another gateway when theirs ends, with what it had not answered.
        detector = Detector(tested.gateways, client_retries=True, pause_s=0.004, right=Right(FACTORS))
        async with detector.running() as found:
            for back in (False, True):
                for role in UPGRADE if back else reversed(UPGRADE):
                    for member in tested.of_role(role):
                        command = ours[member.name]
                        await replace(tested, member, command if back else of_version_in(other, command))
                        assert is_of_version_in(other, member) is not back
                        await detector.until_answered(100, within_s=WITHIN_S)
                    version += 1
                    await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(version), replicas=2)
                    victim = choose.choice([*tested.of_role("router"), *tested.of_role("executor")])
                    await victim.kill()
                    await detector.until_answered(100, within_s=WITHIN_S)
                    await tested.restart(victim)
                    await tested.until(lambda: tested.ready(MODEL) == 2, within_s=WITHIN_S)
                    changes += 4
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
    report("two versions", number, changes, found)
    assert found.failed == []
    assert found.wrong == []
    assert set(found.versions) == {str(each) for each in range(1, version + 1)}
