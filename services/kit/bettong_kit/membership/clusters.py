"""Which cluster a process belongs to: made once by name, found by name, and never mistaken for another."""

import uuid

from bettong_kit.errors import CoordinationRefusedError
from bettong_kit.etcd.client import ABSENT, EtcdClient, Guarded
from bettong_kit.membership.members import ROOT, cluster_root

_NAMES = f"{ROOT}-clusters/"
"""Apart from the clusters' own keys, so that the names can be listed without those."""


async def create_cluster(client: EtcdClient, name: str) -> str:
    """Make a cluster, or find that it is there; return its identity.

    Raises:
        ConfigError: The name does not follow the rule.
        CoordinationLostError: etcd does not answer.
    """
    cluster_root(name)
    key, identity = _NAMES + name, uuid.uuid4().hex
    outcome = await client.commit(Guarded(guards={key: ABSENT}, puts={key: identity.encode()}, reads=[key]))
    return identity if outcome.applied else outcome.found[key].value.decode()


async def find_cluster(client: EtcdClient, name: str, *, expected: str = "") -> str:
    """Return the identity of a cluster that must be there.

    Args:
        client: Whose etcd to look in.
        name: What the cluster is called.
        expected: Identity that a data folder was written under; empty for none.

    Raises:
        CoordinationRefusedError: There is no cluster of that name, or it is another one.
        CoordinationLostError: etcd does not answer.
    """
    cluster_root(name)
    found = await client.get(_NAMES + name)
    if found is None:
        known = ", ".join(entry.key.removeprefix(_NAMES) for entry in (await client.list(_NAMES)).entries)
        raise CoordinationRefusedError(f"etcd has no cluster '{name}'; it has: {known or 'none'}")
    identity = found.value.decode()
    if expected and expected != identity:
        raise CoordinationRefusedError(
            f"cluster '{name}' in etcd is {identity[:8]}, but the data folder belongs to {expected[:8]}: "
            "another etcd, or another cluster of the same name"
        )
    return identity
