"""What a member says about itself, as a value and as the JSON that is kept under its key."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from bettong_kit.errors import ConfigError, CorruptDataError
from bettong_kit.etcd.client import KeyValue

ROOT = "/bettong"
_FORMAT = 1
"""Raised when older processes could not understand what is written; fields that they do not know they ignore."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Member:
    """One process of the cluster."""

    role: str
    name: str
    """Unique among those of its role."""
    address: str
    """Where the others reach it."""
    version: str
    control_address: str = field(default="", kw_only=True)
    """Where its control plane is, for those that have one."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """What it can take, in units that its role defines, such as `lanes` and `memory_bytes`."""
    draining: bool = False
    """It finishes what it has and takes nothing new."""
    started: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this process from another one that had its name."""
    epoch: int = 0
    """Revision at which it joined: higher than that of every process that had its name before. Not written, but given."""

    def __post_init__(self) -> None:
        """Check what becomes part of a key.

        Raises:
            ConfigError: A name does not follow the rule.
        """
        check_name("role", self.role)
        check_name("member", self.name)


def check_name(what: str, name: str) -> None:
    """Refuse what could not be one part of a key.

    Raises:
        ConfigError: The name does not follow the rule.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what} name '{name}' must have 1 to 63 of a-z, 0-9, '.', '_', '-', and begin and end with a-z or 0-9"
        )


def cluster_root(cluster: str) -> str:
    """Return what all keys of a cluster begin with.

    Raises:
        ConfigError: The name does not follow the rule.
    """
    check_name("cluster", cluster)
    return f"{ROOT}/{cluster}"


def members_prefix(cluster: str) -> str:
    """Return what the keys of all members begin with."""
    return f"{cluster_root(cluster)}/members/"


def member_key(cluster: str, member: Member) -> str:
    """Return the key of a member."""
    return f"{members_prefix(cluster)}{member.role}/{member.name}"


def to_json(member: Member) -> bytes:
    """Write what a member says about itself."""
    fields = {name: getattr(member, name) for name in ("address", "control_address", "version", "draining", "started")}
    document = {"format": _FORMAT, **fields, "capacity": dict(member.capacity)}
    return json.dumps(document, sort_keys=True).encode()


def from_entry(entry: KeyValue) -> Member:
    """Read a member from its key.

    Raises:
        CorruptDataError: It is not one, or a newer format.
    """
    *_, role, name = entry.key.split("/")
    try:
        document = json.loads(entry.value)
        if document["format"] != _FORMAT:
            raise CorruptDataError(
                f"member {role}/{name} has format {document['format']}, this version reads {_FORMAT}"
            )
        return Member(
            role=role,
            name=name,
            address=str(document["address"]),
            version=str(document["version"]),
            control_address=str(document.get("control_address", "")),
            capacity={str(key): int(value) for key, value in document["capacity"].items()},
            draining=bool(document["draining"]),
            started=str(document["started"]),
            epoch=entry.created,
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CorruptDataError(f"the entry of member {role}/{name} cannot be read: {error!r}") from error
